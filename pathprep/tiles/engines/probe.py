"""Tries every card on a small block, in a process of its own: `python -m pathprep.tiles.engines.probe CARDS`.

The process that starts the workers must not initialise CUDA itself: a forked child cannot use it. What is
compiled here stays in CuPy's cache, so that the workers do not all compile at once.

Prints JSON: ``cards``, how many there are, or ``error``, what is wrong and what to do.
"""

import importlib.util
import json
import sys
from typing import Any

import numpy as np

from pathprep import stain
from pathprep.errors import DeviceError
from pathprep.params.stain import StainParams

INSTALL = "install with the extra cuda13 or cuda12, after your driver (nvidia-smi names its CUDA version)"


def probe(most: int | None) -> dict[str, Any]:
    """Try the cards that this process sees, ``most`` of them at most."""
    for module, name in (("cupy", "CuPy"), ("nvidia.nvimgcodec", "nvImageCodec")):
        try:
            missing = importlib.util.find_spec(module) is None
        except ModuleNotFoundError:  # of the package that it should be in
            missing = True
        if missing:
            return {"error": f"{name} is not installed: {INSTALL}"}
    import cupy

    from pathprep.tiles.engines.cuda import Card, CudaEngine

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return {"error": f"no NVIDIA GPU can be used ({error}): see nvidia-smi, or leave `gpus` out"}
    for number in range(count if most is None else min(most, count)):
        try:
            with cupy.cuda.Device(number):
                try_out(CudaEngine(Card()))
        except (DeviceError, RuntimeError, ImportError) as error:
            return {"error": f"GPU {number} cannot be used ({error}): see nvidia-smi, or leave `gpus` out"}
    return {"cards": count}


def try_out(engine: Any) -> list[bytes]:
    """Every step once, on a small block: the JPEGs of its tiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with engine.block():
        for side, stored in ((64, 64), (64, 32), (60, 40)):  # a kernel each
            tiles, _ = engine.cut(pixels, np.zeros((2, 2), np.int32), side, stored)
        tiles = engine.select(tiles, np.array([True, False]))
        fits = engine.fit(tiles, StainParams())
        matrices = stain.matrix(fits, stain.Target.default())
        found: list[bytes] = engine.encode(engine.apply(tiles, matrices, stain.IO), 90, "420")
    return found


if __name__ == "__main__":
    print(json.dumps(probe(int(sys.argv[1]) if len(sys.argv) > 1 else None)))

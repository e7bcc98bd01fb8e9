"""How fast this machine's cores, and its first card, encode tiles.

nvJPEG encodes small images one after another (CUDALibrarySamples, issue 105: 1 ms for 64 px on a T4, where a
core takes 0.2 ms), and a server's cores may be many. So it is measured, in a process of its own, since the
one that starts the workers must not initialise CUDA itself:

    python -m pathprep.tiles.engines.encoders SIDE QUALITY SUBSAMPLING

prints JSON: ``cpu`` and ``gpu``, tiles/s.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pathprep.images import jpeg
from pathprep.slides.readers.base import Pixels
from pathprep.tiles.engines.base import Engine

LANES = 4  # blocks in work on a card at once
TILES = 64  # of a block of 2048 px


def drawn(count: int, side: int) -> Pixels:
    """Tiles as smooth as tissue, (count, side, side, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(90, 250, (count, side // 16 + 1, side // 16 + 1, 3)).astype(np.float32)
    fine = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :side, :side]
    return np.clip(fine + rng.normal(0, 4, fine.shape), 0, 255).astype(np.uint8)


def rates(
    engine: Engine | None, side: int, quality: int, subsampling: str, rounds: int = 2
) -> dict[str, float | None]:
    """Tiles/s of all cores (``cpu``) and of the card of an engine (``gpu``; None without one).

    A card is given work as a run gives it: from as many threads as there are blocks in work, tiles that lie
    there.
    """
    cores, tiles = len(os.sched_getaffinity(0)), drawn(TILES, side)
    with ThreadPoolExecutor(cores) as pool:

        def on_cores() -> None:
            list(pool.map(lambda tile: jpeg.encode(tile, quality, subsampling), list(tiles) * cores))

        cpu = TILES * cores * rounds / _seconds(on_cores, rounds)
    if engine is None:
        return {"cpu": cpu, "gpu": None}
    block, origins = tiles.reshape(1, TILES * side, side, 3)[0], np.zeros((TILES, 2), np.int32)
    origins[:, 1] = side * np.arange(TILES)

    def lane(_number: int) -> None:
        with engine.block():
            cut, _ = engine.cut(block, origins, side, side)
            engine.encode(cut, quality, subsampling)

    with ThreadPoolExecutor(LANES) as pool:
        seconds = _seconds(lambda: list(pool.map(lane, range(LANES))), rounds)
    return {"cpu": cpu, "gpu": TILES * LANES * rounds / seconds}


def _seconds(work: Callable[[], Any], rounds: int) -> float:
    work()  # starts threads, makes encoders, compiles
    start = time.perf_counter()
    for _ in range(rounds):
        work()
    return time.perf_counter() - start


if __name__ == "__main__":
    from pathprep.tiles import engines

    print(json.dumps(rates(engines.of("cuda"), int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))

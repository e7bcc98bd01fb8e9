"""A GPU for pathprep's CUDA engine that is none: numpy arrays stand for CuPy's, the kernels run through their
CPU build, and nvImageCodec encodes in its CPU mode."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from helpers.cuda_shim import Shim, ShimDevice
from pathprep import stain
from pathprep.kernels import cuda, macenko_cuda, tiling_cuda
from pathprep.stain import arrays, fits


class Lost(RuntimeError):
    """Stands for CuPy's errors of a card that failed."""


class Full(MemoryError):
    """Stands for CuPy's error of a card whose memory is full."""


class _Device(nullcontext[None]):
    id = 0


class OnCard(np.ndarray):
    """Stands for a CuPy array; the host may not look inside before ``ShimCard.download``."""

    device = _Device()


class _Cupy:
    """numpy, but what it makes is on the card."""

    def __getattr__(self, name: str) -> Any:
        made = getattr(np, name)
        if name not in ("empty", "zeros", "full", "arange", "asarray", "ascontiguousarray"):
            return made
        return lambda *arguments, **named: made(*arguments, **named).view(OnCard)


class _CardDevice(ShimDevice):
    """Kernels take turns, as on a stream: the CPU build's fibers know of one thread only."""

    xp = _Cupy()
    turn = Lock()

    def launch(self, *arguments: Any) -> None:
        with self.turn:
            super().launch(*arguments)


class _Stream(nullcontext[None]):
    ptr = 0

    def synchronize(self) -> None:
        pass


class ShimCard:
    """See engines.cuda.Card. ``made`` counts what was made."""

    full, lost = Full, (Lost,)

    def __init__(self) -> None:
        self.made = {"stream": 0, "upload": 0, "download": 0}

    def stream(self) -> Any:
        self.made["stream"] += 1
        return _Stream()

    def encoder(self) -> Any:
        from nvidia import nvimgcodec

        return nvimgcodec.Encoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1)

    def upload(self, array: Any) -> Any:
        assert not isinstance(array, OnCard)
        self.made["upload"] += 1
        return array.copy().view(OnCard)

    def download(self, array: Any) -> Any:
        assert isinstance(array, OnCard)
        self.made["download"] += 1
        return np.array(array)


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Build the kernels and let the launchers and pathprep.stain take ShimCard's arrays for a card's."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    sources, threads = Path(cuda.__file__).parent, 64
    cut = ["tiling_copy", "tiling_halve", "tiling_area", "tiling_figures"]
    shims = {
        "tiling.cu": Shim(sources / "tiling.cu", cut, folder),
        "macenko.cu": Shim(sources / "macenko.cu", ["macenko"], folder, {"THREADS": threads}),
        "macenko_apply.cu": Shim(sources / "macenko_apply.cu", ["macenko_apply"], folder),
    }
    patch.setattr(macenko_cuda, "THREADS", threads)
    for launcher in (tiling_cuda, macenko_cuda):
        patch.setattr(launcher, "module", lambda name: _CardDevice(shims[name]))
    for module in (stain, arrays, fits):
        patch.setattr(module, "is_cupy", lambda array: isinstance(array, OnCard))

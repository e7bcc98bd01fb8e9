"""The steps on the CPU: numba kernels and libjpeg-turbo, which release the GIL."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.images import jpeg
from pathprep.kernels import tiling_cpu
from pathprep.params.stain import StainParams
from pathprep.slides.readers.base import Pixels
from pathprep.tiles.engines import base
from pathprep.tiles.qc import Figures


class CpuEngine:
    """See base.Engine. Tiles are numpy arrays; equal pixels give equal bytes on every machine."""

    def block(self) -> AbstractContextManager[None]:
        """See Engine."""
        return nullcontext()

    def cut(
        self, pixels: Pixels, origins: npt.NDArray[np.int32], side: int, stored: int
    ) -> tuple[Pixels, Figures]:
        """See Engine."""
        return tiling_cpu.cut(pixels, origins, side, stored)

    def host(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See Engine."""
        return array

    def select(self, tiles: Pixels, which: npt.NDArray[np.bool_]) -> Pixels:
        """See Engine."""
        return tiles if which.all() else tiles[which]

    def fit(self, tiles: Pixels, settings: StainParams) -> stain.StainFit:
        """See Engine."""
        return base.fit(tiles, settings)

    def apply(self, tiles: Pixels, matrices: npt.NDArray[np.float64], io: float) -> Pixels:
        """See Engine."""
        applied: Pixels = stain.apply(tiles, matrices, io=io, threads=1)
        return applied

    def encode(self, tiles: Pixels, quality: int, subsampling: str) -> list[bytes]:
        """See Engine."""
        return [jpeg.encode(tile, quality, subsampling) for tile in tiles]

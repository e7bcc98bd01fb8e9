"""What an engine offers: the steps from a block's pixels to its encoded tiles."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.params.stain import StainParams
from pathprep.slides.readers.base import Pixels
from pathprep.tiles.qc import Figures

# (T, stored, stored, 3) uint8, an array of numpy's or of CuPy's: only the engine that made it looks inside
Tiles = Any


class Engine(Protocol):
    """The work on blocks. Called from several threads, each on a block of its own."""

    def block(self) -> AbstractContextManager[None]:
        """Entered by a thread for the time that it works on one block.

        Raises:
            DeviceError: on leaving it, if the GPU could not do the work.
        """

    def cut(
        self, pixels: Pixels, origins: npt.NDArray[np.int32], side: int, stored: int
    ) -> tuple[Tiles, Figures]:
        """Cut a block into T tiles.

        Args:
            pixels: (H, W, 3) uint8, the block.
            origins: (T, 2) x, y of each tile in it. side: of a tile there. stored: side of a cut tile.

        Returns:
            Tiles, and their quality figures (T, 6) float32.
        """

    def host(self, array: Any) -> npt.NDArray[Any]:
        """An array that was computed from tiles, in numpy."""

    def select(self, tiles: Tiles, which: npt.NDArray[np.bool_]) -> Tiles:
        """The tiles where ``which`` (T,) is true."""

    def fit(self, tiles: Tiles, settings: StainParams) -> stain.StainFit:
        """The stains of each tile, in numpy."""

    def apply(self, tiles: Tiles, matrices: npt.NDArray[np.float64], io: float) -> Tiles:
        """Multiply the optical density of each tile by its matrix, (T, 3, 3)."""

    def encode(self, tiles: Tiles, quality: int, subsampling: str) -> list[bytes]:
        """Each tile as a baseline JPEG; ``quality`` 1 to 100, ``subsampling`` 420 or 444."""


def fit(tiles: Tiles, settings: StainParams) -> stain.StainFit:
    """Fits by a run's settings, in the library of the tiles."""
    return stain.fit(
        tiles,
        keep=settings.keep,
        alpha=settings.alpha,
        beta=settings.beta,
        io=settings.io,
        threads=1,  # blocks are what runs side by side
    )

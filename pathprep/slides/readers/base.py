"""What a reader offers: levels, what states the resolution, and blocks of pixels."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pathprep.slides.mpp.header import Header

Pixels = npt.NDArray[np.uint8]


class Level(NamedTuple):
    """One level of the pyramid: size of its picture, without padding, in its own pixels, and how much smaller
    than level 0 it is."""

    width: int
    height: int
    downsample: float


class Bounds(NamedTuple):
    """The part of the slide that the scanner covered, in level-0 pixels.

    Some viewers, QuPath among them, count from its corner instead of the slide's.
    """

    x: int
    y: int
    width: int
    height: int


class Reader(Protocol):
    """An open slide file. ``read`` may be called from several threads at once.

    ``bounds``: None where the file states none, or the whole slide. ``colour``: what the samples are and who
    says so, such as ``YCbCr (JFIF marker; the TIFF tag says RGB)``. ``notes``: one a level, empty where its
    size and downsample are as declared. ``header``: what states the resolution.
    """

    name: str
    path: Path
    vendor: str
    levels: list[Level]
    colour: str
    notes: list[str]
    header: Header
    bounds: Bounds | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Pixels of a box inside one level: (height, width, 3) uint8; x, y in that level's pixels.

        Raises:
            UnreadableSlide: the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...

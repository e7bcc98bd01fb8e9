"""What a reader offers: levels, a resolution with its source, and blocks of pixels."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Level(NamedTuple):
    """One level of the pyramid: size in its own pixels and how much smaller than level 0 it is."""

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


@dataclass(frozen=True)
class Resolution:
    """Micrometres per pixel along x and y, and where the file says so."""

    x: float
    y: float
    source: str


def number(text: str | None) -> float | None:
    """A positive figure from a file's metadata; None if it is absent or no such figure."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


# micrometres
_UNITS = {"centimeter": 10_000.0, "inch": 25_400.0}


def resolution(aperio: str | None, unit: str | None, x: str | None, y: str | None) -> Resolution | None:
    """The resolution of a TIFF slide: Aperio's MPP where there is one, else the resolution tags.

    Args:
        aperio: MPP from Aperio's description.
        unit: ``centimeter`` or ``inch``; other units say nothing about length.
        x, y: pixels per unit.
    """
    mpp = number(aperio)
    if mpp is not None:
        return Resolution(mpp, mpp, "aperio.MPP")
    length, along_x, along_y = _UNITS.get(unit or ""), number(x), number(y)
    if length is None or along_x is None or along_y is None:
        return None
    return Resolution(length / along_x, length / along_y, "TIFF resolution tags")


class Reader(Protocol):
    """An open slide file. ``read`` may be called from several threads at once.

    ``bounds``: None where the file states none, or the whole slide.
    """

    name: str
    path: Path
    vendor: str
    levels: list[Level]
    resolution: Resolution | None
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

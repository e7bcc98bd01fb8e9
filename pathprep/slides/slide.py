"""One slide: its size, its resolution with provenance, its blocks of pixels, its thumbnail."""

import math
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from pathprep.errors import UnreadableSlide
from pathprep.params.shard import ReaderName
from pathprep.slides.mpp import settle
from pathprep.slides.mpp.settle import Mpp, MppRules
from pathprep.slides.mpp.statement import Statement
from pathprep.slides.readers import Level, Reader, limits, open_reader
from pathprep.slides.readers.base import Pixels
from pathprep.slides.readers.tiff import TiffReader

# An overview is read in strips of at most so many pixels (48 MB)
STRIP_PIXELS = 1 << 24


class Slide:
    """An open slide; use as a context manager. ``read`` may be called from several threads.

    ``bounds``: the part that the scanner covered, in level-0 pixels; None if that is the whole slide.
    ``colour``: what the samples are and who says so. ``notes``: one a level, where it is not as declared.
    """

    def __init__(self, path: Path, reader: ReaderName = "auto") -> None:
        self.path = path
        self._reader: Reader = open_reader(path, reader)
        limits.check_levels(path, self._reader.levels)
        self.reader = self._reader.name
        self.vendor = self._reader.vendor
        self.bounds = self._reader.bounds
        self.colour, self.notes = self._reader.colour, self._reader.notes
        self.levels: list[Level] = [
            level._replace(downsample=_snap(level.downsample)) for level in self._reader.levels
        ]
        self.width, self.height, _ = self.levels[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._reader.close()

    def mpp(self, rules: MppRules) -> Mpp:
        """Micrometres per level-0 pixel: the override, else the file's own, else the default.

        Raises:
            MppError: missing without a default, not understood, contradictory, absurd, or different along x
                and y.
        """
        return settle.settle(self.path, self.stated_mpp, rules, self._reader.header.magnification)

    @cached_property
    def stated_mpp(self) -> tuple[Statement, ...]:
        """What the file says about its resolution, in every place, the most trusted first."""
        return self._reader.header.statements()

    def reduction(self, level: int) -> int:
        """The most that ``read`` reduces a level by while it is decoded: 8, 4 or 2 of JPEG tiles, else 1."""
        return self._reader.reduction(level) if isinstance(self._reader, TiffReader) else 1

    def read(self, level: int, x: int, y: int, width: int, height: int, by: int = 1) -> Pixels:
        """Pixels of a box of one level, (height, width, 3) uint8; x, y in that level's pixels.

        Args:
            by: 1, 2, 4 or 8: the box is one of the level reduced by this much, in its pixels.

        Raises:
            UnreadableSlide: the box leaves the level or is too large, or the file is damaged there.
            ValueError: ``by`` is not one of these, or more than ``reduction``.
        """
        if by not in (1, 2, 4, 8) or by > self.reduction(level):
            raise ValueError(f"by={by}: level {level} is reduced by up to {self.reduction(level)}")
        bounds = self.levels[level]
        if x < 0 or y < 0 or (x + width) * by > bounds.width or (y + height) * by > bounds.height:
            raise UnreadableSlide(
                f"{self.path}: box {width}x{height} at {x},{y} leaves level {level} "
                f"({bounds.width}x{bounds.height})"
            )
        limits.check_block(self.path, width, height)
        if isinstance(self._reader, TiffReader):
            pixels = self._reader.read(level, x, y, width, height, by)
        else:
            pixels = self._reader.read(level, x, y, width, height)
        if pixels.shape != (height, width, 3):
            raise UnreadableSlide(f"{self.path}: reader returned {pixels.shape} for {(height, width, 3)}")
        return pixels

    def overview(self, downsample: float) -> Pixels:
        """The whole slide, smaller by about ``downsample`` along each side: (h, w, 3) uint8.

        Read from the smallest level that is large enough, in strips, each reduced by area averaging,
        so that memory does not grow with a slide that has no small levels.

        Raises:
            UnreadableSlide: the overview would be larger than any slide's, or the file is damaged.
        """
        width = max(1, round(self.width / downsample))
        height = max(1, round(self.height / downsample))
        limits.check_overview(self.path, width, height)
        fitting = [
            i for i, level in enumerate(self.levels) if level.width >= width and level.height >= height
        ]
        source = fitting[-1] if fitting else 0
        level = self.levels[source]
        rows = max(1, min(height, STRIP_PIXELS // level.width * height // level.height))
        strips = []
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            y0, y1 = top * level.height // height, math.ceil(bottom * level.height / height)
            strip = Image.fromarray(self.read(source, 0, y0, level.width, y1 - y0))
            box = (0, top * level.height / height - y0, level.width, bottom * level.height / height - y0)
            strips.append(np.asarray(strip.resize((width, bottom - top), Image.Resampling.BOX, box=box)))
        return np.concatenate(strips)


def _snap(downsample: float) -> float:
    """Levels are whole fractions; their stated downsample is off because sizes were rounded down."""
    whole = round(downsample)
    return float(whole) if abs(downsample - whole) < 0.005 * whole else downsample

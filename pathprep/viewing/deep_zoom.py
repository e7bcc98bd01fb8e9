"""A slide as the tiles of a Deep Zoom pyramid, read when they are asked for.

Level L of 0 to M is the slide reduced by 2^(M - L), its sides rounded up; level M is the slide itself. Tiles
are TILE pixels a side and have OVERLAP more on each side where another tile is: none at the picture's edge
(libvips' report 357, OpenSlide's 111). Pixels are averages over what they stand for.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide

TILE, OVERLAP = 254, 1
# A level is reduced by no more than this when tiles are read; beyond, they are cut from an overview
MOST_REDUCTION = 16
OVERVIEW = 4096  # its longer side, pixels, at most


@dataclass(frozen=True)
class DeepZoom:
    """The pyramid of a slide of ``width`` x ``height`` level-0 pixels."""

    width: int
    height: int

    @property
    def last(self) -> int:
        """Number of the largest level."""
        return math.ceil(math.log2(max(self.width, self.height)))

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level."""
        scale = 1 << (self.last - level)
        return -(-self.width // scale), -(-self.height // scale)

    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom of a tile in its level's pixels; None if there is no such tile."""
        if not 0 <= level <= self.last:
            return None
        spans = []
        for number, length in zip((column, row), self.size(level), strict=True):
            if number < 0 or number * TILE >= length:
                return None
            start = number * TILE - (OVERLAP if number else 0)
            spans.append((start, min(length, (number + 1) * TILE + OVERLAP)))
        (left, right), (top, bottom) = spans
        return left, top, right, bottom

    def descriptor(self) -> str:
        """The .dzi file."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="{OVERLAP}" '
            f'TileSize="{TILE}"><Size Width="{self.width}" Height="{self.height}"/></Image>\n'
        )


class Tiles:
    """Reads the tiles of an open slide."""

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        self.zoom = DeepZoom(slide.width, slide.height)
        self._overview: Pixels | None = None

    def read(self, level: int, column: int, row: int) -> Pixels | None:
        """Pixels of a tile, (h, w, 3) uint8; None if there is no such tile.

        Raises:
            UnreadableSlide: the file is damaged there.
        """
        box = self.zoom.box(level, column, row)
        if box is None:
            return None
        scale = 1 << (self.zoom.last - level)
        source = max(
            (n for n, one in enumerate(self.slide.levels) if one.downsample <= scale * 1.001),
            key=lambda n: self.slide.levels[n].downsample,
            default=0,
        )
        if scale > MOST_REDUCTION * self.slide.levels[source].downsample:
            return self._from_overview(box, scale)
        there = self.slide.levels[source]
        by = there.width / self.slide.width * scale, there.height / self.slide.height * scale
        left, top = math.floor(box[0] * by[0]), math.floor(box[1] * by[1])
        right, bottom = (
            min(there.width, math.ceil(box[2] * by[0])),
            min(there.height, math.ceil(box[3] * by[1])),
        )
        left, top = min(left, there.width - 1), min(top, there.height - 1)
        pixels = self.slide.read(source, left, top, right - left, bottom - top)
        return _reduced(pixels, (left, top), box, by)

    def _from_overview(self, box: tuple[int, int, int, int], scale: int) -> Pixels:
        if self._overview is None:
            longest = max(self.slide.width, self.slide.height)
            self._overview = self.slide.overview(max(1.0, longest / OVERVIEW))
        height, width, _ = self._overview.shape
        by = width / self.slide.width * scale, height / self.slide.height * scale
        return _reduced(self._overview, (0, 0), box, by)


def _reduced(
    pixels: Pixels, corner: tuple[int, int], box: tuple[int, int, int, int], by: tuple[float, float]
) -> Pixels:
    """The box in pixels of the tile's level, from those of another, ``by`` of which are one.

    The last pixel of a level may stand for less than a whole one: what lies beyond is as the edge is.
    """
    (x0, y0), (x1, y1) = (
        (box[side] * by[0] - corner[0], box[side + 1] * by[1] - corner[1]) for side in (0, 2)
    )
    size = box[2] - box[0], box[3] - box[1]
    height, width, _ = pixels.shape
    right, bottom = max(0, math.ceil(x1 - 1e-6) - width), max(0, math.ceil(y1 - 1e-6) - height)
    if right or bottom:
        pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
    if by == (1.0, 1.0):
        x, y = round(x0), round(y0)
        return np.ascontiguousarray(pixels[y : y + size[1], x : x + size[0]])
    ends = min(x1, float(pixels.shape[1])), min(y1, float(pixels.shape[0]))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX, box=(x0, y0, *ends)))

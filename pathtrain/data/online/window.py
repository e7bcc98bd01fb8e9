"""Which box of which level of a slide becomes a tile.

The level is the coarsest that is still as fine as the tile, so that nothing is enlarged that need not be. The
box lies on its whole pixels and inside it: past the edge, files are black, white or an error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pathprep.permutation import hashed, uniform
from pathprep.slides.readers.base import Level
from pathprep.surveys.account import side_of
from pathprep.surveys.record import Surveyed
from pathprep.surveys.tissue_bits import TissueBits

_PLACE = 0x706C616365  # keeps these hashes apart from others
CANDIDATES = 16  # places whose tissue is looked at before the best of them is taken
NUMBERS = 3  # that a candidate takes
BLOCK = 16  # pixels of a JPEG's block with halved colours


@dataclass(frozen=True)
class Scale:
    """How a slide gives tiles at one resolution.

    Attributes:
        level: that is read. by: how much it is reduced while it is decoded: 1, 2, 4 or 8.
        downsample: level-0 pixels per pixel of what is read then.
        side: of a tile's box, in these pixels. width, height: where boxes lie, in them.
        mpp: micrometres per pixel that the tile comes to.
    """

    level: int
    by: int
    downsample: float
    side: int
    width: int
    height: int
    mpp: float


@dataclass(frozen=True)
class Box:
    """A box of a level, in its pixels; ``tissue``: share of it, 0 to 1."""

    x: int
    y: int
    tissue: float


def scale_of(
    slide: Surveyed, mpp: float, tile: int, reduction: Callable[[int], int] = lambda level: 1
) -> Scale:
    """The level that tiles of ``tile`` pixels at ``mpp`` are read from, and the side of their box there.

    Args:
        reduction: of a level, the most that it can be reduced by while it is decoded (slides.slide.Slide).
    """
    side = side_of(slide, mpp, tile)
    chosen = 0
    for number, level in enumerate(slide.levels):
        fine = round(side / level.downsample) >= tile
        # what rounding leaves of a small level may be less than a tile that fits the slide
        fits = round(side / level.downsample) <= min(level.width, level.height)
        if fine and fits and level.downsample >= slide.levels[chosen].downsample:
            chosen = number
    level, most = slide.levels[chosen], reduction(chosen)
    for by in (8, 4, 2, 1):
        downsample, (width, height) = level.downsample * by, _extent(level, by)
        box = round(side / downsample)
        if by == 1 or (by <= most and tile <= box <= min(width, height)):
            break
    box = max(1, min(box, width, height))
    return Scale(chosen, by, downsample, box, width, height, slide.mpp * downsample * box / tile)


def of_drawn(slide: Surveyed, level: int, by: int, side: float, mpp: float) -> Scale:
    """The scale of a tile that was drawn; ``side``: level-0 pixels."""
    downsample = slide.levels[level].downsample * by
    width, height = _extent(slide.levels[level], by)
    return Scale(level, by, downsample, round(side / downsample), width, height, mpp)


def _extent(level: Level, by: int) -> tuple[int, int]:
    """Width and height of a level reduced by so much, without JPEG blocks that reach over its edge."""
    if by == 1:
        return level.width, level.height
    return level.width // BLOCK * BLOCK // by, level.height // BLOCK * BLOCK // by


def draw(slide: Surveyed, tissue: TissueBits, scale: Scale, least: float, *key: int) -> Box:
    """A random box with at least so much tissue, or the best of CANDIDATES.

    A random pixel of tissue, then a random one of the boxes that hold it and lie inside the level: over a
    slide, boxes come in proportion to their tissue.

    Args:
        least: share, 0 to 1.
        key: whole numbers; the same give the same box.
    """
    numbers = uniform(hashed(*key, _PLACE), NUMBERS * CANDIDATES).reshape(CANDIDATES, NUMBERS)
    # pixels of the level that a pixel of the mask spans
    across = slide.width / scale.downsample / tissue.width
    down = slide.height / scale.downsample / tissue.height
    best = Box(0, 0, -1.0)
    for which, u, v in numbers.tolist():
        column, row = tissue.pixel(min(int(which * tissue.count), tissue.count - 1))
        # the same numbers place the point in its pixel and the box around the point: both are uniform
        x = _origin((column + 0.5) * across, u, scale.side, scale.width)
        y = _origin((row + 0.5) * down, v, scale.side, scale.height)
        share = tissue.share(x / across, y / down, (x + scale.side) / across, (y + scale.side) / down)
        if share > best.tissue:
            best = Box(x, y, share)
        if share >= least:
            break
    return best


def _origin(point: float, number: float, side: int, length: int) -> int:
    """A box's first pixel along one axis: of those boxes that hold the point and end before ``length``."""
    low, high = max(0.0, point - side), min(point, float(length - side))
    return min(max(math.floor(low + number * (high - low)), 0), length - side)

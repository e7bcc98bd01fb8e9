"""How much smaller than level 0 each level of a pyramid is, where its declared size does not tell.

Some writers declare whole native tiles: the size of a level is then that of its picture with padding, and
the padding's share grows from level to level (CAMELYON16: 97792x221184 ... 512x1024, 512x512). Read as if
the picture filled it, such a level is stretched. The true downsample comes from the spacing that the file
states for the level, else from the one whole reduction whose picture, padded to whole tiles, has the
declared size. A level for which neither is certain is not used.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pathprep.slides.readers import limits
from pathprep.slides.readers.base import Level

# Pixels that rounding from level to level may change a side by
ROUNDING = 2
# Of a side: what is left between width and height is then read as the mean of both, as other readers do
STRETCH = 0.01
# Of a downsample: spacings are written with few digits
AGREE = 0.01
# From level to level; less is the same level again
STEP = 1.1
# From level to level, of a stated spacing
MOST = 16
TILES = "its whole native tiles"


class Declared(NamedTuple):
    """What a file says of one level.

    Attributes:
        width, height: pixels. tile_width, tile_height: of its native tiles; 0 if not known.
        spacing: of its pixels, in one unit for all levels; None if not stated.
    """

    width: int
    height: int
    tile_width: int = 0
    tile_height: int = 0
    spacing: float | None = None


class Found(NamedTuple):
    """A level that is used: its number in the file, its picture's size without padding, its true downsample,
    and a note where these are not as declared, or where further levels are not used."""

    number: int
    level: Level
    note: str


def settle(path: Path, declared: Sequence[Declared]) -> list[Found]:
    """The levels of a slide, largest first, each with its true downsample.

    Args:
        declared: largest first.

    Raises:
        UnreadableSlide: no level, or one that cannot be a reduction of the first.
    """
    limits.check_levels(path, [Level(d.width, d.height, 1.0) for d in declared], shapes=False)
    spacings = [this.spacing or 0 for this in declared]
    if not all(0 < a < b <= MOST * a for a, b in pairwise(spacings)):
        # some programs give all levels the first one's, or the resolution of a screen
        declared = [this._replace(spacing=None) for this in declared]
    first = declared[0]
    found = [Found(0, Level(first.width, first.height, 1.0), "")]
    steps: list[float] = []
    for number, this in enumerate(declared[1:], 1):
        before = found[-1].level.downsample
        downsample, source = _downsample(first, this, before, steps)
        mean = (first.width / this.width + first.height / this.height) / 2
        if downsample is None:
            if not _padded(first, this, before):
                # beyond what rounding does, it is another picture
                limits.check_levels(path, [found[0].level, Level(this.width, this.height, mean)])
            continue
        steps.append(downsample / before)
        if not source:
            found.append(Found(number, Level(this.width, this.height, mean), ""))
            continue
        width = min(this.width, max(1, int(first.width / downsample + AGREE)))
        height = min(this.height, max(1, int(first.height / downsample + AGREE)))
        note = f"padded to {this.width}x{this.height} px; 1/{downsample:g} by {source}"
        found.append(Found(number, Level(width, height, downsample), note))
    used = {each.number for each in found}
    left = [(this.width, this.height) for number, this in enumerate(declared) if number not in used]
    return noted(found, left, "their size does not tell their downsample")


def noted(found: list[Found], left: Sequence[tuple[int, int]], why: str) -> list[Found]:
    """The same levels, the last with a note that further ones are not used; ``left``: their sizes."""
    if not left:
        return found
    sizes = ", ".join(f"{width}x{height}" for width, height in left)
    note = f"further levels are not used, as {why}: {sizes} px"
    return [*found[:-1], found[-1]._replace(note="; ".join(filter(None, (found[-1].note, note))))]


def _downsample(
    first: Declared, this: Declared, before: float, steps: Sequence[float]
) -> tuple[float | None, str]:
    """The downsample and where it comes from: empty for the declared sizes themselves; None: not certain."""
    mean = (first.width / this.width + first.height / this.height) / 2
    low, high = _plain(first, this)
    plain = low <= high and mean > before * STEP
    if first.spacing and this.spacing and (stated := this.spacing / first.spacing) > before * STEP:
        if plain and low * (1 - AGREE) <= stated <= high * (1 + AGREE):
            return mean, ""
        if _holds(first, this, stated):
            whole = round(stated)
            return float(whole) if abs(stated - whole) < AGREE * stated else stated, "its spacing"
    if plain and any(low <= 1 << k <= high for k in range(1, 21)):
        return mean, ""
    padded = _padded(first, this, before)
    following = round(before * steps[-1]) if len({round(step, 1) for step in steps}) == 1 else 0
    powers = [1 << k for k in range(1, 21) if 1 << k in padded]
    if following in padded:
        return float(following), TILES
    if plain and (not powers or low <= round(mean) <= high):
        # a third, or a quarter with padding?
        return (None, "") if powers else (mean, "")
    if len(powers) == 1 or len(padded) == 1:
        return float(powers[0] if powers else padded.pop()), TILES
    if not padded and mean > before * STEP and high / low > 1 - STRETCH:
        return mean, ""
    return None, ""


def _plain(first: Declared, this: Declared) -> tuple[float, float]:
    """Least and greatest downsample whose picture has the declared size; the first is larger if none has."""
    sides = ((first.width, this.width), (first.height, this.height))
    return (
        max(whole / (side + ROUNDING) for whole, side in sides),
        min(whole / (side - ROUNDING) if side > ROUNDING else math.inf for whole, side in sides),
    )


def _holds(first: Declared, this: Declared, downsample: float) -> bool:
    """Whether the picture fits the declared size, with less padding than two native tiles."""
    sides = ((first.width, this.width, this.tile_width), (first.height, this.height, this.tile_height))
    return all(
        -ROUNDING <= side - whole / downsample < 2 * (tile or limits.MAX_TILE_SIDE)
        for whole, side, tile in sides
    )


def _padded(first: Declared, this: Declared, before: float) -> set[int]:
    """Whole downsamples whose picture, padded to whole tiles or to an even number, has the declared size."""
    found: set[int] = set()
    for tiles in (1, 2):
        low, high = int(before * STEP) + 1, first.width
        for whole, side, tile in (
            (first.width, this.width, this.tile_width * tiles),
            (first.height, this.height, this.tile_height * tiles),
        ):
            if not tile or side % tile:
                break
            low = max(low, whole // (side + 1) + 1)
            if side > tile:
                high = min(high, -(-whole // (side - tile)) - 1)
        else:
            found.update(range(low, high + 1))
    return found

"""What a slide may declare before memory is taken for it, or time spent on it.

A damaged or hostile header can claim any size. The figures are well above anything that a scanner makes
from a piece of glass, and low enough for a machine that runs a few slides at a time.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers.base import Level

# 262 mm at 0.25 micrometres a pixel; the largest slides are 200 mm long
MAX_SIDE = 1 << 20
# Native tiles are 240 to 1024 px on scanners, to 4096 in conversions; one takes 48 MB when decoded
MAX_TILE_SIDE = 4096
# A compressed tile is smaller than its pixels; so many bytes per pixel is 16-bit RGBA twice
MAX_TILE_BYTES_PER_PIXEL = 16
MAX_DIRECTORIES = 1000
# 85 square centimetres at 8 micrometres a pixel: more than the glass of four ordinary slides
MAX_OVERVIEW = 1 << 27
# A slide of 131,072 x 131,072 px in tiles of 32 px; takes about 1 GB while tissue is counted per cell
MAX_CELLS = 1 << 24
# 16,384 x 16,384 px, 0.8 GB; blocks are of 2048 x 2048 unless a single tile is larger
MAX_BLOCK = 1 << 28
# Levels are reductions of the first by one factor; rounding and padding change a side by less than this
SHAPE_TOLERANCE, SHAPE_PIXELS = 0.1, 16

DAMAGED = "the file is damaged or no slide; copy it again from its source"


def check_size(path: Path, level: int, width: int, height: int) -> None:
    """Size of one level.

    Raises:
        UnreadableSlide: it is impossible.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise UnreadableSlide(
            f"{path}: level {level} is declared as {width}x{height} px, outside 1 to {MAX_SIDE} a side; "
            f"{DAMAGED}"
        )


def check_levels(path: Path, levels: Sequence[Level], *, shapes: bool = True) -> None:
    """Sizes of the levels.

    Args:
        shapes: whether each must be a reduction of the first by one factor.

    Raises:
        UnreadableSlide: no level, one of impossible size, or one that cannot be a reduction of the first.
    """
    if not levels:
        raise UnreadableSlide(f"{path}: holds no level; {DAMAGED}")
    first = levels[0]
    for number, (width, height, _) in enumerate(levels):
        check_size(path, number, width, height)
        size = f"level {number} is declared as {width}x{height} px"
        expected = first.height * width / first.width
        if width > first.width or height > first.height:
            raise UnreadableSlide(f"{path}: {size}, larger than level 0; {DAMAGED}")
        if shapes and abs(height - expected) > max(SHAPE_PIXELS, SHAPE_TOLERANCE * expected):
            raise UnreadableSlide(
                f"{path}: {size}, no reduction of level 0 ({first.width}x{first.height}); {DAMAGED}"
            )


def check_tile_side(path: Path, level: int, width: int, height: int) -> None:
    """Size of a level's native tiles.

    Raises:
        UnreadableSlide: it is impossible.
    """
    if not (0 < width <= MAX_TILE_SIDE and 0 < height <= MAX_TILE_SIDE):
        raise UnreadableSlide(
            f"{path}: the native tiles of level {level} are declared as {width}x{height} px, outside 1 to "
            f"{MAX_TILE_SIDE} a side; {DAMAGED}"
        )


def check_tile_table(
    path: Path,
    level: int,
    offsets: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.uint64],
    expected: int,
    pixels: int,
) -> None:
    """Where a level's native tiles lie in the file.

    Args:
        offsets, counts: (n,) bytes.
        expected: n for the declared size.
        pixels: of one tile.

    Raises:
        UnreadableSlide: not one entry per tile, one that leaves the file, or one of impossible length.
    """
    if len(offsets) != expected or len(counts) != expected:
        raise UnreadableSlide(
            f"{path}: level {level} needs {expected} native tiles, its tables list {len(offsets)} offsets "
            f"and {len(counts)} lengths; {DAMAGED}"
        )
    size = np.uint64(path.stat().st_size)
    outside = (counts > 0) & ((counts > size) | (offsets > size - np.minimum(counts, size)))
    if outside.any():
        number = int(np.argmax(outside))
        raise UnreadableSlide(
            f"{path}: {int(outside.sum())} of {expected} native tiles of level {level} lie beyond the end of "
            f"the file, the first ({int(counts[number])} bytes from {int(offsets[number])} on) is tile "
            f"{number}; the file is truncated or damaged, copy it again from its source"
        )
    longest = MAX_TILE_BYTES_PER_PIXEL * pixels + (1 << 16)
    if counts.max(initial=0) > longest:
        raise UnreadableSlide(
            f"{path}: tile {int(counts.argmax())} of level {level} is declared as {int(counts.max())} bytes "
            f"for {pixels} pixels; {DAMAGED}"
        )


def check_overview(path: Path, width: int, height: int) -> None:
    """Size of the overview.

    Raises:
        UnreadableSlide: larger than a slide's glass could make it.
    """
    if width * height > MAX_OVERVIEW:
        raise UnreadableSlide(
            f"{path}: its overview would have {width}x{height} px, more than {MAX_OVERVIEW}; "
            "either its size or its MPP is wrong: state the true MPP in the mpp column of a CSV of slides"
        )


def check_cells(path: Path, columns: int, rows: int) -> None:
    """Number of grid cells.

    Raises:
        UnreadableSlide: more than can be held.
    """
    if columns * rows > MAX_CELLS:
        raise UnreadableSlide(
            f"{path}: would be {columns}x{rows} tiles, more than {MAX_CELLS}; use larger tiles (`tile`, "
            "`mpp`) or less `overlap`, or its size or MPP is wrong"
        )


def check_block(path: Path, width: int, height: int) -> None:
    """Size of a box that is read at once.

    Raises:
        UnreadableSlide: more than can be held.
    """
    if width * height > MAX_BLOCK:
        raise UnreadableSlide(
            f"{path}: a tile would need {width}x{height} px at once, more than {MAX_BLOCK}; "
            "use a smaller `tile` or a finer `mpp`, or its MPP is wrong"
        )

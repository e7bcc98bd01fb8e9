"""Which squares of a slide become tiles: sizes, grid, regions, and the blocks that are read for them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathprep.errors import TooCoarse
from pathprep.params.shard import Mode
from pathprep.slides.readers import limits
from pathprep.slides.slide import Slide

Cells = npt.NDArray[np.int64]

# A slide this much coarser than asked for is still taken (0.55 for 0.5); beyond, tiles would be a
# different magnification under the same name.
COARSER = 1.1
# Blocks of about this side are read at once: each native tile is decoded once, 2.6 times faster than
# reading tile by tile, and a block is only 12 MB.
BLOCK = 2048
# In resize mode, a level is used if the tile's side is this close to a whole number of its pixels
SIDE_TOLERANCE = 0.005


@dataclass(frozen=True)
class Grid:
    """Tiles of one slide. Requested, read and stored sizes are kept apart.

    Attributes:
        level: the level that is read; downsample: its level-0 pixels per pixel.
        side, stride: of a tile, level-0 pixels. stored: side of the stored JPEG, pixels.
        mpp: micrometres per stored pixel.
        columns, rows: whole tiles along x and y; the first tile starts at 0, 0.
        per_region: k; a region is k x k tiles.
    """

    level: int
    downsample: int
    side: int
    stride: int
    stored: int
    mpp: float
    columns: int
    rows: int
    per_region: int

    def region(self, column: int, row: int) -> int:
        """Id of the region that a grid cell belongs to, counted row by row."""
        across = -(-self.columns // self.per_region)
        return row // self.per_region * across + column // self.per_region

    def regions(self) -> npt.NDArray[np.int64]:
        """Id of the region of every cell, (rows, columns)."""
        across = -(-self.columns // self.per_region)
        column = np.arange(self.columns, dtype=np.int64) // self.per_region
        row = np.arange(self.rows, dtype=np.int64)[:, None] // self.per_region
        return row * across + column


def plan(
    slide: Slide, mpp: float, *, tile: int, target: float, mode: Mode, overlap: int, per_region: int
) -> Grid:
    """The grid of a slide.

    Args:
        slide: its size and levels are used.
        mpp: of the slide, micrometres per level-0 pixel.
        tile: side in pixels at ``target``.
        target: micrometres per pixel asked for.
        mode: ``native`` stores the level-0 pixels as they are (256 x 0.5 / mpp a side, as EXAONEPath
            does); ``resize`` stores ``tile`` pixels a side by area averaging.
        overlap: of neighbouring tiles, pixels at ``target``.
        per_region: tiles along the side of a region.

    Raises:
        TooCoarse: the slide is coarser than ``target``.
        UnreadableSlide: there would be too many cells.
    """
    if mpp > COARSER * target:
        raise TooCoarse(
            f"{slide.path}: {mpp:g} MPP is coarser than the {target:g} asked for; use `mpp` {mpp:g} or above"
        )
    side = round(tile * target / mpp)
    level, downsample = 0, 1
    if mode == "resize":
        level, downsample, side = _reading_level(slide, side, tile)
    step = (tile - overlap) / tile * side
    stride = max(downsample, round(step / downsample) * downsample)
    stored = side if mode == "native" else min(tile, side)
    columns, rows = (max(0, (length - side) // stride + 1) for length in (slide.width, slide.height))
    limits.check_cells(slide.path, columns, rows)
    return Grid(
        level=level,
        downsample=downsample,
        side=side,
        stride=stride,
        stored=stored,
        mpp=mpp * side / stored,
        columns=columns,
        rows=rows,
        per_region=per_region,
    )


def _reading_level(slide: Slide, side: int, tile: int) -> tuple[int, int, int]:
    """The smallest level that still has ``tile`` pixels a side, its downsample, and a side that fits it."""
    for level in range(len(slide.levels) - 1, 0, -1):
        downsample = slide.levels[level].downsample
        if downsample != int(downsample) or downsample * tile > side * (1 + SIDE_TOLERANCE):
            continue
        fitted = round(side / downsample) * int(downsample)
        if abs(fitted - side) <= SIDE_TOLERANCE * side and fitted >= tile * downsample:
            return level, int(downsample), fitted
    return 0, 1, side


@dataclass(frozen=True)
class Block:
    """A box of the read level and the tiles inside it.

    Attributes:
        x, y, width, height: pixels of the read level.
        cells: (T, 2) grid column and row. origins: (T, 2) int32 x, y of each tile inside the block.
    """

    x: int
    y: int
    width: int
    height: int
    cells: Cells
    origins: npt.NDArray[np.int32]


def blocks(grid: Grid, cells: Cells) -> Iterator[Block]:
    """Groups kept cells into blocks, in a fixed order: block rows, block columns, then cells row by row.

    Args:
        grid: the slide's grid.
        cells: (T, 2) column and row.
    """
    side, stride = grid.side // grid.downsample, grid.stride // grid.downsample
    per_block = max(1, (BLOCK - side) // stride + 1)
    keys = cells // per_block
    order = np.lexsort((cells[:, 0], cells[:, 1], keys[:, 0], keys[:, 1]))
    cells, keys = cells[order], keys[order]
    cuts = np.flatnonzero(np.any(np.diff(keys, axis=0), axis=1)) + 1
    for group in np.split(cells, cuts) if len(cells) else []:
        low = group.min(axis=0) * stride
        (x, y), (width, height) = low.tolist(), (group.max(axis=0) * stride + side - low).tolist()
        yield Block(x, y, width, height, group, (group * stride - low).astype(np.int32))


def keep(grid: Grid, share: npt.NDArray[np.float64], least: float, *, whole_regions: bool) -> Cells:
    """The cells with enough tissue, (T, 2) column and row, row by row.

    Args:
        grid: the slide's grid.
        share: (rows, columns) tissue of each cell, 0 to 1.
        least: keep cells with at least this share; one without any is never kept.
        whole_regions: judge regions instead: all cells of a region are kept if it has that share, the
            mean over those of its cells that lie in the slide.
    """
    least = max(least, np.finfo(float).tiny)
    if whole_regions and share.size:
        ids = grid.regions()
        sums = np.bincount(ids.ravel(), weights=share.ravel())
        share = (sums / np.bincount(ids.ravel()))[ids]
    return np.argwhere(share >= least)[:, ::-1]


def choose(
    kept: Cells, limit: int | None, seed: int, name: str, groups: npt.NDArray[np.int64] | None = None
) -> Cells:
    """At most ``limit`` of a slide's kept cells: a random choice by the seed and the slide's name alone.

    Args:
        kept: (T, 2) column and row.
        limit: None keeps all.
        seed, name: of the choice.
        groups: (T,) ids; only whole groups are taken, at least one, while they stay within ``limit``.
    """
    if limit is None or len(kept) <= limit:
        return kept
    rng = np.random.default_rng([seed, *name.encode()])
    if groups is None:
        return kept[np.sort(rng.choice(len(kept), limit, replace=False))]
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    taken = order[: max(1, np.searchsorted(np.cumsum(sizes[order]), limit, side="right"))]
    return kept[np.isin(number, taken)]

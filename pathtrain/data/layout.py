"""Where tiles lie: the cells of a slide's regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Where the N tiles of a slide (or of one region) lie; the tiles are sorted by region.

    Attributes:
        side: k, cells along the side of a region.
        tiles: (N,) the tiles' numbers in the dataset, region by region.
        cells: (R, k * k) int64: which of the N tiles is at each cell, row by row; N where none is.
        places: (R, 2) column and row of each region in the slide, the smallest of each 0.
        counts: (R,) tiles of each region, at least 1.
    """

    side: int
    tiles: Ints
    cells: Ints
    places: Ints
    counts: Ints

    @classmethod
    def of(cls, tiles: Ints, column: Ints, row: Ints, side: int) -> "Layout":
        """From the grid cells (N,) of a slide's tiles; N is at least 1."""
        column, row = column.astype(np.int64), row.astype(np.int64)
        regions = np.stack([row // side, column // side], axis=1)
        places, number, counts = np.unique(regions, axis=0, return_inverse=True, return_counts=True)
        number = number.reshape(-1)
        order = np.lexsort((column, row, number))
        cells = np.full((len(places), side * side), len(tiles), np.int64)
        cells[number[order], (row % side * side + column % side)[order]] = np.arange(len(tiles))
        return cls(side, tiles[order], cells, (places - places.min(axis=0))[:, ::-1].copy(), counts)

    @property
    def gaps(self) -> bool:
        """Whether a cell is background."""
        return bool(len(self.tiles) < self.cells.size)

    @classmethod
    def joined(cls, layouts: Sequence["Layout"]) -> "Layout":
        """The regions of several layouts of one side as one; their places say nothing any more."""
        total = sum(len(layout.tiles) for layout in layouts)
        cells, before = [], 0
        for layout in layouts:
            count = len(layout.tiles)
            cells.append(np.where(layout.cells == count, total, layout.cells + before))
            before += count
        return cls(
            layouts[0].side,
            np.concatenate([layout.tiles for layout in layouts]),
            np.concatenate(cells),
            np.concatenate([layout.places for layout in layouts]),
            np.concatenate([layout.counts for layout in layouts]),
        )

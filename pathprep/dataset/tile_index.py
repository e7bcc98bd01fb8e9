"""All tiles of a dataset as arrays: any tile, region or slide in microseconds."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileIndex:
    """All tiles of a dataset, slides in the order of their names, tiles in the order of their tar.

    Tiles have numbers, 0 to N - 1. Arrays of a large dataset are maps of files: read-only, and in memory
    only where they are looked at (see index_cache). Where SCHEMA has lists, dictionaries or nulls, the
    columns are ``he`` (N, 6) and ``max_c`` (N, 2) float32, NaN without a fit; ``stain_status`` int8, a
    number into STATUSES; ``tissue_pixels`` -1 where nothing was fitted.

    Attributes:
        slides: names of the slides with at least one tile, S of them.
        starts: (S + 1,) int64; tiles of slide s are starts[s] to starts[s + 1].
        columns: SCHEMA's columns that were asked for, each with N rows.
        regions: if the column ``region`` was asked for, the tables that ``region`` searches, else empty:
            ``order`` (N,) int32, rows within the slide, sorted by region and then by row; ``ids`` (R,)
            int32 and ``starts`` (R,) int64, each region's id and its first place in ``order``, slide by
            slide, ids rising; ``ends`` (S,) int64, one past the last region of each slide.
    """

    slides: list[str]
    starts: Ints
    columns: dict[str, npt.NDArray[Any]] = field(repr=False)
    regions: dict[str, npt.NDArray[Any]] = field(repr=False, default_factory=dict)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.slides)}

    def slide_of(self, tiles: npt.ArrayLike) -> Ints:
        """Slide number of each tile number."""
        return np.searchsorted(self.starts, np.asarray(tiles), side="right") - 1

    def locate(self, tile: int) -> tuple[str, int]:
        """The slide of a tile and its row in the slide's table.

        Raises:
            IndexError: no tile has this number.
        """
        if not 0 <= tile < len(self):
            raise IndexError(f"tile {tile} of {len(self)}")
        slide = int(self.slide_of(tile))
        return self.slides[slide], tile - int(self.starts[slide])

    def tiles_of(self, slide: str) -> range:
        """Tile numbers of a slide.

        Raises:
            KeyError: no slide of this name has a tile.
        """
        number = self._numbers[slide]
        return range(int(self.starts[number]), int(self.starts[number + 1]))

    def region_ids(self, slide: str) -> npt.NDArray[np.int32]:
        """Ids of the regions of a slide that hold a tile, rising; needs the column ``region``."""
        first, last = self._regions_of(self._numbers[slide])
        return self.regions["ids"][first:last]

    def region(self, slide: str, number: int) -> Ints:
        """Tile numbers of a region, rising; none if no tile of it was kept; needs the column ``region``.

        Args:
            slide: its name.
            number: the region's id, as in the column.

        Raises:
            KeyError: no slide of this name has a tile.
        """
        at = self._numbers[slide]
        first, last = self._regions_of(at)
        ids, starts = self.regions["ids"], self.regions["starts"]
        place = first + int(ids[first:last].searchsorted(number))
        if place == last or ids[place] != number:
            return np.empty(0, np.int64)
        end = int(starts[place + 1]) if place + 1 < last else int(self.starts[at + 1])
        found: Ints = self.starts[at] + self.regions["order"][int(starts[place]) : end]
        return found

    def at(self, slide: str, column: int, row: int) -> int | None:
        """The tile at a cell of a slide's grid, None if none was kept; needs the columns ``column``, ``row``.

        Looks through the slide's rows: some microseconds for ten thousand of them.

        Raises:
            KeyError: no slide of this name has a tile.
        """
        tiles = self.tiles_of(slide)
        part = slice(tiles.start, tiles.stop)
        found = np.flatnonzero((self.columns["column"][part] == column) & (self.columns["row"][part] == row))
        return tiles.start + int(found[0]) if len(found) else None

    def _regions_of(self, slide: int) -> tuple[int, int]:
        ends = self.regions["ends"]
        return int(ends[slide - 1]) if slide else 0, int(ends[slide])

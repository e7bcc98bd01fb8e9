"""Mixed shards as training data: read one after the other, every tile once an epoch.

`pathprep mix` has put all tiles in one random order already, so a shard is read from its beginning to its
end; which shard comes when is a permutation, keyed by seed and epoch. As with a dataset, the order is
computed: any step can be the first, and the number of ranks changes nothing but who takes what. The
bytes come through DALI's readers.webdataset, with indexes that list just the samples of a rank and of a
stretch of the run, in their order (``stretch``).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.dataset import columns
from pathprep.errors import DatasetError
from pathprep.mixed import format as mixed
from pathprep.mixed.reader import MixedDataset
from pathprep.permutation import Ints, permuted
from pathprep.stain import StainFit, Status
from pathprep.words import command
from pathtrain.data.source import Place, TileSource

# Shards' tables in memory, about 0.5 MB each; and shards that DALI has open at a time, all of which it opens
# when it starts
TABLES = SEGMENTS = 64
COLUMNS = ("offset", "length", "crc32")
FIT_COLUMNS = ("he", "max_c")

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Stretch:
    """What readers.webdataset takes: tars, one after the other, and the text of an index for each."""

    tars: list[PurePath]
    indexes: list[str]


class MixedSource(TileSource):
    """The tiles of mixed shards; their numbers are their places in the mix, shard after shard."""

    def __init__(self, data: MixedDataset) -> None:
        self.data, self.storage, self.stain = data, data.storage, data.params["stain"]
        counts = data.tile_counts()
        self._shards, self._components = list(counts), data.info["components"]
        self._counts = np.array(list(counts.values()), np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        # of this object, not of the class: a cache there would keep every source alive
        self._table = lru_cache(TABLES)(self._read_table)
        self._visits = lru_cache(4)(self._draw_visits)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, positions: Ints, seed: int) -> Ints:
        epochs, indexes = np.divmod(positions, len(self))
        found = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            visited, starts = self._visits(epoch, seed)
            at = np.searchsorted(starts, indexes[here], side="right") - 1
            found[here] = self._starts[visited[at]] + indexes[here] - starts[at]
        return found

    def _draw_visits(self, epoch: int, seed: int) -> tuple[Ints, Ints]:
        """An epoch's shards in the order in which they come, and the place of each one's first tile."""
        count = len(self._shards)
        visited = permuted(epoch * count + np.arange(count), count, seed)
        return visited, np.cumsum(self._counts[visited]) - self._counts[visited]

    def place(self, tile: int) -> Place:
        shard, row = self._locate(tile)
        table = self._table(shard)
        offset, length, crc32 = (int(table[name][row]) for name in COLUMNS)
        return Place(self._tar(shard), offset, length, crc32)

    def name(self, tile: int) -> str:
        shard, row = self._locate(tile)
        where = self.data.shard_table(self._shards[shard], ["slide", "x", "y"]).slice(row, 1).to_pylist()[0]
        return f"slide {where['slide']}, tile {where['x']}_{where['y']} in {self._shards[shard]}.tar"

    @property
    def has_fits(self) -> bool:
        return "fit" in self._components

    def fits(self) -> "MixedSource":
        return self

    def take(self, tiles: Ints) -> StainFit:
        """The fits of some tiles (B,); all that have one are FITTED."""
        he, max_c = np.zeros((len(tiles), 3, 2)), np.zeros((len(tiles), 2))
        shards = np.searchsorted(self._starts, tiles, side="right") - 1
        for shard in np.unique(shards).tolist():
            here, table = shards == shard, self._table(shard)
            rows = tiles[here] - self._starts[shard]
            he[here], max_c[here] = table["he"][rows].reshape(-1, 3, 2), table["max_c"][rows]
        use = ~np.isnan(max_c[:, 0])
        he[~use], max_c[~use] = 0, 0
        status = np.where(use, Status.FITTED, Status.UNFITTED).astype(np.uint8)
        return StainFit(he, max_c, np.zeros(len(tiles), np.int64), status)

    def steps(self, batch: int) -> int:
        """How many steps of ``batch`` tiles a stretch may have to open no more than SEGMENTS shards."""
        return max(1, int((SEGMENTS - 1) * self._counts.min()) // batch)

    def stretch(self, tiles: Ints) -> Stretch:
        """Tars and indexes to read tiles (M,) in their order."""
        shards = np.searchsorted(self._starts, tiles, side="right") - 1
        found = Stretch([], [])
        for part in np.split(np.arange(len(tiles)), np.flatnonzero(np.diff(shards)) + 1):
            shard = int(shards[part[0]])
            table, rows = self._table(shard), tiles[part] - self._starts[shard]
            numbers = zip(table["offset"][rows].tolist(), table["length"][rows].tolist(), strict=True)
            lines = [f"v1.2 {len(rows)}", *(f"jpg {at} {size} tile.jpg" for at, size in numbers), ""]
            found.tars.append(self.root / self._tar(shard))
            found.indexes.append("\n".join(lines))
        return found

    def whole(self, tiles: Ints) -> npt.NDArray[np.bool_]:
        """(M,) whether the tar is long enough to hold the tile.

        Raises:
            DatasetError: there is no such tar.
        """
        shards = np.searchsorted(self._starts, tiles, side="right") - 1
        whole = np.empty(len(tiles), bool)
        for shard in np.unique(shards).tolist():
            tar = self._tar(shard)
            size = self.storage.size(tar)
            if size < 0:
                raise DatasetError(
                    f"{self.root / tar}: No such file or directory; run "
                    f"{command('pathprep verify', self.root)}"
                )
            here, table = shards == shard, self._table(shard)
            rows = tiles[here] - self._starts[shard]
            whole[here] = table["offset"][rows] + table["length"][rows] <= size
        return whole

    def _locate(self, tile: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, tile, side="right")) - 1
        return shard, tile - int(self._starts[shard])

    def _tar(self, shard: int) -> str:
        return mixed.files(self._shards[shard])[0]

    def _read_table(self, shard: int) -> Columns:
        names = [*COLUMNS, *FIT_COLUMNS] if self.has_fits else list(COLUMNS)
        return columns.arrays(self.data.shard_table(self._shards[shard], names), names)

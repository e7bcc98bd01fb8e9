"""Reading mixed shards, in a folder or at a URL."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pathprep.dataset import columns
from pathprep.dataset.stored import TABLES, StoredTiles, encoded
from pathprep.dataset.tile import Tile, checked, fit_of, known
from pathprep.errors import DatasetError, why
from pathprep.mixed import format as mixed
from pathprep.storage import parquet
from pathprep.words import command, counted


class MixedDataset(StoredTiles):
    """Reads mixed shards as a dataset is read; the tiles are in their mixed order, shard after shard.

    A slide is named as in the keys of the samples: ``<slide>-<n>`` where several datasets have one of that
    name. Which tiles are a slide's is known only from all shards' indexes, which are read when it is asked.

    Args:
        root: the folder, or a URL that fsspec knows.

    Attributes:
        root: the folder or URL.
        storage: its files.
        info: what mixed.json says; ``build_id`` stands for the mix and all of its tiles.
        params: ``stain`` as in the datasets that were mixed, which agree in it.

    Raises:
        DatasetError: no finished mixed shards there.
        UsageError: a URL that fsspec does not know.
    """

    def __init__(self, root: PurePath | str) -> None:
        super().__init__(root)
        info = mixed.read_info(self.storage)
        self.info: dict[str, Any] = {**info, "build_id": info["mix_id"]}
        self.params: dict[str, Any] = info["sources"][0]["params"]
        self._records = {shard["shard"]: shard for shard in info["shards"]}
        counts = self.tile_counts()
        self._shards = list(counts)
        self._starts = np.cumsum([0, *counts.values()], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def tile_counts(self) -> dict[str, int]:
        """Shards and their number of tiles, in their order."""
        return {shard["shard"]: shard["tiles"] for shard in self.info["shards"]}

    def shard_table(self, shard: str, columns: list[str] | None = None) -> pa.Table:
        """A shard's rows (mixed.format.schema), in the order of its tar, all columns or those named.

        Raises:
            UsageError: no such column.
            DatasetError: its index cannot be read, or is not the one that mixed.json vouches for.
        """
        name, schema = mixed.files(shard)[2], mixed.schema(self.info["components"])
        for column in columns or ():
            known(column, schema.names, self.root / name, "column")
        try:
            data = self.storage.read(name)
            if data is None:
                raise FileNotFoundError("no such file")
            # each time: it is read anew each time, and to hash it takes a tenth of what it takes to parse it
            if hashlib.sha256(data).hexdigest() != self._records[shard]["files"][name]["sha256"]:
                raise ValueError(f"its bytes are not those that {mixed.INFO} vouches for (SHA-256)")
            table = parquet.read(data, columns, schema, mixed.FILLED)
            count = self._records[shard]["tiles"]
            if len(table) != count:
                raise ValueError(f"{counted(len(table), 'row')}, {mixed.INFO} says {count}")
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors too
            raise DatasetError(
                f"{self.root / name}: cannot be read ({why(error)}); run "
                f"{command('pathprep verify', self.root)}"
            ) from None
        return table

    @cached_property
    def _owners(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """(N,) the number of each tile's slide in the sorted list of their names; and that list."""
        return encoded([_slides(self.shard_table(shard, ["key"])["key"]) for shard in self._shards])

    @cached_property
    def _numbers(self) -> dict[str, npt.NDArray[np.int64]]:
        """Tile numbers of each slide, rising."""
        codes, names = self._owners
        order = np.argsort(codes, kind="stable")
        return dict(zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True))

    @property
    def slides(self) -> list[str]:
        """Names of the slides that have tiles, sorted."""
        return list(self._numbers)

    @property
    def has_fits(self) -> bool:
        return "fit" in self.info["components"]

    def tars(self) -> list[str]:
        return self._shards

    def tars_of(self, slides: Collection[str]) -> list[str]:
        return self._shards  # each of them may

    def tar_of(self, number: int) -> str:
        return self._shards[self._shard(number)]

    def tar_rows(self, tar: str) -> pa.Table:
        table = self.shard_table(tar)
        place = table.schema.get_field_index("slide")
        return table.set_column(place, "slide", _slides(table["key"]))

    def columns(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        names = list(names)
        tables = (self.shard_table(shard, names) for shard in self._shards)
        return columns.join((columns.arrays(table, names) for table in tables), names)

    def numbers_of(self, slide: str) -> npt.NDArray[np.int64]:
        return self._numbers[known(slide, self._numbers, self.root)]

    def labels(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        if "txt" not in self.info["components"]:
            return np.full(len(self), -1, np.int32), []
        return encoded([self.shard_table(shard, ["label"])["label"] for shard in self._shards])

    def table(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's rows (mixed.format.schema) in their mixed order, all columns or those named.

        Raises:
            UsageError: no such slide or column.
            DatasetError: a shard's index cannot be read.
        """
        numbers, parts = self._numbers[known(slide, self._numbers, self.root)], []
        for shard, start, end in zip(self._shards, self._starts, self._starts[1:], strict=False):
            here = numbers[(numbers >= start) & (numbers < end)] - start
            parts.append(self.shard_table(shard, columns).take(here))
        return pa.concat_tables(parts)

    @cached_property
    def _rows(self) -> Callable[[str], pa.Table]:
        return lru_cache(TABLES)(self.shard_table)  # a cache of the class would keep every mix alive

    def _shard(self, number: int) -> int:
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def _tile(self, number: int) -> Tile:
        at = self._shard(number)
        shard = self._shards[at]
        row: dict[str, Any] = self._rows(shard).slice(number - int(self._starts[at]), 1).to_pylist()[0]
        return Tile(
            checked(self._bytes(shard, row["offset"], row["length"]), row, shard, self.root),
            _slide(row["key"]),
            row["x"],
            row["y"],
            None,
            None,
            row.get("label"),
            None,
            fit_of(row, self.params["stain"]) if "max_c" in row else None,
            self.root / mixed.files(shard)[0],
        )

    def slide_of(self, number: int) -> str:
        codes, names = self._owners
        return names[int(codes[number])]


def _slide(key: str) -> str:
    return key.rsplit("__", 1)[0]


def _slides(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """The slide of each key."""
    return pc.replace_substring_regex(keys, "__[^_]*_[^_]*$", "")

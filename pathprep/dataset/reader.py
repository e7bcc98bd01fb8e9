"""Reading a dataset folder: its slides, their tables, and tiles by their place in a tar."""

import os
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset import index_cache as corpus
from pathprep.dataset.failed import FailedShard, read_failed
from pathprep.dataset.marker import Marker, read_sealed
from pathprep.dataset.schema import DROPPED, FORMAT, SCHEMA, VERSION, build_id
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import DatasetError
from pathprep.storage.json_files import read_json


class Dataset:
    """Reads a dataset folder; only committed slides of the current build exist for it.

    Args:
        root: the folder.

    Raises:
        DatasetError: no dataset there, of a newer format version, or a committed file is gone.
    """

    OPEN_TARS = 256  # file handles kept; well under the usual limit of 1024

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        info = read_json(self.root / "dataset.json")
        if info is None or info.get("format") != FORMAT:
            remote = ":" in self.root.parts[0] if self.root.parts else False
            fix = "copy it to a local folder first" if remote else "make one with `pathprep shard`"
            raise DatasetError(f"{root}: not a dataset (no dataset.json); {fix}")
        if info["version"] != VERSION:
            raise DatasetError(
                f"{self.root}: format version {info['version']}, this pathprep reads version {VERSION}"
            )
        if build_id(info["params"]) != info["build_id"]:
            raise DatasetError(
                f"{self.root}/dataset.json: damaged, its parameters are not those of its build id; run the "
                "`pathprep shard` command that made it, with --rebuild if it says so"
            )
        self.info: dict[str, Any] = info
        self.params: dict[str, Any] = info["params"]
        self._tars: OrderedDict[str, int] = OrderedDict()

    @cached_property
    def markers(self) -> dict[str, Marker]:
        """Committed slides of this build: name -> marker, in the order of names."""
        read = {path.stem: read_sealed(path) for path in sorted((self.root / "slides").glob("*.json"))}
        build = self.info["build_id"]
        return {name: each for name, each in read.items() if each is not None and each.build_id == build}

    @property
    def kind(self) -> str:
        """``slides``, or ``tiles`` if it was imported: then the index has labels and groups."""
        return str(self.params.get("kind", "slides"))

    @property
    def slides(self) -> list[str]:
        """Names of the committed slides, sorted; some may hold no tile."""
        return list(self.markers)

    def failed(self) -> dict[str, FailedShard]:
        """Quarantined slides, and shards of tile sets from which images were left out, by name."""
        read = {path.stem: read_failed(path) for path in sorted((self.root / "failed").glob("*.json"))}
        return {name: failed for name, failed in read.items() if failed is not None}

    def table(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's rows (SCHEMA), all columns or those named; columns that an older file lacks are null."""
        return self._table(f"index/{slide}.parquet", columns, SCHEMA)

    def dropped(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's tiles that quality filters dropped (DROPPED), all columns or those named; maybe none."""
        name = f"dropped/{slide}.parquet"
        if name in self.markers[slide].files:
            return self._table(name, columns, DROPPED)
        table = DROPPED.empty_table()
        return table if columns is None else table.select(columns)

    def _table(self, name: str, columns: list[str] | None, schema: pa.Schema) -> pa.Table:
        path = self.root / name
        try:
            return pq.read_table(path, columns=columns, schema=schema)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(
                f"{path}: cannot be read ({error}); run `pathprep verify {self.root}`"
            ) from None

    def tiles(self, columns: Iterable[str] = ("offset", "length", "stored")) -> TileIndex:
        """The whole dataset's tiles as arrays, for random access; of many slides in milliseconds
        (pathprep.dataset.index_cache), but for the first time.

        Args:
            columns: of SCHEMA; ``region`` brings the tables that find a region's tiles.

        Raises:
            DatasetError: a slide's table is not the one that its marker vouches for.
            KeyError: no such column.
        """
        return corpus.tiles(self, columns)

    def tile_counts(self) -> dict[str, int]:
        """Committed slides and their number of tiles, in the order of names; reads no marker if it can."""
        return corpus.tile_counts(self)

    def marker(self, slide: str) -> Marker:
        """One slide's marker, without reading the others.

        Raises:
            DatasetError: the slide is not committed.
        """
        marker = read_sealed(self.root / "slides" / f"{slide}.json")
        if marker is None or marker.build_id != self.info["build_id"]:
            raise DatasetError(f"{self.root}: slide {slide} is not committed; run `pathprep shard` again")
        return marker

    def texts(self, column: str) -> list[str | None]:
        """``label``, ``group`` or ``source`` of each tile, in the order of ``tiles``; None if it has none."""
        slides = [name for name, marker in self.markers.items() if marker.tiles]
        return [text for name in slides for text in self.table(name, [column])[column].to_pylist()]

    def read(self, slide: str, offset: int, length: int) -> bytes:
        """One member's bytes.

        Raises:
            DatasetError: the tar is gone or shorter than its index says.
        """
        data = os.pread(self._open(slide), length, offset)
        if len(data) != length:
            raise DatasetError(
                f"{self.root}/shards/{slide}.tar: {len(data)} of {length} bytes at {offset}; "
                f"run `pathprep verify {self.root}`"
            )
        return data

    def _open(self, slide: str) -> int:
        if slide in self._tars:
            self._tars.move_to_end(slide)
            return self._tars[slide]
        if len(self._tars) >= self.OPEN_TARS:
            os.close(self._tars.popitem(last=False)[1])
        path = self.root / "shards" / f"{slide}.tar"
        try:
            self._tars[slide] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}; run `pathprep verify {self.root}`") from None
        return self._tars[slide]

    def close(self) -> None:
        """Close the tars that reads have opened."""
        while self._tars:
            os.close(self._tars.popitem()[1])

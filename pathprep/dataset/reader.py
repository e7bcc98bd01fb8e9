"""Reading a dataset, in a folder or at a URL: its slides, their tables, and its tiles."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pathprep.dataset import index_cache, info
from pathprep.dataset.failed import FailedShard, failed_of
from pathprep.dataset.listing import THREADS
from pathprep.dataset.marker import Marker, SlideMarker, sealed_in
from pathprep.dataset.schema import DROPPED, FILLED, SCHEMA, shares_of, with_shares
from pathprep.dataset.stored import TABLES, StoredTiles, encoded
from pathprep.dataset.tile import FIT_COLUMNS, Tile, checked, fit_of, known
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import DatasetError
from pathprep.slides.own_names import SlideNames, own_name
from pathprep.storage import atomic, parquet
from pathprep.words import command

log = logging.getLogger(__name__)


class Dataset(StoredTiles):
    """Reads a dataset; only committed slides of the current build exist for it.

    Its tiles are in the order of ``slides``, and of the tar within a slide.

    Args:
        root: the folder, or a URL that fsspec knows, such as ``s3://bucket/dataset``.

    Attributes:
        root: the folder or URL. storage: its files.
        info: what dataset.json says. params: everything that shaped the pixels.

    Raises:
        DatasetError: no dataset there, of a newer format version, or a committed file is gone.
        UsageError: a URL that fsspec does not know.
    """

    def __init__(self, root: PurePath | str) -> None:
        super().__init__(root)
        if not self.storage.exists(info.NAME) and self.storage.read_json("mixed.json") is not None:
            raise DatasetError(f"{root}: holds mixed shards; give the dataset that they were mixed from")
        self.info: dict[str, Any] = info.read(self.storage)
        self.params: dict[str, Any] = self.info["params"]

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _places(self) -> TileIndex:
        """Where each tile's slide begins, as the dataset was when it was first asked for."""
        return self.tiles(())

    @cached_property
    def markers(self) -> dict[str, Marker]:
        """Committed slides of this build, in the order of names; the log names damaged markers."""
        names, build = self._names("slides"), self.info["build_id"]
        with ThreadPoolExecutor(THREADS) as pool:
            read = pool.map(lambda name: sealed_in(self.storage, f"slides/{name}.json"), names)
            markers = list(zip(names, read, strict=True))
        for name, marker in markers:
            # one that is being replaced by a run is not there for a moment
            if marker is None and self.storage.exists(f"slides/{name}.json"):
                log.warning(
                    "%s/slides/%s.json: damaged, so the slide is left out; the `pathprep` command that made "
                    "the dataset makes it again",
                    *(self.root, name),
                )
        return {name: each for name, each in markers if each is not None and each.build_id == build}

    def _names(self, folder: str) -> list[str]:
        files = (file.last for file in self.storage.listing(folder))
        own = (name for name in files if not name.startswith(atomic.PREFIX))  # a writer has yet to rename it
        return [name.removesuffix(".json") for name in own if name.endswith(".json")]

    @property
    def kind(self) -> str:
        """``slides``, or ``tiles`` if it was imported: then the index has labels and groups."""
        return str(self.params.get("kind", "slides"))

    @property
    def slides(self) -> list[str]:
        """Names of the committed slides, sorted; some may hold no tile."""
        return list(self.markers)

    def slide_names(self, slides: Iterable[str]) -> SlideNames:
        """Some slides, to be found by what tables and files call them; reads the markers of all.

        A DICOM slide is found by its series' UID, and by the name of its first file and of its folder.
        """
        slides = list(slides)
        return SlideNames.of(slides, {name: _own_names(self.markers[name]) for name in slides})

    def failed(self) -> dict[str, FailedShard]:
        """Quarantined slides, and shards of tile sets from which images were left out, by name.

        Those that are damaged are named in the log, and left out.
        """
        names = self._names("failed")
        read = {name: failed_of(self.storage.read_json(f"failed/{name}.json")) for name in names}
        for name in (name for name, failed in read.items() if failed is None):
            log.warning("%s: damaged; the next run writes it anew", self.root / f"failed/{name}.json")
        return {name: failed for name, failed in read.items() if failed is not None}

    def table(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's rows (SCHEMA), all columns or those named; columns that an older file lacks are null.

        Raises:
            UsageError: no such slide or column.
            DatasetError: its table cannot be read.
        """
        return self._table(slide, f"index/{slide}.parquet", columns, self._with_shares(SCHEMA))

    def _with_shares(self, schema: pa.Schema) -> pa.Schema:
        return with_shares(schema, shares_of(self.params))

    def dropped(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's tiles that quality filters dropped (DROPPED), all columns or those named; maybe none."""
        name = f"dropped/{slide}.parquet"
        if name in self.markers[slide].files:
            return self._table(slide, name, columns, self._with_shares(DROPPED))
        table = self._with_shares(DROPPED).empty_table()
        return table if columns is None else table.select(columns)

    def _table(self, slide: str, name: str, columns: list[str] | None, schema: pa.Schema) -> pa.Table:
        for column in columns or ():
            known(column, schema.names, self.root / name, "column")
        try:
            data = self.storage.read(name)
            if data is None:
                known(slide, self.tile_counts(), self.root)
                raise FileNotFoundError("no such file")
            if not self._is_written(slide, name, data):
                raise ValueError("its bytes are not those that its marker vouches for (SHA-256)")
            return parquet.read(data, columns, schema, FILLED)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors too
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DatasetError(
                f"{self.root / name}: cannot be read ({why}); run {command('pathprep verify', self.root)}"
            ) from None

    def _is_written(self, slide: str, name: str, data: bytes) -> bool:
        """Whether a slide's marker vouches for the bytes of a file."""
        digest, marker = hashlib.sha256(data).hexdigest(), self.__dict__.get("markers", {}).get(slide)
        if marker is not None and name in marker.files and marker.files[name].sha256 == digest:
            return True
        # as it is now: another run may have made the slide again since all were read
        marker = sealed_in(self.storage, f"slides/{slide}.json")
        return marker is not None and name in marker.files and marker.files[name].sha256 == digest

    def tiles(self, columns: Iterable[str] = ("offset", "length", "stored")) -> TileIndex:
        """The whole dataset's tiles as arrays, for random access; of many slides in milliseconds
        (pathprep.dataset.index_cache), but for the first time.

        Args:
            columns: of SCHEMA; ``region`` brings the tables that find a region's tiles.

        Raises:
            DatasetError: a slide's table is not the one that its marker vouches for.
            KeyError: no such column.
        """
        return index_cache.tiles(self, columns)

    def tile_counts(self) -> dict[str, int]:
        """Committed slides and their number of tiles, in the order of names; reads no marker if it can."""
        return index_cache.tile_counts(self)

    def marker(self, slide: str) -> Marker:
        """One slide's marker, without reading the others.

        Raises:
            DatasetError: the slide is not committed.
        """
        marker = sealed_in(self.storage, f"slides/{slide}.json")
        if marker is None or marker.build_id != self.info["build_id"]:
            raise DatasetError(f"{self.root}: slide {slide} is not committed; run `pathprep shard` again")
        return marker

    def texts(self, column: str) -> list[str | None]:
        """``label``, ``group`` or ``source`` of each tile, in the order of ``tiles``; None if it has none."""
        slides = [name for name, marker in self.markers.items() if marker.tiles]
        return [text for name in slides for text in self.table(name, [column])[column].to_pylist()]

    @property
    def has_fits(self) -> bool:
        return bool(self.params["stain"]["mode"] != "none")

    def tars(self) -> list[str]:
        return self._places.slides

    def tars_of(self, slides: Collection[str]) -> list[str]:
        return [name for name in self.tars() if name in slides]

    def tar_of(self, number: int) -> str:
        return self.slide_of(number)

    def tar_rows(self, tar: str) -> pa.Table:
        table = self.table(tar, ["x", "y", "offset", "length", "crc32", *FIT_COLUMNS, "label"])
        if self.kind == "slides":
            table = table.drop_columns(["label"])
        x, y = (table[axis].cast(pa.string()) for axis in "xy")
        key = pc.binary_join_element_wise(x, y, "_")
        if self.info["version"] > 1:  # as schema.tile_key, for all of them at once
            key = pc.binary_join_element_wise(tar, key, "__")
        return table.append_column("key", key).append_column("slide", pa.array([tar] * len(table)))

    def columns(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        return self.tiles(names).columns

    def numbers_of(self, slide: str) -> npt.NDArray[np.int64]:
        if slide in self._places.slides:
            numbers = self._places.tiles_of(slide)
            return np.arange(numbers.start, numbers.stop)
        known(slide, self.tile_counts(), self.root)
        return np.empty(0, np.int64)  # none of its tiles was kept

    def labels(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        if self.kind == "slides":
            return np.full(len(self), -1, np.int32), []
        with ThreadPoolExecutor(THREADS) as pool:
            return encoded(list(pool.map(lambda n: self.table(n, ["label"])["label"], self._places.slides)))

    @cached_property
    def _rows(self) -> Callable[[str], pa.Table]:
        return lru_cache(TABLES)(self.table)  # a cache of the class would keep every dataset alive

    def _tile(self, number: int) -> Tile:
        slide, at = self._places.locate(number)
        row = self._rows(slide).slice(at, 1).to_pylist()[0]
        return Tile(
            checked(self._bytes(slide, row["offset"], row["length"]), row, slide, self.root),
            slide,
            row["x"],
            row["y"],
            row["side"],
            row["mpp"],
            row["label"],
            row["group"],
            fit_of(row, self.params["stain"]),
            self.root / "shards" / f"{slide}.tar",
        )

    def slide_of(self, number: int) -> str:
        return self._places.locate(number)[0]


def _own_names(marker: Marker) -> tuple[str, ...]:
    own = marker.own_name if isinstance(marker, SlideMarker) else None
    if own is None:
        return ()
    path = PurePath(marker.source.path)
    more = (
        (own_name(path), path.parent.name)
        if isinstance(marker, SlideMarker) and marker.vendor == "dicom"
        else ()
    )
    return (own, *more)

"""Tiles for inference, encoded: those of a dataset, or a folder of labelled images; in a fixed order.

What becomes of them is in pathtrain.data.tile_batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from pathprep.errors import DatasetError, UsageError
from pathprep.folders import is_mixed, open_dataset
from pathprep.images import limits
from pathprep.storage import cells, regular, tables
from pathprep.storage.place import storage_at
from pathprep.storage.tables import Columns
from pathprep.words import command
from pathtrain.data.source import DamagedTile, DatasetSource
from pathtrain.images import Pixels, decode
from pathtrain.stain.normaliser import Normaliser, normaliser
from pathtrain.stain.target import ModelTarget

Ints = npt.NDArray[np.int64]

LABELS_FILE = "labels.csv"


class Tiles(ABC):
    """N tiles in a fixed order.

    Attributes:
        path: the dataset or folder.
        groups: names of the groups; tiles of one group must not be split between training and test.
        group: (N,) int64, each tile's group.
        kind: what a group is: ``slide`` or ``group``.
        target: of the model that the tiles are for; None if it takes them as they are.
        normaliser: what is done for that; None if nothing is.
    """

    path: PurePath
    groups: list[str]
    group: Ints
    kind: str
    target: ModelTarget | None = None
    normaliser: Normaliser | None = None

    def __len__(self) -> int:
        return len(self.group)

    @property
    def partitions(self) -> list[str] | None:
        """(N) the partition that the set's publisher put each tile in, ``train``, ``val`` or ``test`` or what
        else it is called; "" for none. None of tiles without partitions.
        """
        return None

    @abstractmethod
    def read(self, tile: int) -> bytes:
        """The encoded image; called from one thread only."""

    def pixels(self, data: bytes, tile: int) -> Pixels:
        """(H, W, 3) uint8 of what ``read`` gave for a tile; called from any thread.

        Raises:
            DatasetError: the bytes are no image; it names the tile and what can be done.
        """
        try:
            return decode(data, self.name(tile))
        except DatasetError as error:
            raise DatasetError(f"{error}; {self.fix}") from None

    @abstractmethod
    def name(self, tile: int) -> str:
        """What an error message calls the tile, with the file that it is in."""

    @property
    @abstractmethod
    def fix(self) -> str:
        """What can be done about a damaged tile."""


class DatasetTiles(Tiles):
    """Every tile of a dataset folder; a group is a slide, or what the index of imported tiles says.

    Imported tiles without a group are each their own.

    ``group``, ``coords`` and ``side`` are arrays of the whole dataset, made when first asked for; ``index``
    holds the same on disk.

    Attributes:
        index: where every tile lies.
        slides: names of the slides, or of an imported set's shards, that hold the tiles.
        labels: (N) label of each imported tile, empty where it has none; None in a dataset of slides.
        sources: (N) file that each imported tile was.
        starts: (S + 1,) int64; the tiles of slide s are starts[s] to starts[s + 1].
    """

    kind = "slide"

    def __init__(self, path: PurePath | str) -> None:
        self.dataset = open_dataset(path)
        self.path = self.dataset.root
        self.index = self.dataset.tiles(("x", "y", "side", "offset", "length", "crc32"))
        if not len(self.index):
            raise DatasetError(f"{path}: holds no tile; look at {command('pathprep report', path)}")
        self._reader = DatasetSource(self.dataset, index=self.index)
        self.slides, self.starts = self.index.slides, self.index.starts
        self.labels: list[str] | None = None
        names: list[str] = self.slides
        if self.dataset.kind == "tiles":
            self.kind = "group"
            self.labels = [label or "" for label in self.dataset.texts("label")]
            self.sources = [source or "" for source in self.dataset.texts("source")]
            names = self._group_names()
        elif isinstance(self.dataset.params["mpp"], list):
            # at several resolutions, a slide's names differ in their ending
            names = [name.rpartition("_mpp")[0] for name in self.slides]
        self.groups, self._numbers = _numbered(names)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def slide(self) -> Ints:
        """(N,) int64, number of each tile's slide."""
        return np.repeat(np.arange(len(self.slides)), np.diff(self.starts))

    @cached_property
    def group(self) -> Ints:  # type: ignore[override]
        """(N,) int64, each tile's group."""
        return self._numbers[self.slide] if self.labels is None else self._numbers

    def counts(self) -> dict[str, int]:
        """Tiles of each group."""
        weights = np.diff(self.starts) if self.labels is None else None
        found = np.bincount(self._numbers, weights, minlength=len(self.groups))
        return dict(zip(self.groups, found.astype(np.int64).tolist(), strict=True))

    def members(self, names: Collection[str]) -> dict[str, Ints]:
        """Tile numbers, rising, of some groups; of a dataset of slides the other tiles are not touched."""
        wanted = [number for number, name in enumerate(self.groups) if name in names]
        rows = np.flatnonzero(np.isin(self._numbers, wanted))
        rows = rows[np.argsort(self._numbers[rows], kind="stable")]
        parts = np.split(rows, np.flatnonzero(np.diff(self._numbers[rows])) + 1) if len(rows) else []
        if self.labels is None:  # the numbers are those of slides
            parts = [np.concatenate([np.arange(*self.starts[s : s + 2]) for s in part]) for part in parts]
        return {self.groups[number]: part for number, part in zip(wanted, parts, strict=True)}

    def groups_of(self, tiles: Ints) -> Ints:
        """(B,) the group of each of some tiles (B,)."""
        return self._numbers[self.index.slide_of(tiles) if self.labels is None else tiles]

    @cached_property
    def coords(self) -> Ints:
        """(N, 2) int64, x and y of the tile's corner in level-0 pixels."""
        return self.places(slice(None))

    @cached_property
    def side(self) -> Ints:
        """(N,) int64, the tile's side in level-0 pixels."""
        return self.index.columns["side"].astype(np.int64)

    def places(self, part: slice) -> Ints:
        """``coords`` of some tiles."""
        columns = self.index.columns
        return np.stack([columns["x"][part], columns["y"][part]], axis=1).astype(np.int64)

    @property
    def partitions(self) -> list[str] | None:
        if self.labels is None:
            return None
        found = [getattr(self.dataset.markers[name], "split", "") for name in self.slides]
        return np.repeat(np.array(found, dtype=object), np.diff(self.starts)).tolist() if any(found) else None

    def _group_names(self) -> list[str]:
        """A tile without a group is named by its file, so that none is taken for another set's."""
        folders = [self.dataset.markers[name].source.path for name in self.slides]
        places = zip(self.dataset.texts("group"), self.slide.tolist(), self.sources, strict=True)
        return [group or f"{folders[slide]}/{source}" for group, slide, source in places]

    def read(self, tile: int) -> bytes:
        try:
            return self._reader.read(tile)
        except DamagedTile as reason:
            raise DatasetError(f"{self.name(tile)}: {reason}; {self.fix}") from None

    def name(self, tile: int) -> str:
        return f"{self._reader.name(tile)} in {self.dataset.root / self._reader.place(tile).tar}"

    @property
    def fix(self) -> str:
        if self.dataset.kind == "tiles":
            return f"see {command('pathprep verify', self.path)}, and import its tiles again"
        return f"{command('pathprep repair', self.path)} makes damaged slides again"


def _numbered(names: list[str]) -> tuple[list[str], Ints]:
    """The different names, sorted, and the place of each name among them."""
    different, numbers = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return different.tolist(), numbers.astype(np.int64)


class FolderTiles(Tiles):
    """Labelled images in a folder with a ``labels.csv`` of columns file, label and perhaps group and split.

    Attributes:
        table: the CSV.
        files: (N) paths relative to the folder, in the order of the CSV.
        labels: (N) label of each file; empty where it has none.
        grouped: whether the CSV has a group column; without it every file is its own group.
    """

    kind = "group"

    def __init__(self, path: Path, labelled: bool = True) -> None:
        self.path: Path = path
        table = self.table = tables.read(path / LABELS_FILE)
        self.files = table.columns[table.first("file")]
        if len(set(self.files)) != len(self.files):
            raise UsageError(f"{path / LABELS_FILE}: a file is listed twice; keep one row per file")
        for row, file in enumerate(self.files):
            if file.startswith("/") or ".." in file.split("/"):
                raise UsageError(
                    f"{table.at(row)}: {file} is outside {path}; put the file, or a link to its "
                    "folder, into this one"
                )
        named = table.named("label")
        if labelled or named:
            self.labels = [cells.label(cell) for cell in table.columns[table.first("label")]]
        else:
            self.labels = [""] * len(self.files)
        splits = table.pick("split", Columns())
        self._partitions = None if splits is None else [cells.known(cell) for cell in splits]
        groups = table.pick("group", Columns())
        self.grouped = groups is not None
        # a file without a group is its own
        owners = [cells.known(g) or f for g, f in zip(groups or self.files, self.files, strict=True)]
        self.groups = sorted(set(owners))
        numbers = {name: number for number, name in enumerate(self.groups)}
        self.group = np.array([numbers[name] for name in owners], dtype=np.int64)

    @property
    def partitions(self) -> list[str] | None:
        return self._partitions if self._partitions and any(self._partitions) else None

    def read(self, tile: int) -> bytes:
        path = self.path / self.files[tile]
        try:
            return regular.read(path, limits.MOST_BYTES)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}; {self.fix}") from None

    def name(self, tile: int) -> str:
        return str(self.path / self.files[tile])

    @property
    def fix(self) -> str:
        return f"put it right, or take it out of {self.path / LABELS_FILE}"


def open_tiles(
    path: PurePath | str, target: ModelTarget | None = None, labelled: bool = True
) -> DatasetTiles | FolderTiles:
    """The tiles of a dataset, or of a folder of labelled images.

    Args:
        path: the folder, or the URL of a dataset.
        target: of the model that they are for; they are normalised to it where they are not yet.
        labelled: False: a folder's table may do without a column of labels.

    Raises:
        UsageError: it is neither, or holds mixed shards.
        DatasetError: it is a dataset that cannot be used.
    """
    tiles: DatasetTiles | FolderTiles
    storage = storage_at(path)
    if storage.exists("dataset.json"):
        tiles = DatasetTiles(path)
    elif isinstance(storage.root, Path) and storage.exists(LABELS_FILE):
        tiles = FolderTiles(storage.root, labelled)
    elif is_mixed(path):
        tiles = DatasetTiles(path)  # which says what to give instead
    else:
        raise UsageError(
            f"{path}: neither a dataset (dataset.json, from `pathprep shard`) nor a folder of labelled "
            f"images ({LABELS_FILE} with the columns file, label and perhaps group)"
        )
    tiles.target = target
    tiles.normaliser = normaliser(target, tiles.dataset if isinstance(tiles, DatasetTiles) else None)
    return tiles


def outcome(tiles: Tiles) -> str:
    """What fitting the stain of images without stored fits came to, for people; empty if none was fitted."""
    found = tiles.normaliser.outcome if tiles.normaliser else ""
    return f"{tiles.path}: {found}" if found else ""

"""Where a run's tiles lie, and in which order they come: what the loader asks of its data.

Tiles have numbers from 0; positions of the run are those of pathtrain.data.order. Which tile comes at a
position is computed, by ``order``, from nothing but the seed.
"""

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import simplejpeg

from pathprep.dataset.reader import Dataset
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import DatasetError
from pathprep.storage.base import Storage
from pathprep.words import command
from pathtrain.data import order
from pathtrain.data.groups import Grouped
from pathtrain.data.order import Ints
from pathtrain.stain.stage import Fits
from pathtrain.stain.stored_fits import stored_fits

NO_TILES: Ints = np.empty(0, np.int64)


class DamagedTile(Exception):
    """A tile's bytes are not those that were written; says in what way."""


@dataclass(frozen=True)
class Place:
    """Where a tile's JPEG lies: ``length`` bytes at ``offset`` of a tar (shards/a.tar), with this CRC32."""

    tar: str
    offset: int
    length: int
    crc32: int


class TileSource(ABC):
    """N tiles.

    Attributes:
        storage: of the dataset or mix. root: its folder or URL.
        stain: how the tiles' stain was treated when they were stored: ``params["stain"]`` of a dataset.
        fits: their stored fits; None if there are none.
    """

    storage: Storage
    stain: dict[str, Any]

    @property
    def root(self) -> PurePath:
        """Of the first tiles, where there are several."""
        return self.storage.root

    @property
    def said(self) -> str:
        """What messages call it."""
        return str(self.root)

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def order(self, positions: Ints, seed: int) -> Ints:
        """Tile numbers (B,) at positions (B,) of the run."""

    @property
    def reach(self) -> int:
        """So many positions in a row have every tile among them: two epochs."""
        return 2 * len(self)

    @abstractmethod
    def place(self, tile: int) -> Place:
        """Where a tile lies."""

    @abstractmethod
    def name(self, tile: int) -> str:
        """A tile's slide and level-0 coordinates, for messages."""

    def home(self, tile: int) -> PurePath:
        """Folder or URL of the dataset that a tile is of, for messages."""
        return self.root

    @abstractmethod
    def fits(self) -> Fits:
        """The fits that were stored with the tiles; only where ``has_fits``."""

    @property
    @abstractmethod
    def has_fits(self) -> bool:
        """Whether each tile was stored with its fit, or with the mark that it has none."""

    def read(self, tile: int) -> bytes:
        """A tile's JPEG, checked; from any thread.

        Raises:
            DamagedTile: the bytes are not those that were written, or the disk does not give them.
            DatasetError: the tar cannot be opened: that is no single tile's damage.
        """
        place = self.place(tile)
        try:
            data = self.storage.read_at(place.tar, place.offset, place.length)
        except (FileNotFoundError, PermissionError) as error:
            where = self.root / place.tar
            raise DatasetError(
                f"{where}: {error.strerror}; run {command('pathprep verify', self.root)}"
            ) from None
        except OSError as error:
            raise DamagedTile(f"cannot be read ({error.strerror})") from None
        if reason := wrong(data, place):
            raise DamagedTile(reason)
        return data

    def close(self) -> None:
        """Close the files that reads have opened."""
        self.storage.close()


def wrong(data: Any, place: Place) -> str:
    """In what way bytes (anything with a buffer) are not those of a tile's JPEG; empty if they are."""
    if len(data) != place.length:
        return f"its tar ends {place.length - len(data)} bytes too early"
    if zlib.crc32(data) != place.crc32:
        return "its CRC32 differs"
    try:  # what is no JPEG may crash DALI, and with it the process; this takes 1 to 3 microseconds
        simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        return f"cannot be decoded ({error})"
    return ""


class Order:
    """Which tile comes when: every one once an epoch, in a seeded permutation of all; or drawn by groups.

    Args:
        count: tiles, N, with those held out.
        held_out: numbers of tiles (H,), rising, that do not come.
        groups: that tiles are drawn by; without those held out.
    """

    def __init__(self, count: int, held_out: Ints = NO_TILES, groups: Grouped | None = None) -> None:
        self._count, self._groups = count - len(held_out), groups
        # among the tiles that do come, the place before which each held out one would lie
        self._gaps = held_out - np.arange(len(held_out))

    def __len__(self) -> int:
        """Tiles that come."""
        return self._count

    def __call__(self, positions: Ints, seed: int) -> Ints:
        """Tile numbers (B,) at positions (B,) of the run."""
        if self._groups is None:
            found = order.permuted(positions, self._count, seed)
        else:
            found = self._groups.order(positions, seed)
        return found + np.searchsorted(self._gaps, found, side="right")

    @property
    def reach(self) -> int:
        """So many positions in a row have every tile among them."""
        return 2 * self._count if self._groups is None else self._groups.reach


class DatasetSource(TileSource):
    """A dataset folder.

    Args:
        held_out: numbers of tiles (H,), rising, that do not come.
        index: of the dataset, with at least COLUMNS; None opens it.
        groups: that tiles are drawn by; without those held out.
    """

    COLUMNS = ("x", "y", "offset", "length", "crc32")

    def __init__(
        self,
        dataset: Dataset,
        held_out: Ints = NO_TILES,
        index: TileIndex | None = None,
        groups: Grouped | None = None,
    ) -> None:
        self.dataset, self.storage, self.stain = dataset, dataset.storage, dataset.params["stain"]
        self._index = dataset.tiles(self.COLUMNS) if index is None else index
        self._order = Order(len(self._index), held_out, groups)

    def __len__(self) -> int:
        return len(self._order)

    def order(self, positions: Ints, seed: int) -> Ints:
        return self._order(positions, seed)

    @property
    def reach(self) -> int:
        return self._order.reach

    def place(self, tile: int) -> Place:
        offset, length, crc32 = (int(self._index.columns[n][tile]) for n in ("offset", "length", "crc32"))
        return Place(f"shards/{self._slide(tile)}.tar", offset, length, crc32)

    def name(self, tile: int) -> str:
        x, y = (self._index.columns[axis][tile] for axis in "xy")
        return f"slide {self._slide(tile)}, tile {x}_{y}"

    @property
    def has_fits(self) -> bool:
        return bool(self.stain["mode"] != "none")

    def fits(self) -> Fits:
        return stored_fits(self.dataset)

    def _slide(self, tile: int) -> str:
        return self._index.slides[int(self._index.slide_of(tile))]

"""Tiles one at a time, whether they lie in a dataset or in mixed shards."""

import difflib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, overload

import numpy as np
import pyarrow as pa

from pathprep.dataset.schema import STATUSES
from pathprep.errors import DatasetError, UsageError
from pathprep.images import jpeg
from pathprep.slides.readers.base import Pixels
from pathprep.stain.fits import StainFit, Status
from pathprep.storage.base import Storage
from pathprep.words import command

FIT_COLUMNS = ("stain_status", "he", "max_c")  # what ``fit_of`` needs


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile, its bytes checked by their CRC32.

    Attributes:
        jpeg: its bytes as they are stored.
        slide: name of its slide; of imported tiles, of their shard.
        x: level-0 pixels, left edge.
        y: level-0 pixels, top edge.
        side: level-0 pixels; None in mixed shards, which do not keep it.
        mpp: micrometres per pixel of the stored JPEG; None in mixed shards.
        label: of imported tiles; None where there is none.
        group: tiles of one group are alike (patient, slide); None but of imported tiles in a dataset.
        fit: the stains of the tile as it is stored, N = 1; None where nothing was fitted or kept.
        tar: the file that it is in.
    """

    jpeg: bytes = field(repr=False)
    slide: str
    x: int
    y: int
    side: int | None
    mpp: float | None
    label: str | None
    group: str | None
    fit: StainFit | None = field(repr=False)
    tar: PurePath = field(repr=False)

    @cached_property
    def pixels(self) -> Pixels:
        """The decoded tile, (H, W, 3) uint8 RGB.

        Raises:
            DatasetError: the stored bytes are no JPEG.
        """
        return decoded(self.jpeg, {"x": self.x, "y": self.y, "slide": self.slide}, self.tar)


class Tiles(ABC):
    """Tiles in an order that never changes.

    ``tiles[0]`` is a Tile and ``tiles[10:20]`` are Tiles again; numbers below 0 count from the end. Each tile
    is read when it is asked for. ``for tile in tiles`` reads them in the order in which they lie on the disk.

    Attributes:
        root: the folder or URL.
    """

    root: PurePath

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @property
    @abstractmethod
    def slides(self) -> list[str]:
        """Names of the slides, sorted; some may hold no tile."""

    @abstractmethod
    def table(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's rows, all columns or those named."""

    @abstractmethod
    def slide(self, name: str) -> "Tiles":
        """The tiles of one slide."""

    @abstractmethod
    def _tile(self, number: int) -> Tile:
        """Read a tile, 0 <= number < N."""

    @abstractmethod
    def slide_of(self, number: int) -> str:
        """Name of a tile's slide."""

    @overload
    def __getitem__(self, number: int) -> Tile: ...
    @overload
    def __getitem__(self, number: slice) -> "Tiles": ...
    def __getitem__(self, number: int | slice) -> "Tile | Tiles":
        """Read a tile.

        Raises:
            IndexError: no tile has this number.
            DatasetError: its bytes are not those that were written (CRC32), or its tar is gone.
        """
        if isinstance(number, slice):
            return Part(self, range(*number.indices(len(self))))
        count = len(self)
        if not -count <= number < count:
            numbers = f"numbers go from 0 to {count - 1}" if count else "there is none"
            raise IndexError(f"{self.root}: no tile {number} of {count:,}; {numbers}")
        return self._tile(number % count)

    def __iter__(self) -> Iterator[Tile]:
        return map(self._tile, range(len(self)))


class Part(Tiles):
    """Some tiles of others, by their numbers."""

    def __init__(self, whole: Tiles, numbers: Sequence[int]) -> None:
        self.root, self._whole, self._numbers = whole.root, whole, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def slides(self) -> list[str]:
        return sorted({self.slide_of(number) for number in range(len(self))})

    def table(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """The whole slide's rows, all columns or those named."""
        return self._whole.table(known(slide, self.slides, self.root), columns)

    def slide(self, name: str) -> Tiles:
        known(name, self.slides, self.root)
        return Part(self, [number for number in range(len(self)) if self.slide_of(number) == name])

    def _tile(self, number: int) -> Tile:
        return self._whole._tile(int(self._numbers[number]))

    def slide_of(self, number: int) -> str:
        return self._whole.slide_of(int(self._numbers[number]))


def known(name: str, names: Iterable[str], root: PurePath, what: str = "slide") -> str:
    """A name that must be one of several.

    Raises:
        UsageError: it is not; the message says which is nearest.
    """
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1, 0)
    fix = f"the nearest name is {near[0]!r}" if near else f"there is no {what} at all"
    raise UsageError(f"{root}: no {what} {name!r}; {fix}")


def read_tar(storage: Storage, tar: str, offset: int, length: int) -> bytes:
    """A part of shards/<tar>.tar.

    Raises:
        DatasetError: the tar is gone or shorter than that.
    """
    name = f"shards/{tar}.tar"
    try:
        data = storage.read_at(name, offset, length)
        problem = f"{len(data)} of {length} bytes at {offset}" if len(data) != length else ""
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise DatasetError(f"{storage.root / name}: {problem}; run {command('pathprep verify', storage)}")
    return data


def checked(data: bytes, row: Mapping[str, Any], tar: str, root: PurePath) -> bytes:
    """A tile's bytes, if they are those that were written.

    Args:
        row: of its index, with ``x``, ``y`` and ``crc32``.

    Raises:
        DatasetError: they are not.
    """
    if zlib.crc32(data) == row["crc32"]:
        return data
    raise DatasetError(
        f"{root / 'shards' / tar}.tar: tile {row['x']}_{row['y']} is damaged (CRC32 differs from the "
        f"index); run {command('pathprep verify', root)}"
    )


def decoded(data: bytes, row: Mapping[str, Any], tar: object) -> Pixels:
    """A tile's pixels, (H, W, 3) uint8 RGB.

    Args:
        row: with ``x``, ``y`` and ``slide``. tar: where it is from, for messages.

    Raises:
        DatasetError: the bytes, which are those that were written, are no JPEG.
    """
    try:
        return jpeg.decode(data)
    except ValueError as error:
        raise DatasetError(
            f"{tar}: tile {row['x']}_{row['y']} of slide {row['slide']} cannot be decoded ({error}); "
            "make the slide again with `pathprep shard --rebuild`"
        ) from None


def fit_of(row: Mapping[str, Any], stain: Mapping[str, Any]) -> StainFit | None:
    """The stains of a tile as it is stored: its fit, or the target that it was normalised to.

    Args:
        row: of its index, with ``stain_status``, ``he``, ``max_c``, and ``tissue_pixels`` if it is there.
        stain: ``params["stain"]`` of its dataset.
    """
    if row["max_c"] is None or stain["mode"] == "none":
        return None
    he, max_c = row["he"], row["max_c"]
    if stain["mode"] == "bake":
        he, max_c = stain["target"]["he"], stain["target"]["max_c"]
    return StainFit(
        np.array(he, np.float64).reshape(1, 3, 2),
        np.array(max_c, np.float64).reshape(1, 2),
        np.array([row.get("tissue_pixels") or 0]),
        np.array([Status(STATUSES.index(row["stain_status"]))], np.uint8),
    )

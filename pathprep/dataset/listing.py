"""The committed slides of a dataset and their tables, as their markers vouch for them, in flat memory."""

import errno
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pathprep.dataset import columns
from pathprep.dataset.columns import Arrays
from pathprep.dataset.marker import sealed_in
from pathprep.dataset.schema import field
from pathprep.errors import DatasetError
from pathprep.storage import atomic, parquet
from pathprep.storage.base import FileInfo, Storage
from pathprep.words import command, counted

LAYOUT = 2  # part of the key: raise it when the meaning of a file of the index changes
THREADS = 8  # reading small files waits more than it works, above all over a network
# A marker this young may be replaced within the clock's resolution, unseen: its listing is not remembered
SETTLED_S = 2


class Folder(Protocol):
    """What is asked of a dataset here: its files, and what its dataset.json says."""

    storage: Storage
    info: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A committed slide: what its marker says of its table (tiles; bytes; SHA-256)."""

    name: str
    tiles: int
    size: int
    sha256: str


def slides_of(slides: Iterable[Entry]) -> dict[str, int]:
    """Name -> number of tiles."""
    return {slide.name: slide.tiles for slide in slides}


def signature_of(dataset: Folder) -> tuple[str, int, bool]:
    """Hash of the listing of slides/, the number of markers, and whether all are old enough to trust it."""
    markers = _markers(dataset)
    seen = [(info.last, info.size, info.modified) for info in markers]
    digest = hashlib.sha256(repr((LAYOUT, dataset.info["build_id"], seen)).encode()).hexdigest()
    newest = max((info.modified for info in markers), default=0)
    return digest, len(seen), newest / 1e9 < time.time() - SETTLED_S


def _markers(dataset: Folder) -> list[FileInfo]:
    """Files in slides/ that may be markers, by name."""
    infos = dataset.storage.listing("slides")
    return [info for info in infos if info.name.endswith(".json") and not info.last.startswith(atomic.PREFIX)]


def committed(dataset: Folder) -> list[Entry]:
    """The slides of this build, in the order of names, by their markers; no marker is kept in memory.

    Raises:
        DatasetError: a marker lacks what the index needs.
    """
    storage, build = dataset.storage, dataset.info["build_id"]

    def read(info: FileInfo) -> Entry | None:
        marker, slide = sealed_in(storage, info.name), info.last.removesuffix(".json")
        if marker is None and storage.exists(info.name):
            raise DatasetError(
                f"{storage.root / info.name}: damaged; the `pathprep` command that made the dataset makes "
                "the slide again"
            )
        if marker is None or marker.build_id != build:
            return None
        table = marker.files.get(f"index/{slide}.parquet")
        if table is None:
            raise DatasetError(
                f"{storage.root / info.name}: not a whole marker; delete it and run `pathprep shard` again"
            )
        return Entry(slide, marker.tiles, table.size, table.sha256)

    with ThreadPoolExecutor(THREADS) as pool:
        return [slide for slide in pool.map(read, _markers(dataset)) if slide is not None]


def key_of(dataset: Folder, slides: list[Entry]) -> str:
    """Hash of the build, the slides and their tables: 16 hex digits."""
    rows = [(slide.name, slide.tiles, slide.sha256) for slide in slides]
    return hashlib.sha256(repr((LAYOUT, dataset.info["build_id"], rows)).encode()).hexdigest()[:16]


def columns_of(dataset: Folder, slide: Entry, names: list[str]) -> Arrays:
    """A slide's columns, from a table whose bytes are those that its marker vouches for.

    Raises:
        DatasetError: they are not; it names the slide.
    """
    name = f"index/{slide.name}.parquet"
    try:
        data = dataset.storage.read(name)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if len(data) != slide.size:
            raise ValueError(f"{len(data)} bytes, its marker says {slide.size}")
        if hashlib.sha256(data).hexdigest() != slide.sha256:
            raise ValueError("its bytes are not those that its marker vouches for (SHA-256)")
        # not given to ``read``: of a table that lacks one, nothing can be made up
        table = parquet.read(data, names).cast(pa.schema([field(each) for each in names]))
        if table.num_rows != slide.tiles:
            raise ValueError(f"{counted(table.num_rows, 'row')}, its marker says {slide.tiles}")
        return columns.arrays(table, names)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        root = dataset.storage.root
        raise DatasetError(f"{root / name}: {reason}; run {command('pathprep verify', root)}") from None


def tables(dataset: Folder, slides: list[Entry], names: list[str]) -> Iterator[Arrays]:
    """The columns of all slides that have tiles; a few tables are in memory at a time."""
    full = [slide for slide in slides if slide.tiles]
    step = 2 * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(full), step):
            yield from pool.map(lambda slide: columns_of(dataset, slide, names), full[start : start + step])

"""The committed slides of a dataset and their tables, as their markers vouch for them, in flat memory."""

import hashlib
import io
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset import columns
from pathprep.dataset.columns import Arrays
from pathprep.dataset.marker import read_sealed
from pathprep.errors import DatasetError
from pathprep.storage import atomic

LAYOUT = 1  # part of the key: raise it when the meaning of a file of the index changes
THREADS = 8  # reading small files waits more than it works, above all over a network
# A marker this young may be replaced within the clock's resolution, unseen: its listing is not remembered
SETTLED_S = 2


class Folder(Protocol):
    """What is asked of a dataset here: its folder, and what its dataset.json says."""

    @property
    def root(self) -> Path:
        """The folder."""

    @property
    def info(self) -> dict[str, Any]:
        """dataset.json."""


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
    seen = []
    with suppress(FileNotFoundError), os.scandir(dataset.root / "slides") as entries:
        for entry in entries:
            if entry.name.endswith(".json") and not entry.name.startswith(atomic.PREFIX):
                with suppress(FileNotFoundError):  # a temporary file, or a marker that is just replaced
                    state = entry.stat()
                    seen.append((entry.name, state.st_size, state.st_mtime_ns))
    seen.sort()
    digest = hashlib.sha256(repr((LAYOUT, dataset.info["build_id"], seen)).encode()).hexdigest()
    newest = max((mtime for _, _, mtime in seen), default=0)
    return digest, len(seen), newest / 1e9 < time.time() - SETTLED_S


def committed(dataset: Folder) -> list[Entry]:
    """The slides of this build, in the order of names, by their markers; no marker is kept in memory.

    Raises:
        DatasetError: a marker lacks what the index needs.
    """
    folder, build = dataset.root / "slides", dataset.info["build_id"]
    with suppress(FileNotFoundError):
        names = sorted(path.stem for path in folder.iterdir() if path.suffix == ".json")

        def read(name: str) -> Entry | None:
            path = folder / f"{name}.json"
            marker = None if name.startswith(atomic.PREFIX) else read_sealed(path)
            if marker is None and not name.startswith(atomic.PREFIX) and path.exists():
                raise DatasetError(
                    f"{path}: damaged; the `pathprep` command that made the dataset makes the slide again"
                )
            if marker is None or marker.build_id != build:
                return None
            table = marker.files.get(f"index/{name}.parquet")
            if table is None:
                raise DatasetError(f"{path}: not a whole marker; delete it and run `pathprep shard` again")
            return Entry(name, marker.tiles, table.size, table.sha256)

        with ThreadPoolExecutor(THREADS) as pool:
            return [slide for slide in pool.map(read, names) if slide is not None]
    return []


def key_of(dataset: Folder, slides: list[Entry]) -> str:
    """Hash of the build, the slides and their tables: 16 hex digits."""
    rows = [(slide.name, slide.tiles, slide.sha256) for slide in slides]
    return hashlib.sha256(repr((LAYOUT, dataset.info["build_id"], rows)).encode()).hexdigest()[:16]


def columns_of(dataset: Folder, slide: Entry, names: list[str]) -> Arrays:
    """A slide's columns, from a table whose bytes are those that its marker vouches for.

    Raises:
        DatasetError: they are not; it names the slide.
    """
    path = dataset.root / "index" / f"{slide.name}.parquet"
    try:
        data = path.read_bytes()
        if len(data) != slide.size:
            raise ValueError(f"{len(data)} bytes, its marker says {slide.size}")
        if hashlib.sha256(data).hexdigest() != slide.sha256:
            raise ValueError("its bytes are not those that its marker vouches for (SHA-256)")
        table = pq.ParquetFile(io.BytesIO(data)).read(names, use_threads=False)
        if table.num_rows != slide.tiles:
            raise ValueError(f"{table.num_rows} rows, its marker says {slide.tiles}")
        return columns.arrays(table, names)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DatasetError(f"{path}: {reason}; run `pathprep verify {dataset.root}`") from None


def tables(dataset: Folder, slides: list[Entry], names: list[str]) -> Iterator[Arrays]:
    """The columns of all slides that have tiles; a few tables are in memory at a time."""
    full = [slide for slide in slides if slide.tiles]
    step = 2 * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(full), step):
            yield from pool.map(lambda slide: columns_of(dataset, slide, names), full[start : start + step])

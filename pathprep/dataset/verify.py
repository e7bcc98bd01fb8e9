"""Checks a dataset to the byte: files against markers, index against tar, every tile's CRC."""

import errno
import tarfile
import zlib
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from pathprep.dataset import index_cache
from pathprep.dataset.failed import failed_of
from pathprep.dataset.marker import FileRecord, Marker, is_displaced, sealed_in
from pathprep.dataset.reader import Dataset
from pathprep.dataset.remaking import made_again
from pathprep.dataset.schema import FILLED, FOLDERS, SCHEMA, SUFFIXES, tile_key
from pathprep.dataset.tar import dali_index
from pathprep.errors import DatasetError, PathprepError, StoreError, why
from pathprep.storage import atomic, parquet
from pathprep.storage.base import Storage
from pathprep.words import counted

_RIGHT = "have the right to read it given to you"


@dataclass
class Findings:
    """What is wrong with one slide, or with the folder itself, a line each; ``tiles`` names bad tiles.

    ``lost``: its marker is damaged, so nobody knows what it was made from. ``displaced``: it was being made
    again by a process that died; its marker says what from. ``notes``: what is no fault of the dataset.
    """

    slide: str
    problems: list[str] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    checked: int = 0
    lost: bool = False
    displaced: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether all that is known to be wrong is that files may not be read."""
        return bool(self.problems) and not self.tiles and all(_RIGHT in line for line in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"slide": self.slide, "problems": self.problems, "tiles": self.tiles}


def verify(root: PurePath | str, threads: int = 2) -> Iterator[Findings]:
    """Check every committed slide, then the folder for files that belong to none.

    Yields:
        Findings per slide, in the order of names; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: not a dataset.
    """
    dataset = Dataset(root)
    storage, version = dataset.storage, dataset.info["version"]
    markers, lost = _markers(dataset)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda marker: check_slide(storage, marker, version), markers.values())
    yield from lost
    yield _check_folder(dataset, markers, {found.slide for found in lost})


def check_slide(storage: Storage, marker: Marker, version: int) -> Findings:
    """Check one committed slide: sizes, SHA-256, CRC of every tile, index against tar and DALI index.

    Args:
        storage: the dataset. marker: the slide's. version: of the dataset's format.
    """
    slide = marker.slide
    found = Findings(slide, check_files(storage, marker.files))
    with told(found, f"index/{slide}.parquet", "; tiles were not checked"):
        table = read_rows(storage, f"index/{slide}.parquet", SCHEMA, FILLED)
        rows = table.select(["x", "y", "offset", "length", "crc32"]).to_pylist()
        if len(rows) != marker.tiles:
            found.problems.append(
                f"index/{slide}.parquet: {counted(len(rows), 'row')}, the marker counts {marker.tiles}"
            )
        if rows:
            keys = [tile_key(slide, row["x"], row["y"], version) for row in rows]
            with told(found, f"shards/{slide}.tar"):
                _check_tar(storage, f"shards/{slide}.tar", rows, keys, found)
            with told(found, f"shards/{slide}.idx"):
                _check_idx(storage, f"shards/{slide}.idx", rows, keys, found)
    return found


def read_rows(storage: Storage, name: str, schema: pa.Schema, filled: Container[str]) -> pa.Table:
    """An index, all of its columns; see ``parquet.read``.

    Raises:
        ValueError: it is absent or damaged.
        OSError, PathprepError: it cannot be read.
    """
    data = storage.read(name)
    if data is None:
        raise ValueError("no such file")
    try:
        return parquet.read(data, schema=schema, filled=filled)
    except OSError as error:  # pyarrow's word for some damage
        raise ValueError(str(error)) from None


@contextmanager
def told(found: Findings, name: str, after: str = "") -> Iterator[None]:
    """Make a line of what reading a file fails with, unless it is there already, and go on behind it."""
    try:
        yield
    except (OSError, PathprepError, ValueError, KeyError, IndexError) as error:
        line = unread(name, error)
        if line not in found.problems:
            found.problems.append(line + after)


def unread(name: str, error: Exception, what: str = "read") -> str:
    """A line about a file that cannot be read, or a folder that cannot be ``listed``."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return f"{name}: cannot be {what} ({error.strerror}); {_RIGHT}"
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return f"{name}: cannot be {what} ({error.strerror}); the disk or the network fails there"
    return f"{name}: cannot be {what} ({why(error)})"


def check_files(storage: Storage, files: Mapping[str, FileRecord]) -> list[str]:
    """A line per file that has not the size and SHA-256 of its marker's entry, or cannot be read."""
    problems = []
    for name, entry in files.items():
        try:
            size = storage.size(name)
            if size < 0:
                problems.append(f"{name}: No such file or directory")
            elif size != entry.size:
                problems.append(f"{name}: {size} bytes, {entry.size} were written")
            elif storage.sha256(name) != entry.sha256:
                problems.append(f"{name}: its bytes have changed since it was written (SHA-256)")
        except (OSError, PathprepError) as error:
            problems.append(unread(name, error))
    return problems


def _check_tar(
    storage: Storage, name: str, rows: list[dict[str, Any]], keys: list[str], found: Findings
) -> None:
    """Every row of the index is a member with that name, place, size and CRC, and there are no others."""
    if storage.size(name) < 0:
        return  # reported already
    with storage.stream(name) as file:
        for row, key in zip(rows, keys, strict=True):
            tile = f"{key}.jpg"
            file.seek(row["offset"] - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
            data = file.read(row["length"])
            found.checked += 1
            try:
                member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
                same = member.name == tile and member.size == row["length"]
            except tarfile.HeaderError:
                same = False
            if not same:
                found.tiles.append(f"{tile}: the tar holds no such member at byte {row['offset']}")
            elif len(data) < row["length"] or zlib.crc32(data) != row["crc32"]:
                found.tiles.append(f"{tile}: damaged (CRC-32 differs from the index)")
        end = rows[-1]["offset"] + rows[-1]["length"]
        end += -end % tarfile.BLOCKSIZE
        file.seek(end)
        if file.read() != bytes(2 * tarfile.BLOCKSIZE):
            found.problems.append(f"{name}: does not end after the last tile of its index")


def _check_idx(
    storage: Storage, name: str, rows: list[dict[str, Any]], keys: list[str], found: Findings
) -> None:
    data = storage.read(name)
    if data is not None and data != dali_index(rows, keys):  # if it is absent, its size has told
        found.problems.append(f"{name}: differs from the index of tiles")


def _markers(dataset: Dataset) -> tuple[dict[str, Marker], list[Findings]]:
    """The committed slides of this build, in the order of names; and what is said of the other markers.

    These are damaged, or stand for slides that a process was about to replace when it died (or is now).
    """
    storage, markers, lost = dataset.storage, dict[str, Marker](), list[Findings]()
    build, secret = dataset.info["build_id"], "pseudonymised" in dataset.info
    cure = made_again(storage, dataset.kind, secret=secret)
    for name in own_files(storage, "slides"):
        slide = PurePath(name).stem
        if not name.endswith(".json"):
            continue
        try:
            marker = sealed_in(storage, name)
            if marker is None and storage.exists(name):
                lost.append(
                    Findings(
                        slide,
                        [f"{name}: damaged; {cure} makes it again; delete it if there is no such slide"],
                        lost=True,
                    )
                )
        except (OSError, PathprepError) as error:
            marker = None
            lost.append(Findings(slide, [unread(name, error)], lost=True))
        if marker is not None and marker.build_id == build:
            markers[slide] = marker
        elif marker is not None and is_displaced(marker, build):
            problem = f"{name}: its files were being replaced by a run that did not come to its end"
            lost.append(Findings(slide, [problem], displaced=True))
    return markers, lost


def own_files(storage: Storage, folder: str) -> list[str]:
    """The files of a folder that no writer has yet to rename.

    Raises:
        DatasetError: it may not be looked into, or its disk does not answer.
    """
    try:
        listed = storage.listing(folder)
    except OSError as error:
        raise DatasetError(unread(str(storage.root / folder), error, "listed")) from None
    return [info.name for info in listed if not info.last.startswith(atomic.PREFIX)]


def _check_folder(dataset: Dataset, markers: Mapping[str, Marker], lost: Container[str]) -> Findings:
    """An index of tiles that differs, and files that no committed slide owns: left over or foreign."""
    found, storage = Findings("(folder)"), dataset.storage
    # a damaged table, or one that cannot be read, is reported with its slide; the index is not compared
    with suppress(DatasetError, StoreError, OSError):
        found.problems += index_cache.check(dataset)
    owned = {name for marker in markers.values() for name in marker.files}
    owned |= {f"slides/{name}.json" for name in markers}
    for folder in FOLDERS:
        with told(found, folder):
            for name in storage.odd(folder):
                _tell_odd(name, SUFFIXES[folder], found)
            for info in storage.listing(folder):
                name, last = info.name, info.last
                if name in owned or last.partition(".")[0] in lost or _is_failed(storage, name, found):
                    continue
                if last.startswith(atomic.PREFIX):
                    found.problems.append(
                        f"{name}: temporary file of a killed run; the next `pathprep shard` removes it"
                    )
                elif last.rpartition(".")[2] not in SUFFIXES[folder]:  # no reader takes it for a part of it
                    found.notes.append(f"{name}: not of pathprep; left as it is")
                else:
                    found.problems.append(
                        f"{name}: belongs to no slide of this build; delete it, or run `pathprep shard` again"
                    )
    return found


def _tell_odd(name: str, suffixes: Container[str], found: Findings) -> None:
    """A line about what is no file: a fault where it lies in the place of one of the dataset's."""
    what = "not a file but a pipe, a device, a folder or a link to nothing"
    if name.rpartition(".")[2] in suffixes:
        found.problems.append(f"{name}: {what}; delete it, the next run writes it again if it is needed")
    else:
        found.notes.append(f"{name}: {what}, and not of pathprep; left as it is")


def _is_failed(storage: Storage, name: str, found: Findings) -> bool:
    """Whether a file is a quarantine; one that cannot be read, or is damaged, is told, and passed over."""
    if not name.startswith("failed/") or not name.endswith(".json"):
        return False
    if name.rpartition("/")[2].startswith(atomic.PREFIX):
        return False
    try:
        if failed_of(storage.read_json(name)) is None:
            found.problems.append(f"{name}: damaged; delete it, the next run writes it again if it is needed")
        return True
    except (OSError, PathprepError) as error:
        found.problems.append(unread(name, error))
        return True

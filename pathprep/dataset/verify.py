"""Checks a dataset to the byte: files against markers, index against tar, every tile's CRC."""

import tarfile
import zlib
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from pathprep.dataset import index_cache
from pathprep.dataset.marker import FileRecord, Marker, sealed_in
from pathprep.dataset.reader import Dataset
from pathprep.dataset.remaking import made_again
from pathprep.dataset.schema import FOLDERS, tile_key
from pathprep.dataset.tar import dali_index
from pathprep.errors import DatasetError
from pathprep.storage import atomic, parquet
from pathprep.storage.base import Storage


@dataclass
class Findings:
    """What is wrong with one slide, or with the folder itself, a line each; ``tiles`` names bad tiles.

    ``lost``: its marker is damaged, so nobody knows what it was made from. ``displaced``: it was being made
    again by a process that died; its marker says what from.
    """

    slide: str
    problems: list[str] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    checked: int = 0
    lost: bool = False
    displaced: bool = False

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
    with ThreadPoolExecutor(threads) as pool:
        version = dataset.info["version"]
        yield from pool.map(
            lambda name: check_slide(dataset.storage, dataset.markers[name], version), dataset.slides
        )
    rest = [*_displaced(dataset), *_lost(dataset)]
    yield from rest
    yield _check_folder(dataset, {found.slide for found in rest})


def check_slide(storage: Storage, marker: Marker, version: int) -> Findings:
    """Check one committed slide: sizes, SHA-256, CRC of every tile, index against tar and DALI index.

    Args:
        storage: the dataset. marker: the slide's. version: of the dataset's format.
    """
    slide = marker.slide
    found = Findings(slide, check_files(storage, marker.files))
    index = f"index/{slide}.parquet"
    try:
        wanted = ["x", "y", "offset", "length", "crc32"]
        rows = parquet.read(storage.read(index) or b"", wanted).to_pylist()
    except (OSError, pa.ArrowException) as error:
        found.problems.append(f"{index}: cannot be read ({error}); tiles were not checked")
        return found
    if len(rows) != marker.tiles:
        found.problems.append(f"index/{slide}.parquet: {len(rows)} rows, the marker counts {marker.tiles}")
    if rows:
        keys = [tile_key(slide, row["x"], row["y"], version) for row in rows]
        _check_tar(storage, f"shards/{slide}.tar", rows, keys, found)
        _check_idx(storage, f"shards/{slide}.idx", rows, keys, found)
    return found


def check_files(storage: Storage, files: Mapping[str, FileRecord]) -> list[str]:
    """A line per file that has not the size and SHA-256 of its marker's entry."""
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
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
    return problems


def _check_tar(
    storage: Storage, name: str, rows: list[dict[str, Any]], keys: list[str], found: Findings
) -> None:
    """Every row of the index is a member with that name, place, size and CRC, and there are no others."""
    try:
        file = storage.stream(name)
    except OSError:
        return  # reported by its size
    with file:
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


def _displaced(dataset: Dataset) -> list[Findings]:
    """Slides that a process was about to replace when it died, or that one is about to replace now."""
    problem = "slides/{}.json: its files were being replaced by a run that did not come to its end"
    return [Findings(name, [problem.format(name)], displaced=True) for name in dataset.displaced]


def _lost(dataset: Dataset) -> list[Findings]:
    """Slides whose markers are not as they were written."""
    storage, lost = dataset.storage, []
    for name in own_files(storage, "slides"):
        if name.endswith(".json") and sealed_in(storage, name) is None and storage.exists(name):
            problem = f"{name}: damaged; {made_again(dataset.storage, dataset.kind)} makes it again"
            lost.append(Findings(PurePath(name).stem, [problem], lost=True))
    return lost


def own_files(storage: Storage, folder: str) -> list[str]:
    """The files of a folder that no writer has yet to rename."""
    return [info.name for info in storage.listing(folder) if not info.last.startswith(atomic.PREFIX)]


def _check_folder(dataset: Dataset, rest: Container[str]) -> Findings:
    """An index of tiles that differs, and files that no committed slide owns: left over or foreign."""
    found = Findings("(folder)")
    # a damaged table is reported with its slide, and its index cannot be compared
    with suppress(DatasetError):
        found.problems += index_cache.check(dataset)
    owned = {name for marker in dataset.markers.values() for name in marker.files}
    owned |= {f"slides/{name}.json" for name in dataset.markers}
    owned |= {f"failed/{name}.json" for name in dataset.failed()}
    for folder in FOLDERS:
        for info in dataset.storage.listing(folder):
            name, last = info.name, info.last
            if name in owned or last.partition(".")[0] in rest:
                continue
            if last.startswith(atomic.PREFIX):
                found.problems.append(
                    f"{name}: temporary file of a killed run; the next `pathprep shard` removes it"
                )
            else:
                found.problems.append(
                    f"{name}: belongs to no slide of this build; delete it, or run `pathprep shard` again"
                )
    return found

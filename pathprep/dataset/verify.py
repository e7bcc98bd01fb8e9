"""Checks a dataset to the byte: files against markers, index against tar, every tile's CRC."""

import tarfile
import zlib
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset import index_cache as corpus
from pathprep.dataset.marker import Marker, read_sealed
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, sha256
from pathprep.dataset.tar import dali_index
from pathprep.errors import DatasetError
from pathprep.storage import atomic


@dataclass
class Findings:
    """What is wrong with one slide, or with the folder itself, a line each; ``tiles`` names bad tiles.

    ``lost``: its marker is damaged, so nobody knows what it was made from.
    """

    slide: str
    problems: list[str] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    checked: int = 0
    lost: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"slide": self.slide, "problems": self.problems, "tiles": self.tiles}


def verify(root: Path, threads: int = 2) -> Iterator[Findings]:
    """Check every committed slide, then the folder for files that belong to none.

    Yields:
        Findings per slide, in the order of names; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: not a dataset.
    """
    dataset = Dataset(root)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda name: check_slide(root, dataset.markers[name]), dataset.slides)
    lost = _lost(dataset)
    yield from lost
    yield _check_folder(dataset, {found.slide for found in lost})


def check_slide(root: Path, marker: Marker) -> Findings:
    """Check one committed slide: sizes, SHA-256, CRC of every tile, index against tar and DALI index."""
    slide = marker.slide
    found = Findings(slide)
    for name, entry in marker.files.items():
        try:
            size = (root / name).stat().st_size
        except OSError as error:
            found.problems.append(f"{name}: {error.strerror}")
            continue
        if size != entry.size:
            found.problems.append(f"{name}: {size} bytes, {entry.size} were written")
        elif sha256(root / name) != entry.sha256:
            found.problems.append(f"{name}: its bytes have changed since it was written (SHA-256)")
    index = root / "index" / f"{slide}.parquet"
    try:
        rows = pq.read_table(index, columns=["x", "y", "offset", "length", "crc32"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        found.problems.append(f"index/{slide}.parquet: cannot be read ({error}); tiles were not checked")
        return found
    if len(rows) != marker.tiles:
        found.problems.append(f"index/{slide}.parquet: {len(rows)} rows, the marker counts {marker.tiles}")
    if rows:
        _check_tar(root / "shards" / f"{slide}.tar", rows, found)
        _check_idx(root / "shards" / f"{slide}.idx", rows, found)
    return found


def _check_tar(path: Path, rows: list[dict[str, Any]], found: Findings) -> None:
    """Every row of the index is a member with that name, place, size and CRC, and there are no others."""
    try:
        file = path.open("rb")
    except OSError:
        return  # reported by its size
    with file:
        for row in rows:
            name = f"{row['x']}_{row['y']}.jpg"
            file.seek(row["offset"] - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
            data = file.read(row["length"])
            found.checked += 1
            try:
                member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
                same = member.name == name and member.size == row["length"]
            except tarfile.HeaderError:
                same = False
            if not same:
                found.tiles.append(f"{name}: the tar holds no such member at byte {row['offset']}")
            elif len(data) < row["length"] or zlib.crc32(data) != row["crc32"]:
                found.tiles.append(f"{name}: damaged (CRC-32 differs from the index)")
        end = rows[-1]["offset"] + rows[-1]["length"]
        end += -end % tarfile.BLOCKSIZE
        file.seek(end)
        if file.read() != bytes(2 * tarfile.BLOCKSIZE):
            found.problems.append(f"shards/{path.name}: does not end after the last tile of its index")


def _check_idx(path: Path, rows: list[dict[str, Any]], found: Findings) -> None:
    try:
        same = path.read_bytes() == dali_index(rows)
    except OSError:
        return  # reported by its size
    if not same:
        found.problems.append(f"shards/{path.name}: differs from the index of tiles")


def _lost(dataset: Dataset) -> list[Findings]:
    """Slides whose markers are not as they were written."""
    return [
        Findings(
            path.stem,
            [f"slides/{path.name}: damaged; the `pathprep` command that made the dataset makes it again"],
            lost=True,
        )
        for path in sorted((dataset.root / "slides").glob("*.json"))
        if not path.name.startswith(atomic.PREFIX) and read_sealed(path) is None and path.exists()
    ]


def _check_folder(dataset: Dataset, lost: Container[str]) -> Findings:
    """An index of tiles that differs, and files that no committed slide owns: left over or foreign."""
    found = Findings("(folder)")
    # a damaged table is reported with its slide, and its index cannot be compared
    with suppress(DatasetError):
        found.problems += corpus.check(dataset)
    owned = {name for marker in dataset.markers.values() for name in marker.files}
    owned |= {f"slides/{name}.json" for name in dataset.markers}
    owned |= {f"failed/{name}.json" for name in dataset.failed()}
    for folder in FOLDERS:
        for path in sorted((dataset.root / folder).glob("*")):
            name = f"{folder}/{path.name}"
            if name in owned or path.name.partition(".")[0] in lost:
                continue
            if path.name.startswith(atomic.PREFIX):
                found.problems.append(
                    f"{name}: temporary file of a killed run; the next `pathprep shard` removes it"
                )
            else:
                found.problems.append(
                    f"{name}: belongs to no slide of this build; delete it, or run `pathprep shard` again"
                )
    return found

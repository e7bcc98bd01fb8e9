"""Opening all tiles of a dataset at once: from its slides' tables if they are few, else from one index.

From ``MAPPED_FROM`` slides on, the tables are brought together once, in files that every process maps:

    tiles/current.json              which index belongs to the slides as they are
    tiles/<key>/slides.parquet      the committed slides: name, number of tiles, SHA-256 of their table
    tiles/<key>/<column>.npy        a column of all tiles (dataset.columns); made when it is first asked for
    tiles/lock  tiles/CACHEDIR.TAG  one process makes it while others wait; backups may leave it out

The key is a hash of the slides, their tables and the build id, so what lies under a key is right for it for
ever. Opening lists slides/ (names, sizes, times); if that differs from what current.json remembers, every
marker is read, and only other tables make another index. Each process compares what it opens with what was
written, once: current.json has a seal and the SHA-256 of slides.parquet, the arrays have sums at their end
(storage.sums). What is damaged is made again, and the log says so. The folder may be deleted at any time. A
process that has it mapped keeps what it has; on a network file system only if the deletion is not by another
machine, so do not add slides there to a dataset that other machines train on.

If the dataset's folder cannot be written, or is at a URL, the index is kept in $XDG_CACHE_HOME/pathprep (or
~/.cache/pathprep), in a folder per dataset and build, and the log says so if it
could not.
"""

import hashlib
import io
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset import columns
from pathprep.dataset.columns import Arrays
from pathprep.dataset.listing import (
    Entry,
    Folder,
    columns_of,
    committed,
    key_of,
    signature_of,
    slides_of,
    tables,
)
from pathprep.dataset.schema import SCHEMA, field
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import DatasetError, NoLocksError
from pathprep.storage import atomic, locks, parquet, regular
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed
from pathprep.words import counted

log = logging.getLogger(__name__)

FOLDER, TABLE, CURRENT, LOCK = "tiles", "slides.parquet", "current.json", "lock"
KEY = re.compile("[0-9a-f]{16}")
# Below this, reading the tables takes a fraction of a second, and a folder more is not worth it
MAPPED_FROM = 128
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by pathprep from index/; may be deleted.\n"


def tiles(dataset: Folder, names: Iterable[str]) -> TileIndex:
    """All tiles of a dataset.

    Args:
        names: columns of SCHEMA.

    Raises:
        DatasetError: a slide's table is not the one that its marker vouches for, or the index cannot be
            written anywhere.
        KeyError: no such column.
    """
    names = list(names)
    slides, arrays = _open(dataset, names)
    full = [(name, count) for name, count in slides.items() if count]
    starts = np.cumsum([0, *(count for _, count in full)], dtype=np.int64)
    regions = {name: arrays[name] for name in columns.REGION_FILES if name in arrays}
    return TileIndex(
        [name for name, _ in full],
        starts,
        {name: arrays[name] for name in names},
        {name.removeprefix("region_"): array for name, array in regions.items()},
    )


def tile_counts(dataset: Folder) -> dict[str, int]:
    """Committed slides of this build and their number of tiles, in the order of names; zero is among them."""
    return _open(dataset, [])[0]


def _open(dataset: Folder, names: list[str]) -> tuple[dict[str, int], Arrays]:
    """Number of tiles per slide, and the arrays that these columns take."""
    wanted = columns.files(names)
    for name in names:
        field(name)
    signature, count, _ = signature_of(dataset)
    if count < MAPPED_FROM:
        slides = committed(dataset)
        parts = (columns_of(dataset, slide, names) for slide in slides if slide.tiles)
        return {slide.name: slide.tiles for slide in slides}, columns.join(parts, names) if names else {}
    found = _current(dataset, signature, wanted, tell=True)
    if found is not None:
        return found
    home = _writable(dataset)
    with _locked(home):
        signature, _, settled = signature_of(dataset)
        found = _current(dataset, signature, wanted)  # made by another process meanwhile
        if found is not None:
            return found
        slides = committed(dataset)
        key = key_of(dataset, slides)
        folder = home / key
        try:
            table = _make(dataset, folder, slides, names)
            about = {"key": key, "signature": signature if settled else None, "slides": table}
            write_sealed(home / CURRENT, about)
        except OSError as error:
            raise DatasetError(
                f"{home}: the index of tiles cannot be written ({error.strerror}{_at(error)}); make room, or "
                "make this folder a link to one on another disk"
            ) from None
        found = _load(dataset, folder, table, wanted)
        _remove_others(folder)
    if found is None:  # the disk does not give back what was written
        raise DatasetError(f"{folder}: cannot be read just after it was written; check the disk")
    return found


def _remove_others(folder: Path) -> None:
    """Remove indexes of slides as they were; nothing else that someone may have put there."""
    for other in folder.parent.iterdir():
        if other != folder and KEY.fullmatch(other.name) and (other / TABLE).is_file():
            shutil.rmtree(other, ignore_errors=True)


def homes(dataset: Folder) -> list[Path]:
    """Where the index may lie: in the dataset, or else in the user's cache."""
    root = dataset.storage.root
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(os.fsencode(dataset.storage.absolute)).hexdigest()
    name = f"{dataset.info['build_id']}-{digest[:16]}"
    inside = [root / FOLDER] if isinstance(root, Path) else []
    return [*inside, cache / "pathprep" / name]


def _make(dataset: Folder, folder: Path, slides: list[Entry], names: list[str]) -> str:
    """Write what is missing or damaged under a key: the table of slides, and columns first asked for.

    Returns:
        SHA-256 of the table of slides.
    """
    total = sum(slide.tiles for slide in slides)
    folder.mkdir(exist_ok=True)
    atomic.sweep(folder)
    table = write_slides(folder, slides)
    missing = [name for name in names if _arrays(folder, columns.files([name]), slides_of(slides)) is None]
    if missing:
        about = f"{', '.join(missing)} of {counted(total, 'tile')} of {counted(len(slides))}"
        log.warning("%s: gathering %s in %s, once", dataset.storage, about, folder.parent)
        columns.write(folder, tables(dataset, slides, missing), missing)
    return table


def write_slides(folder: Path, slides: list[Entry]) -> str:
    """Write the table of slides, atomically; returns its SHA-256."""
    table = pa.table(
        {
            "name": pa.array([slide.name for slide in slides], pa.string()),
            "tiles": pa.array([slide.tiles for slide in slides], pa.int64()),
            "sha256": pa.array([slide.sha256 for slide in slides], pa.string()),
        }
    )
    data = io.BytesIO()
    pq.write_table(table, data, compression="zstd")
    atomic.write_bytes(folder / TABLE, data.getvalue())
    return hashlib.sha256(data.getvalue()).hexdigest()


def _current(
    dataset: Folder, signature: str, wanted: list[str], *, tell: bool = False
) -> tuple[dict[str, int], Arrays] | None:
    """What is there for the slides as they are listed; None if anything is missing or damaged.

    ``tell``: the log names what is damaged.
    """
    for home in homes(dataset):
        try:
            about = read_json(home / CURRENT)
        except OSError:
            continue
        if about is None or seal_of(about) is not Seal.WHOLE:
            if tell and (
                about is None or seal_of(about) is Seal.BROKEN
            ):  # before there were seals: no damage
                _tell(home / CURRENT)
            continue
        key = about.get("key")
        if about.get("signature") == signature and isinstance(key, str) and KEY.fullmatch(key):
            found = _load(dataset, home / key, about.get("slides"), wanted, tell=tell)
            if found is not None:
                return found
    return None


def _at(error: OSError) -> str:
    return "" if error.filename is None else f": {Path(str(error.filename)).name}"


def _tell(path: Path) -> None:
    if path.exists():
        log.warning("%s: damaged; it is made again", path)


def _load(
    dataset: Folder, folder: Path, sha256: object, wanted: list[str], *, tell: bool = False
) -> tuple[dict[str, int], Arrays] | None:
    """An index whose table of slides has this SHA-256; None if anything is missing or damaged."""
    try:
        data = regular.read(folder / TABLE)
        if hashlib.sha256(data).hexdigest() != sha256:
            if tell:
                _tell(folder / TABLE)
            return None
        table = parquet.read(data, ["name", "tiles", "sha256"]).to_pydict()
        slides = [Entry(name, tiles, 0, sha) for name, tiles, sha in zip(*table.values(), strict=True)]
    except (OSError, KeyError, pa.ArrowException):
        return None
    if key_of(dataset, slides) != folder.name:
        return None
    counts = slides_of(slides)
    arrays = _arrays(folder, wanted, counts, tell=tell)
    return None if arrays is None else (counts, arrays)


def _arrays(folder: Path, wanted: list[str], slides: dict[str, int], *, tell: bool = False) -> Arrays | None:
    """Files of an index, mapped; None if one of them is missing or damaged."""
    found: Arrays = {}
    lengths = {"region_ids": None, "region_starts": None, "region_ends": sum(map(bool, slides.values()))}
    for name in wanted:
        array = columns.mapped(folder / f"{name}.npy", name, lengths.get(name, sum(slides.values())))
        if array is None:
            if tell:
                _tell(folder / f"{name}.npy")
            return None
        found[name] = array
    if "region_ends" in found:
        regions = int(found["region_ends"][-1]) if len(found["region_ends"]) else 0
        if any(len(found[name]) != regions for name in ("region_ids", "region_starts")):
            return None
    return found


def _writable(dataset: Folder) -> Path:
    """The first home that takes files, made if absent.

    Raises:
        DatasetError: none does.
    """
    reasons = []
    for home in homes(dataset):
        try:
            home.mkdir(parents=True, exist_ok=True)
            if not (home / "CACHEDIR.TAG").exists():
                atomic.write_bytes(home / "CACHEDIR.TAG", TAG)
            # a link is not followed: it could lead to any file
            os.close(os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        except OSError as error:
            reasons.append(f"{home} cannot be written ({error.strerror})")
            continue
        if reasons:
            log.warning("%s: the index of tiles is kept in %s", reasons[0], home)
        return home
    raise DatasetError(
        f"{' and '.join(reasons)}: the index of tiles needs a place; set XDG_CACHE_HOME to one"
    )


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with ExitStack() as stack:
        # Where there are no locks, processes that come at once write the same bytes, each for itself
        with suppress(NoLocksError):
            stack.enter_context(locks.exclusive(home / LOCK, wait=True))
        yield


def check(dataset: Folder) -> list[str]:
    """Compare the index, if there is one for the slides as they are, with their tables: a line per bad file.

    Raises:
        DatasetError: a slide's table is damaged itself.
    """
    slides = committed(dataset)
    problems = []
    for home in homes(dataset):
        folder = home / key_of(dataset, slides)
        for path in (home / CURRENT, folder / TABLE):
            if os.path.lexists(path) and not path.is_file():
                problems.append(f"{path}: not a file; delete it, it is made again")
        names = [name for name in SCHEMA.names if (folder / f"{name}.npy").exists()]
        if not names:
            continue
        held = {n: _arrays(folder, columns.files([n]), slides_of(slides)) for n in names}
        bad = {name for name in names if held[name] is None}
        whole: Arrays = {}
        for arrays in held.values():
            whole |= arrays or {}
        places = dict.fromkeys(whole, 0)
        for part in columns.with_regions(tables(dataset, slides, [n for n in names if n not in bad])):
            for name, array in part.items():
                start, places[name] = places[name], places[name] + len(array)
                if not np.array_equal(whole[name][start : places[name]], array, equal_nan=True):
                    bad.add(name)
        problems += [
            f"{folder / name}.npy: differs from the slides' tables; delete {home}, it is made again"
            for name in sorted(bad)
        ]
    return problems

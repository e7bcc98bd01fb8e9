"""Whether two files are one slide: by their size, their first and last bytes, and where need be the rest."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ENDS = 1 << 16
# Files up to this are compared byte by byte, larger ones in PIECES pieces: no two scans agree in all of them
WHOLE = 1 << 28
PIECES = 512
METADATA = frozenset({".zattrs", ".zarray", ".zgroup", "zarr.json"})


def file_size(path: Path) -> int | None:
    """Bytes of a slide file, or of all files of a slide that is a folder; None if it is not there."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in parts(path))
        return path.stat().st_size
    except OSError:
        return None


def is_there(path: Path) -> bool:
    """Whether there is a file; one on a drive that has died is not, and is no error either."""
    return os.path.exists(path)  # noqa: PTH110, the other raises


def hash_of_ends(path: Path) -> str | None:
    """Hash of a file's first and last 64 KiB, where headers and tags stand; None if it is not there.

    Tells a slide that was replaced or patched from one that was only copied, at the cost of two reads.
    """
    try:
        if not path.is_file():  # a pipe would wait for a writer for ever
            return None
        with path.open("rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, path.stat().st_size - ENDS))
            return hashlib.sha256(head + file.read(ENDS)).hexdigest()
    except OSError:
        return None


def parts(path: Path) -> list[Path]:
    """The files of a slide: itself, of MRXS also those of its folder, of OME-Zarr all of a folder."""
    if path.is_dir():
        return sorted(Path(place, name) for place, _, names in os.walk(path) for name in names)
    if path.suffix.lower() != ".mrxs":
        return [path]
    try:
        return [path, *sorted(each for each in path.with_suffix("").iterdir() if each.is_file())]
    except OSError:
        return [path]


def measures_of_folder(path: Path) -> tuple[int | None, str | None]:
    """The same of a slide that is a folder of many small files: a hash of their names and sizes, and of all
    that its metadata say. A chunk that changes without changing its size is not noticed.
    """
    try:
        listed = [(each.relative_to(path).as_posix(), each.stat().st_size) for each in parts(path)]
        digest = hashlib.sha256(repr(listed).encode(errors="surrogateescape"))
        for name, _ in listed:
            if name.rpartition("/")[2] in METADATA:
                digest.update((path / name).read_bytes())
    except OSError:
        return None, None
    return (sum(size for _, size in listed), digest.hexdigest()) if listed else (None, None)


def measures(files: list[Path]) -> tuple[int | None, str | None]:
    """Bytes of a slide's files, and one hash of the ends of all of them; None if they are not there."""
    sizes, ends = [file_size(path) for path in files], [hash_of_ends(path) for path in files]
    if len(files) == 1:
        return sizes[0], ends[0]
    if None in sizes or None in ends:
        return None, None
    listed = "\n".join(f"{end} {size}" for end, size in zip(ends, sizes, strict=True))
    return sum(size or 0 for size in sizes), hashlib.sha256(listed.encode()).hexdigest()


def is_same(one: Path, other: Path) -> bool:
    """Whether two slide files are one: a link and its target, or a copy; False if one cannot be read."""
    mine, theirs = parts(one), parts(other)
    try:
        return len(mine) == len(theirs) and all(map(_same_file, mine, theirs))
    except OSError:
        return False


def _same_file(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    if not (one.is_file() and other.is_file()):
        return False
    size = one.stat().st_size
    if size != other.stat().st_size or hash_of_ends(one) != hash_of_ends(other):
        return False
    with one.open("rb") as first, other.open("rb") as second:
        return all(a == b for a, b in zip(_pieces(first, size), _pieces(second, size), strict=True))


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    step = ENDS if size <= WHOLE else max(ENDS, size // PIECES)
    for start in range(0, size, step):
        file.seek(start, os.SEEK_SET)
        yield file.read(ENDS)

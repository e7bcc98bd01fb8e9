"""Seals inside binary files (HDF5, Parquet): a text in the file's own metadata that holds hashes of the rest.

    pathprep-seal:<SHA-256 of all>:<SHA-256 of all but the bulk>:<start of the bulk>+<its length>

The second hash is of the file with zeros in place of both, the first with zeros in its own. The text is found
by its look, before any library of the format sees the file: libhdf5 can hang for ever on one flipped bit. The
second hash tells of a large file's names, shapes and attributes without reading its numbers.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

from pathprep.storage import regular
from pathprep.storage.seals import Seal

_WORDS = b"pathprep-seal:"
_SEAL = re.compile(
    re.escape(_WORDS) + rb"(?P<all>[0-9a-f]{64}):(?P<rest>[0-9a-f]{64}):(?P<start>\d{16})\+(?P<length>\d{16})"
)
_HASHES = re.compile(rb"[0-9a-f]{64}:[0-9a-f]{64}:")  # what is left where the words were hit
HEAD = 1 << 16  # bytes from the start, in which ``seal_in_head`` looks for it


def _text(all: str, rest: str, start: int, length: int) -> bytes:
    return _WORDS + f"{all}:{rest}:{start:016}+{length:016}".encode()


_ZEROS = "0" * 64
EMPTY = _text(_ZEROS, _ZEROS, 0, 0).decode()  # what a file is written with, for ``put``


def put(stream: BinaryIO, bulk: tuple[int, int] = (0, 0)) -> None:
    """Fill in the hashes of a finished file.

    Args:
        stream: readable and writable. bulk: start and length of what is large, in bytes; without the text.

    Raises:
        ValueError: EMPTY is not in it, or more than once.
    """
    stream.seek(0)
    data = bytearray(stream.read())
    if data.count(_WORDS) != 1 or (place := data.find(EMPTY.encode())) < 0:
        raise ValueError(f"{stream.name}: its text for a seal is not there once")
    start, length = (0, 0) if bulk[0] <= place < sum(bulk) else bulk
    data[place : place + len(EMPTY)] = _text(_ZEROS, _ZEROS, start, length)
    rest = hashlib.sha256(data[:start] + data[start + length :]).hexdigest()
    data[place : place + len(EMPTY)] = _text(_ZEROS, rest, start, length)
    stream.seek(place)
    stream.write(_text(hashlib.sha256(data).hexdigest(), rest, start, length))
    stream.flush()


def seal_in(data: bytes) -> Seal:
    """What the seal in a file's bytes tells; NONE if there is none, as in older files and those of others."""
    found = _SEAL.search(data)
    if found is None:
        return _missing(data)
    digest = hashlib.sha256(memoryview(data)[: found.start()])
    digest.update(_text(_ZEROS, found["rest"].decode(), int(found["start"]), int(found["length"])))
    digest.update(memoryview(data)[found.end() :])
    return Seal.WHOLE if digest.hexdigest().encode() == found["all"] else Seal.BROKEN


def seal_in_head(path: Path) -> Seal:
    """What the seal in a file's first HEAD bytes tells of all but the bulk, which is not read.

    Raises:
        OSError: it cannot be read.
    """
    with regular.open_regular(path) as file:
        head = file.read(HEAD)
        found = _SEAL.search(head)
        if found is None:
            return _missing(head)
        start, end = int(found["start"]), int(found["start"]) + int(found["length"])
        if start <= found.start() < end or end > os.fstat(file.fileno()).st_size:
            return Seal.BROKEN
        file.seek(0)
        before = file.read(start) if end > start else b""
        file.seek(end)
        data = before + file.read()
    place = found.start() if found.start() < start else found.start() - (end - start)
    size = found.end() - found.start()
    digest = hashlib.sha256(memoryview(data)[:place])
    digest.update(_text(_ZEROS, _ZEROS, start, end - start))
    digest.update(memoryview(data)[place + size :])
    return Seal.WHOLE if digest.hexdigest().encode() == found["rest"] else Seal.BROKEN


def _missing(data: bytes) -> Seal:
    return Seal.BROKEN if _WORDS in data or _HASHES.search(data) else Seal.NONE

"""Chunks of HDF5 that libhdf5 cannot take: a damaged index may say that one has no bytes.

Its Fletcher 32 takes 4 bytes of each for the checksum without asking whether they are there, and ends the
process (seen in HDF5 2.0). What is stored is therefore looked at first.
"""

from itertools import product
from typing import Any

CHECKSUM = 4  # bytes


def whole(stored: Any) -> Any:
    """All that an ``h5py.Dataset`` holds.

    Raises:
        ValueError: as of ``check``. Exception: it cannot be read.
    """
    check(stored)
    return stored[()]


def check(stored: Any, row: int | None = None) -> None:
    """Look at the stored sizes of the chunks of an ``h5py.Dataset``, without reading them.

    Args:
        row: of the first axis, to look at its chunks alone.

    Raises:
        ValueError: one that is stored has fewer bytes than any has, or where they are cannot be read.
    """
    if not stored.chunks or not stored.id.get_create_plist().get_nfilters():
        return
    try:
        chunks = _chunks(stored, row)
    except Exception as error:  # of a damaged index h5py raises what it happens to
        raise ValueError(f"its index of parts is damaged ({error})") from None
    for chunk in chunks:
        if chunk.byte_offset is not None and chunk.size <= CHECKSUM:
            raise ValueError(f"the part from {chunk.chunk_offset} on has {chunk.size} bytes")


def _chunks(stored: Any, row: int | None) -> list[Any]:
    found: list[Any] = []
    if row is None:
        stored.id.chunk_iter(found.append)
        return found
    sides = list(zip(stored.shape, stored.chunks, strict=True))[1:]
    first = row - row % stored.chunks[0]
    starts = product(*(range(0, size, step) for size, step in sides))
    return [stored.id.get_chunk_info_by_coord((first, *start)) for start in starts]

"""Chunks of HDF5 that libhdf5 cannot take: a damaged index may say that one has no bytes.

Its Fletcher 32 takes 4 bytes of each for the checksum without asking whether they are there, and ends the
process (seen in HDF5 2.0). What is stored is therefore looked at first.
"""

from itertools import product
from typing import Any

CHECKSUM = 4  # bytes


def check(stored: Any, row: int | None = None) -> None:
    """Look at the stored sizes of the chunks of an ``h5py.Dataset``, without reading them.

    Args:
        row: of the first axis, to look at its chunks alone.

    Raises:
        ValueError: one that is stored has fewer bytes than any has.
    """
    if not stored.chunks or not stored.id.get_create_plist().get_nfilters():
        return
    if row is None:
        found: list[Any] = []
        stored.id.chunk_iter(found.append)
    else:
        sides = list(zip(stored.shape, stored.chunks, strict=True))[1:]
        first = row - row % stored.chunks[0]
        starts = product(*(range(0, size, step) for size, step in sides))
        found = [stored.id.get_chunk_info_by_coord((first, *start)) for start in starts]
    for chunk in found:
        if chunk.byte_offset is not None and chunk.size <= CHECKSUM:
            raise ValueError(f"the part from {chunk.chunk_offset} on has {chunk.size} bytes")

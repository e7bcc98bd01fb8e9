"""Seals inside binary files: all of a file, or all but its bulk; one bit anywhere is found."""

from pathlib import Path

import pytest

from pathprep.storage.embedded_seal import EMPTY, put, seal_in, seal_in_head
from pathprep.storage.seals import Seal


@pytest.mark.parametrize("bulk", [(0, 0), (300, 100), (0, 20), (10, 400)])
def test_every_bit_counts(tmp_path: Path, bulk: tuple[int, int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(50)) + EMPTY.encode() + bytes(range(256)) * 2)
    with path.open("r+b") as stream:
        put(stream, bulk)
    whole = path.read_bytes()
    assert (seal_in(whole), seal_in_head(path)) == (Seal.WHOLE, Seal.WHOLE)
    missed = set()
    for place in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        assert seal_in(bytes(changed)) is Seal.BROKEN
        path.write_bytes(changed)
        if seal_in_head(path) is not Seal.BROKEN:
            missed.add(place // 8)
    place = whole.index(b"pathprep-seal:")
    inside = bulk[0] <= place < sum(bulk)  # then there is none
    hash_of_all = set(range(place + 14, place + 14 + 64))
    assert missed - hash_of_all == (set() if inside else set(range(bulk[0], sum(bulk))))


def test_files_without_one() -> None:
    assert seal_in(b"any" * 100) is Seal.NONE
    with pytest.raises(ValueError, match="not there once"), Path("/dev/null").open("rb") as stream:
        put(stream)

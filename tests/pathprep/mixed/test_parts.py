"""What a mix is made of: names in keys, tar headers, reads, passes."""

import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.mixing import content, write

from pathprep.errors import UsageError
from pathprep.mixed import format as mixed
from pathprep.mixed import make_pass
from pathprep.mixed.inputs import LONGEST_NAME, key_names
from pathprep.mixed.make import Job, mix, passes
from pathprep.storage.place import storage_at


def test_names_in_keys() -> None:
    long = "x" * 200
    [[first, second]] = key_names([[long, long + "y"]])
    assert first != second
    assert len(first) == len(second) == LONGEST_NAME
    with pytest.raises(UsageError, match="two slides would both be called a-1"):
        key_names([["a", "a-1"], ["a"]])


def test_headers_are_those_of_tarfile() -> None:
    names = ["a.jpg", "b" * 100, "TCGA-1__0_0.fit"]
    sizes = [0, 511, 2**31 - 1]
    for header, name, size in zip(mixed.headers(names, np.array(sizes)), names, sizes, strict=True):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        assert header.tobytes() == info.tobuf(tarfile.USTAR_FORMAT)


def test_a_read_may_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "d", {"a": 30})
    mix([root], tmp_path / "whole")
    real = os.preadv

    def short(file: int, buffers: list[memoryview], offset: int) -> int:
        return real(file, [buffers[0][:300]], offset)

    monkeypatch.setattr(os, "preadv", short)
    mix([root], tmp_path / "short")
    assert content(tmp_path / "whole") == content(tmp_path / "short")


def test_tiles_far_apart_are_read_by_separate_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(bytes(range(256)) * 20)
    offsets, expected = [0, 100, 1000, 1610, 1620, 1630, 1640], []
    for offset in offsets:
        expected.append(tar.read_bytes()[offset : offset + 10])
    calls, real = [], os.preadv

    def counted(file: int, buffers: list[memoryview], offset: int) -> int:
        calls.append((offset, sum(map(len, buffers))))
        return real(file, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(make_pass, "GAP", 600)
    monkeypatch.setattr(make_pass, "TILES_A_READ", 3)
    views = [memoryview(bytearray(10)) for _ in offsets]
    sums, storage = [zlib.crc32(data) for data in expected], storage_at(tmp_path)
    assert make_pass.read_tiles(storage, "a.tar", offsets, views, sums) is None
    assert [bytes(view) for view in views] == expected
    # two close together; too far; three are the most; what is left
    assert calls == [(0, 110), (1000, 630), (1630, 20)]
    assert make_pass.read_tiles(storage, "a.tar", offsets, views, [zlib.crc32(b"other")] * 7) == 0


def test_passes_fill_the_memory() -> None:
    jobs = [Job(number, np.arange(1), size) for number, size in enumerate([4, 5, 6, 1, 10])]
    assert [[job.number for job in batch] for batch in passes(jobs, 10)] == [[0, 1], [2, 3], [4]]

"""Whether two files are one slide."""

import os
from pathlib import Path

import numpy as np
import pytest

from pathprep.slides import identity
from pathprep.slides.find import SlideSource
from pathprep.slides.identity import ENDS, is_same


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("whole", [1 << 28, 1 << 18])
def test_copies_and_links(tmp_path: Path, whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "WHOLE", whole)
    data = np.random.default_rng(0).bytes(8 * ENDS + 5)
    a, copy = write(tmp_path / "a.svs", data), write(tmp_path / "copy.svs", data)
    (tmp_path / "soft.svs").symlink_to(a)
    os.link(a, tmp_path / "hard.svs")
    for other in (copy, tmp_path / "soft.svs", tmp_path / "hard.svs"):
        assert is_same(a, other)
    # equal at both ends, and not between
    other = bytearray(data)
    other[4 * ENDS] ^= 1
    assert not is_same(a, write(tmp_path / "b.svs", bytes(other)))
    assert not is_same(a, write(tmp_path / "c.svs", data + b"x"))
    assert not is_same(a, tmp_path / "absent.svs")


def test_an_mrxs_slide_is_its_folder_too(tmp_path: Path) -> None:
    def mrxs(name: str, data: bytes) -> Path:
        write(tmp_path / name / "Data0000.dat", data)
        return write(tmp_path / f"{name}.mrxs", b"thumbnail")

    a, b, c = mrxs("a", b"one"), mrxs("b", b"one"), mrxs("c", b"two")
    assert is_same(a, b)
    assert not is_same(a, c)
    assert SlideSource(a).inputs() == SlideSource(b).inputs()
    assert SlideSource(a).inputs() != SlideSource(c).inputs()

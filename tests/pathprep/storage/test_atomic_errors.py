"""What an error of a write says, and what a write cleans up."""

import errno
import os
from pathlib import Path

import pytest

from pathprep.errors import explain_os_error
from pathprep.storage import atomic


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_an_error_names_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """The system names none for a write or fsync, and the temporary one for a rename."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number), *([] if call != "replace" else [".tmp-x", None, "b"]))

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(atomic._Raw, "write", lambda self, data: _named_write(self, fails))
        else:
            patch.setattr(os, call, fails)
        with pytest.raises(OSError, match=str(path)) as caught:
            atomic.write_bytes(path, b"new" * 100_000)
    assert explain_os_error(caught.value).startswith(f"{path}: {os.strerror(number)}")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def _named_write(raw: atomic._Raw, fails: object) -> int:
    with atomic.named(raw.final):
        assert callable(fails)
        fails()
    return 0


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    """/dev/full takes nothing: the file's own write is what fails."""
    raw = atomic._Raw("/dev/full", "r+b")
    raw.final = tmp_path / "a.tar"
    with raw, pytest.raises(OSError, match="a.tar") as caught:
        raw.write(b"x" * 100_000)
    assert explain_os_error(caught.value).startswith(f"{tmp_path / 'a.tar'}: No space left on device")


def test_a_file_whose_size_cannot_be_set_is_named(tmp_path: Path) -> None:
    """h5py sets it; of a device the system refuses that."""
    raw = atomic._Raw("/dev/full", "r+b")
    raw.final = tmp_path / "a.h5"
    with raw, pytest.raises(OSError, match="a.h5"):
        raw.truncate(10)


def test_a_disk_that_may_not_remove_either_tells_the_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", lambda _: fails(errno.ENOSPC))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: fails(errno.EROFS))
    with pytest.raises(OSError, match="No space left"):
        atomic.write_bytes(tmp_path / "a", b"x")


def test_what_a_dead_writer_left_of_a_file_goes_with_its_next_write_and_nothing_else(tmp_path: Path) -> None:
    dead = [atomic._temporary(tmp_path / name) for name in ("page.html", "other.html")]
    for path in dead:
        path.write_text("half")
    (tmp_path / ".tmp-mine").write_text("of a stranger")
    atomic.write_alone(tmp_path / "page.html", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", dead[1].name, ".tmp-mine"}

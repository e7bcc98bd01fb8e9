"""The rooms that every command which writes shares: seals, confined paths, locks, private folders."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pathprep.errors import BusyError, OutsideError, UsageError
from pathprep.storage.confined import inside
from pathprep.storage.locks import exclusive
from pathprep.storage.private import private_folder
from pathprep.storage.seals import Seal, seal_of, sealed, write_sealed


def test_every_flipped_bit_of_a_sealed_file_is_found(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"version": 2, "names": ["ä", "b"], "part": {"x": 1.5, "none": None}})
    data = (tmp_path / "a.json").read_bytes()
    whole = json.loads(data)
    assert seal_of(whole) is Seal.WHOLE
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            values = json.loads(bytes(flipped))
        except ValueError:
            continue
        # without a seal, a version that must have one tells; blanks may turn into other blanks
        assert values == whole or seal_of(values) is Seal.BROKEN or "seal" not in values


def test_a_seal_is_made_anew() -> None:
    once = sealed({"a": 1})
    assert sealed({**once, "a": 2})["seal"] != once["seal"]
    assert seal_of({"a": 1}) is Seal.NONE


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../b", "a/../../b", "a\0b", "..", "out/x", "loop/x"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    if name == "loop/x":  # which leads nowhere
        assert inside(root, name) == root / name
        return
    with pytest.raises(OutsideError, match="root"):
        inside(root, name)


def test_names_within_are_taken_with_links_that_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    assert inside(tmp_path, "a/x.tar") == tmp_path / "a/x.tar"
    assert inside(tmp_path, "b/x.tar") == tmp_path / "b/x.tar"
    assert inside(tmp_path, "..hidden") == tmp_path / "..hidden"


def test_a_lock_is_for_one_process_and_names_its_holder(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from pathprep.storage.locks import exclusive\n"
    code += "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / ".lock"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=f"process {other.pid} on .* is writing there"),
            exclusive(tmp_path / ".lock"),
        ):
            pass
        other.kill()
    with exclusive(tmp_path / ".lock"):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} ")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic links"), exclusive(tmp_path / ".lock"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_private_folder(tmp_path: Path) -> None:
    assert private_folder(tmp_path / "a").stat().st_mode & 0o777 == 0o700
    (tmp_path / "a").chmod(0o777)
    assert private_folder(tmp_path / "a").stat().st_mode & 0o777 == 0o700
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").touch()
    for name in "bc":
        with pytest.raises(UsageError, match="not a folder"):
            private_folder(tmp_path / name)
    if os.getuid() == 0:
        os.chown(tmp_path / "a", 12345, 12345)
        with pytest.raises(UsageError, match="another user"):
            private_folder(tmp_path / "a")


def test_a_full_disk_does_not_keep_from_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is for who must wait; without it the holder is another process."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "ftruncate", full)
    with (
        exclusive(tmp_path / ".lock"),
        pytest.raises(BusyError, match="another process is writing there"),
        exclusive(tmp_path / ".lock"),
    ):
        pass


def test_a_lock_that_cannot_be_closed_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk may say so when a file is closed, after the error that is to be told."""
    close = io.TextIOWrapper.close

    class Full(io.TextIOWrapper):
        def close(self) -> None:
            close(self)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        os, "fdopen", lambda number, *_, **__: Full(io.BufferedRandom(io.FileIO(number, "r+")))
    )
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / ".lock"):
        raise ZeroDivisionError


def test_a_lock_that_cannot_be_removed_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has become read-only: what it kept from being written is told, not the lock."""

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock", stays=False):
        raise ZeroDivisionError

"""Folders that are replaced at once: whatever fails or is killed, there is the old one or the new one."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pathprep.storage import atomic, locks, whole_folder
from pathprep.storage.whole_folder import publish_folder

OWN = ("one", "two")


def write(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in OWN:
            (folder / name).write_text(text)

    return make


def state(path: Path) -> set[str]:
    return {(path / name).read_text() for name in OWN}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    publish_folder(tmp_path / "place", write("old"), OWN)
    (tmp_path / "place" / "notes.txt").write_text("mine")
    (tmp_path / "place" / "sub").mkdir()
    (tmp_path / "place" / "sub" / "table.csv").write_text("mine too")
    (tmp_path / "place" / "link").symlink_to("notes.txt")
    return tmp_path / "place"


def kept(place: Path) -> bool:
    return (
        (place / "notes.txt").read_text() == (place / "link").read_text() == "mine"
        and (place / "sub" / "table.csv").read_text() == "mine too"
        and (place / "link").is_symlink()
    )


@pytest.mark.parametrize("exchanges", [True, False])
def test_replaced_and_foreign_files_stay(
    place: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(whole_folder, "exchange", lambda *_: False)
    publish_folder(place, write("new"), OWN)
    assert state(place) == {"new"}
    assert kept(place)
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_what_a_killed_writer_had_not_finished_goes(place: Path) -> None:
    """A file that it was writing is its own, and none of the user's."""
    left = whole_folder._temporary(place, "new")
    left.mkdir()
    for name, data in (("one", "half"), (f"{atomic.PREFIX}host~1.x.y~two", "half"), ("mine.txt", "mine")):
        (left / name).write_text(data)
    publish_folder(place, write("new"), OWN)
    assert state(place) == {"new"}
    assert sorted(path.name for path in place.iterdir()) == [
        "link", "mine.txt", "notes.txt", "one", "sub", "two",
    ]  # fmt: skip
    assert kept(place)


def test_a_link_to_a_folder_stays_one(place: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(place)
    publish_folder(tmp_path / "here" / "link", write("new"), OWN)
    assert (tmp_path / "here" / "link").is_symlink()
    assert state(place) == {"new"}


KILLED = """
import os, sys
from pathlib import Path
from pathprep.storage import whole_folder

left = int(sys.argv[2])
place = Path(sys.argv[1])
def trace(frame, event, _):
    global left
    if frame.f_code.co_filename == whole_folder.__file__:
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return trace
if sys.argv[3] == "False":
    whole_folder.exchange = lambda *_: False
def make(folder):
    for name in ("one", "two"):
        (folder / name).write_text("new")
sys.settrace(trace)
whole_folder.publish_folder(place, make, ("one", "two"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_every_line(place: Path, exchanges: bool, tmp_path: Path) -> None:
    """A process that ends at a line of this module; then whoever writes next finds all in its place."""
    killed, seen = 0, set()
    for line in range(5, 400, 5):
        command = [sys.executable, "-c", KILLED, str(place), str(line), str(exchanges)]
        code = subprocess.run(command, check=False).returncode
        if exchanges:
            assert len(state(place)) == 1
            seen |= state(place)
            assert kept(place)
        publish_folder(place, write("old"), OWN)
        assert state(place) == {"old"}
        assert kept(place), line
        assert [path.name for path in tmp_path.iterdir()] == ["place"]
        if code == 0:
            break
        killed += code == 9
    else:
        raise AssertionError("it never came to its end")
    assert killed > 5
    assert not exchanges or seen == {"old", "new"}


@pytest.mark.parametrize(
    "call", ["pathlib.Path.mkdir", "os.link", "pathprep.storage.whole_folder.exchange", "os.fsync"]
)
def test_an_error_of_the_system_leaves_the_old_one(
    place: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), str(place))

    with monkeypatch.context() as patch:
        patch.setattr(call, fails)
        if call == "os.link":  # a file system without links, or full: then a copy
            patch.setattr("shutil.copy2", fails)
        with pytest.raises(OSError, match="No space left"):
            publish_folder(place, write("new"), OWN)
    assert state(place) == {"old"}
    assert kept(place)
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_where_a_folder_cannot_be_renamed_the_old_one_comes_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if "~new~" in self.name:
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(whole_folder, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        publish_folder(place, write("new"), OWN)
    assert state(place) == {"old"}
    assert kept(place)


def test_others_in_the_same_folder_are_left_alone(place: Path) -> None:
    other = place.with_name(".tmp-host~1.00000000~new~another")
    other.mkdir()
    publish_folder(place, write("new"), OWN)
    assert other.is_dir()


def test_a_lock_that_does_not_stay_is_one_all_the_same(tmp_path: Path) -> None:
    """Twelve processes add one to a number in turn."""
    (tmp_path / "number").write_text("0")
    code = (
        "import sys, time; from pathlib import Path; from pathprep.storage import locks\n"
        "root = Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with locks.exclusive(root / 'lock', wait=True, stays=False):\n"
        "        n = int((root / 'number').read_text()); time.sleep(.001)\n"
        "        (root / 'number').write_text(str(n + 1))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(12)]
    assert {process.wait() for process in processes} == {0}
    assert (tmp_path / "number").read_text() == "240"
    assert not (tmp_path / "lock").exists()
    with locks.exclusive(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").exists()


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))

    with pytest.raises(OSError, match="No space left") as caught:
        publish_folder(tmp_path / "model", full, {"model.safetensors"})
    assert caught.value.filename == str(tmp_path / "model" / "model.safetensors")
    assert not (tmp_path / "model").exists()


def test_an_old_one_that_cannot_be_removed_is_told_and_goes_with_the_next_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: object, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", "one")

    with monkeypatch.context() as patch:
        patch.setattr(whole_folder.shutil, "rmtree", fails)
        with pytest.raises(PermissionError, match=f"Permission denied: '{place}'"):
            publish_folder(place, write("new"), OWN)
    assert state(place) == {"new"}
    assert kept(place)
    publish_folder(place, write("newer"), OWN)
    assert [path.name for path in place.parent.iterdir()] == ["place"]

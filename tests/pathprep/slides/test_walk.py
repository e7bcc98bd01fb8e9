"""Every file below a folder is a slide, or is counted with the reason why it is none."""

import errno
import os
from collections import Counter
from pathlib import Path

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.errors import UsageError
from pathprep.slides.find import find, look
from pathprep.slides.walk import Left, walk


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def seen(folder: Path) -> tuple[list[str], list[Left]]:
    left: list[Left] = []
    slides = walk(folder, left.append)
    return [path.relative_to(folder).as_posix() for path in slides], left


def test_every_file_is_taken_or_counted(tmp_path: Path) -> None:
    slides = ["a.svs", "deep/er/b.NDPI", "c.czi", "d.mrxs"]
    others = {
        "x.isyntax": True, "scan.vsi": True, "all.zip": True, "e.svs.part": True,
        "label.jpg": False, "g.webp": False, "h.jp2": False, "i.bmp": False, "Thumbs.db": False,
        "meta.xml": False, "j.json": False, "k": False, "l.unheard": False, ".hidden.svs": False,
        "d/Slidedat.ini": False, "d/Data0000.dat": False,
    }  # fmt: skip
    for name in (*slides, *others):
        touch(tmp_path / name)
    found, left = seen(tmp_path)
    assert found == sorted(slides)
    assert {each.path.relative_to(tmp_path).as_posix(): each.notable for each in left} == others
    said = str(look([tmp_path]).left)
    assert said.startswith("16 files not taken: ")
    assert "1 .isyntax (slides of a format that is not read; convert them to TIFF or DICOM, such as" in said
    assert len(said) < 700
    listed = look([tmp_path]).left.as_dict()
    assert sum(int(str(each["files"])) for each in listed) == len(others)


def test_an_empty_folder_says_what_lies_there(tmp_path: Path) -> None:
    touch(tmp_path / "a.isyntax")
    with pytest.raises(
        UsageError, match=r"no slides in this folder \(looked for .*\.czi .*; 1 file not taken"
    ):
        find([tmp_path])


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "archive" / "one.svs")
    touch(tmp_path / "disk2" / "two.svs")
    (tmp_path / "archive" / "batch2").symlink_to("../disk2")
    (tmp_path / "disk2" / "back").symlink_to("../archive")
    (tmp_path / "archive" / "again").symlink_to("batch2")
    (tmp_path / "archive" / "self").symlink_to(".")
    (tmp_path / "archive" / "a").symlink_to("z")  # the folder itself is preferred to the link
    touch(tmp_path / "archive" / "z" / "three.svs")
    found, left = seen(tmp_path / "archive")
    assert sorted(Path(name).name for name in found) == ["one.svs", "three.svs", "two.svs"]
    assert "z/three.svs" in found
    assert Counter(each.kind for each in left) == {"linked folder": 4}


def test_broken_links_and_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "gone.svs").symlink_to("nowhere")
    (tmp_path / "loop.svs").symlink_to("loop.svs")
    os.mkfifo(tmp_path / "pipe.svs")
    found, left = seen(tmp_path)
    assert found == []
    assert {each.kind: each.notable for each in left} == {
        "broken link": True,
        "pipe, socket or device": False,
    }


def test_slides_that_lost_their_ending(tmp_path: Path) -> None:
    whole = write_tiff(tmp_path / "a.tif", tissue(128, 128), levels=1).read_bytes()
    touch(tmp_path / "lost", whole)
    touch(tmp_path / "S19.1234", whole)
    touch(tmp_path / "other.qptiff", whole)
    touch(tmp_path / "text", b"no slide")
    found, left = seen(tmp_path)
    assert found == ["S19.1234", "a.tif", "lost"]
    assert {each.path.name: each.notable for each in left} == {"other.qptiff": True, "text": False}


def test_datasets_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    touch(tmp_path / "ds" / "dataset.json")
    touch(tmp_path / "ds" / "shards" / "a.tar")
    found, left = seen(tmp_path)
    assert found == ["a.svs"]
    assert [each.kind for each in left] == ["dataset folder"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOTCONN])
def test_what_lies_on_a_dead_drive_costs_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One stale handle ended the walk over all files (sjl/peat#2)."""
    for name in ("a.svs", "dead.svs", "dead.zip", "z/c.svs"):
        touch(tmp_path / name)
    linked = touch(tmp_path.parent / f"{tmp_path.name}-drive" / "far.svs")
    (tmp_path / "linked.svs").symlink_to(linked)
    real, scan = os.stat, os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry = entry
            self.dead = entry.name.startswith(("dead", "linked"))

        def __getattr__(self, name: str) -> object:
            if self.dead and name in ("stat", "is_dir", "is_file"):
                raise OSError(number, os.strerror(number), self.entry.path)
            return getattr(self.entry, name)

    class Listing:
        def __init__(self, place: Path) -> None:
            self.listing = scan(place)

        def __enter__(self) -> list[Entry]:
            return [Entry(entry) for entry in self.listing]

        def __exit__(self, *_: object) -> None:
            self.listing.close()

    def dying(path: object, *args: object, **more: object) -> os.stat_result:
        if str(path) == str(linked) or Path(str(path)).name.startswith(("dead", "linked")):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "scandir", Listing)
    monkeypatch.setattr(os, "stat", dying)
    found = look([tmp_path])
    assert [each.path.name for each in found.slides] == ["a.svs", "dead.svs", "linked.svs", "c.svs"]
    assert f"cannot be looked at: {os.strerror(number)}" in str(found.left)
    assert found.left.notable

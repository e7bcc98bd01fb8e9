"""What is found in a folder of images, and what is said of the rest."""

from pathlib import Path

import pytest
from helpers.tilesets import folders, tile, write_csv

from pathprep.errors import UsageError
from pathprep.tilesets import walk
from pathprep.tilesets.find import find


def test_every_kind_of_image_is_found_and_the_rest_is_counted(tmp_path: Path) -> None:
    names = ["a/1.png", "a/2.BMP", "b/3.webp", "b/4.gif", "c/5.jp2", "c/6.tif", "c/7.JPG"]
    folders(tmp_path, {name: tile(n) for n, name in enumerate(names)})
    for name in ("d/8.npy", "d/9.npy", "d/10.svs", "a/none", "a/readme.txt", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found, notes = walk.images(tmp_path)
    assert found == sorted(names)
    assert len(notes) == 1
    assert notes[0].startswith("4 files left out, no image that is read: .npy 2, ")
    tiles = find(tmp_path)
    assert {item.label for item in tiles.items} == {"a", "b", "c"}
    assert any(note == "Folders without an image that is read: d (1 in all)" for note in tiles.notes)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"a/1.png": tile(1), "b/2.png": tile(2)})
    folders(tmp_path / "disk", {"3.png": tile(3), "deep/4.png": tile(4)})
    (root / "c").symlink_to(tmp_path / "disk")
    (root / "a" / "up").symlink_to(root)
    (tmp_path / "disk" / "deep" / "self").symlink_to(tmp_path / "disk")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    found, notes = walk.images(root)
    assert found == ["a/1.png", "b/2.png", "c/3.png", "c/deep/4.png"]
    assert notes == [
        "2 links left out, a way back to a folder above: a/up, c/deep/self",
        "1 link left out, broken: gone",
    ]


def test_a_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.npy").write_bytes(b"")
    with pytest.raises(
        UsageError, match=r"no images in this folder \(looked for .png .*; there are .npy 1\)"
    ):
        walk.images(tmp_path)


@pytest.mark.parametrize(
    "header", ["file,label,case_id", "image_id,class,PatientID", "File Name,Label,patient"]
)
def test_labels_as_other_tools_write_them(header: str, tmp_path: Path) -> None:
    folders(tmp_path, {f"images/{n}.png": tile(n) for n in range(4)})
    rows = [("0.png", "IDC", "p1"), ("1", "nan", "p1"), ("images/2.png", "ILC", "NA"), ("3", "1.0", "p2")]
    write_csv(tmp_path / "labels.csv", header.split(","), rows)
    tiles = find(tmp_path)
    assert [(item.source, item.label, item.group) for item in tiles.items] == [
        ("images/0.png", "IDC", "p1"),
        ("images/1.png", None, "p1"),
        ("images/2.png", "ILC", None),
        ("images/3.png", "1", "p2"),
    ]
    assert "1 image has no label in labels.csv (nan 1): imported without" in tiles.notes


def test_classes_that_differ_in_capitals_are_refused(tmp_path: Path) -> None:
    folders(tmp_path, {f"{n}.png": tile(n) for n in range(2)})
    write_csv(tmp_path / "labels.csv", ("file", "label"), [("0.png", "Tumor"), ("1.png", "tumor")])
    with pytest.raises(UsageError, match="'Tumor' and 'tumor' differ in capitals only"):
        find(tmp_path)


def test_folders_that_link_to_each_other_are_looked_through_once(tmp_path: Path) -> None:
    # every folder links to every other: a walk that follows them all never ends
    names = [f"f{n}" for n in range(12)]
    folders(tmp_path, {f"{name}/{n}.png": tile(n) for n, name in enumerate(names)})
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    found, notes = walk.images(tmp_path)
    assert found == sorted(f"{name}/{n}.png" for n, name in enumerate(names))
    assert notes == ["132 links left out, another way to a folder that is taken: f0/to_f1, f0/to_f10, ..."]


def test_a_folder_behind_several_links_is_taken_by_the_first(tmp_path: Path) -> None:
    folders(tmp_path / "disk", {"1.png": tile(1), "deep/2.png": tile(2)})
    root = folders(tmp_path / "set", {"own/3.png": tile(3)})
    for name in ("b", "a", "c"):
        (root / name).symlink_to(tmp_path / "disk")
    (root / "d").symlink_to(tmp_path / "disk" / "deep")
    found, notes = walk.images(root)
    assert found == ["a/1.png", "a/deep/2.png", "own/3.png"]
    assert notes == ["3 links left out, another way to a folder that is taken: b, c, ..."]


def test_a_file_of_several_names_is_taken_once_by_its_own(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"b/own.png": tile(1), "c/x.png": tile(2)})
    (root / "a").mkdir()
    (root / "a" / "link.png").symlink_to(root / "b" / "own.png")
    (root / "c" / "y.png").hardlink_to(root / "c" / "x.png")
    found, notes = walk.images(root)
    assert found == ["b/own.png", "c/x.png"]
    assert notes == [
        "2 files left out, another name of a file that is taken: a/link.png is b/own.png, c/y.png is c/x.png"
    ]


def test_a_link_to_a_picture_has_the_class_of_its_own_folder(tmp_path: Path) -> None:
    # huggingface/datasets, report 5098: it got that of the folder that the picture lies in. DVC and git-annex
    # keep all pictures in a hidden folder and put links into the classes
    root, store = tmp_path / "set", tmp_path / "set" / ".store"
    folders(store, {f"{n}.png": tile(n) for n in range(4)})
    for n in range(4):
        (root / "xy"[n % 2]).mkdir(exist_ok=True)
        (root / "xy"[n % 2] / f"{n}.png").symlink_to(store / f"{n}.png")
    found = {item.source: item.label for item in find(root).items}
    assert found == {"x/0.png": "x", "y/1.png": "y", "x/2.png": "x", "y/3.png": "y"}


@pytest.mark.parametrize("name", ["../other/1.png", "/etc/passwd", "a/../../other/1.png", "..\\other\\1.png"])
def test_a_table_cannot_name_files_outside_of_the_folder(name: str, tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"a/1.png": tile(1), "b/2.png": tile(2)})
    folders(tmp_path / "other", {"1.png": tile(3), "9.png": tile(3)})
    write_csv(root / "labels.csv", ("file", "label"), [("a/1.png", "x"), (name.replace("1", "9"), "y")])
    with pytest.raises(UsageError, match=r"labels\.csv, line 3: .* is outside .*set; .* link to that folder"):
        find(root)


def test_absolute_names_of_the_sets_own_files_are_taken(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"a/1.png": tile(1), "b/2.png": tile(2)})
    rows = [(root / "a" / "1.png", "x"), (root / "b" / "2.png", "y"), (root / "b" / "gone.png", "y")]
    write_csv(root / "labels.csv", ("file", "label"), rows)
    assert [item.source for item in find(root).items] == ["a/1.png", "b/2.png", "b/gone.png"]


def test_a_table_that_names_a_file_by_two_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"a/1.png": tile(1), "b/2.png": tile(2)})
    (root / "b" / "3.png").symlink_to(root / "a" / "1.png")
    rows = [("a/1.png", "x"), ("b/2.png", "y"), ("b/3.png", "x")]
    write_csv(root / "labels.csv", ("file", "label"), rows)
    tiles = find(root)
    assert [item.source for item in tiles.items] == ["a/1.png", "b/2.png"]
    assert "1 file left out, another name of a file that is taken: b/3.png is a/1.png" in tiles.notes
    write_csv(root / "labels.csv", ("file", "label"), [*rows[:2], ("b/3.png", "y")])
    with pytest.raises(UsageError, match=r"labels\.csv, line 4: b/3\.png is the file of line 2, a/1\.png"):
        find(root)

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
    assert "1 images have no label in labels.csv (nan 1): imported without" in tiles.notes


def test_classes_that_differ_in_capitals_are_refused(tmp_path: Path) -> None:
    folders(tmp_path, {f"{n}.png": tile(n) for n in range(2)})
    write_csv(tmp_path / "labels.csv", ("file", "label"), [("0.png", "Tumor"), ("1.png", "tumor")])
    with pytest.raises(UsageError, match="'Tumor' and 'tumor' differ in capitals only"):
        find(tmp_path)

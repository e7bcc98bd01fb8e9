"""Layouts in which tile sets are published: the right pixels and labels, or a line that says why not."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.tilesets import folders, importing, mhist, pcam, rows_of, saved, sound, stored, tile, write_csv
from PIL import Image

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.images import jpeg
from pathprep.params.stain import StainParams
from pathprep.storage.tables import Columns
from pathprep.tilesets import images, run
from pathprep.tilesets.find import find

# webdataset leaves its file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


GROUPS = ("tumor_001", "normal_002", "tumor_001", "normal_003", "normal_002", "normal_003")


@pytest.mark.usefixtures("here")
def test_pcam_with_its_slides_as_groups(tmp_path: Path) -> None:
    made = pcam(tmp_path / "pcam", "train", [1, 0, 0, 1, 0, 1], GROUPS)
    pcam(tmp_path / "pcam", "test", [1, 0], ("t", "t"), seed=50)
    summary = importing(tmp_path / "pcam", tmp_path / "out", split="train", mpp=0.972)
    found = rows_of(tmp_path / "out")
    assert (summary.failures, run.damaged(summary), len(found)) == ({}, [], 6)
    for number, (label, group) in enumerate(zip("100101", GROUPS, strict=True)):
        row = found[f"camelyonpatch_level_2_split_train_x.h5#{number}"]
        assert (row["label"], row["group"], row["jpg"]) == (label, group, stored(made[number]))
        assert (row["stored"], row["side"], row["mpp"], row["y"]) == (32, 32, 0.972, 0)
        assert (row["column"], row["region"], row["tissue"], row["stain_status"]) == (
            None,
            None,
            None,
            "none",
        )
    assert {row["shard"] for row in found.values()} == {"pcam-train-00000", "pcam-train-00001"}
    for group in GROUPS:  # no group in two shards
        assert len({row["shard"] for row in found.values() if row["group"] == group}) == 1
    assert sound(tmp_path / "out")


@pytest.mark.usefixtures("here")
def test_pcam_without_slides_keeps_its_order(tmp_path: Path) -> None:
    made = pcam(tmp_path / "pcam", "valid", [0, 1, 0, 1, 1])
    source = tmp_path / "pcam" / "camelyonpatch_level_2_split_valid_x.h5"
    assert any("no groups" in note for note in find(source).notes)
    importing(source, tmp_path / "out")
    found = list(rows_of(tmp_path / "out").values())
    assert [row["jpg"] for row in found] == [stored(pixels) for pixels in made]
    assert [row["shard"][-11:] for row in found] == ["valid-00000"] * 4 + ["valid-00001"]
    assert found[0]["group"] is None


@pytest.mark.usefixtures("here")
def test_a_damaged_chunk_costs_its_rows(tmp_path: Path) -> None:
    pcam(tmp_path / "pcam", "test", [0, 1, 0], ("a", "a", "b"))
    path = tmp_path / "pcam" / "camelyonpatch_level_2_split_test_x.h5"
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 100)
        raw.write(b"damage")
    summary = importing(tmp_path / "pcam", tmp_path / "out")
    assert [each.image for each in run.damaged(summary)] == [f"{path.name}#1"]
    assert sorted(rows_of(tmp_path / "out")) == [f"{path.name}#0", f"{path.name}#2"]


def test_hdf5_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "pcam"
    pcam(folder, "test", [0, 1], ("a", "b"))
    meta = folder / "camelyonpatch_level_2_split_test_meta.csv"
    text = meta.read_text()
    meta.write_text(text.replace("True,True,b", "True,False,b"))
    with pytest.raises(UsageError, match=r"line 3: center_tumor_patch is False, but the image's label is 1"):
        find(folder)
    meta.write_text(text + "2,0,0,False,False,c\n")
    with pytest.raises(UsageError, match="3 rows for 2 images"):
        find(folder)
    meta.unlink()
    with pytest.raises(UsageError, match="no partition 'train'; it has test"):
        find(folder, split="train")
    labels = folder / "camelyonpatch_level_2_split_test_y.h5"
    with h5py.File(labels, "w") as file:
        file["y"] = np.zeros((3, 1, 1, 1), np.uint8)
    with pytest.raises(UsageError, match=r"_y\.h5: y is \(3, 1, 1, 1\).* each of the 2 images"):
        find(folder)
    labels.unlink()
    with pytest.raises(UsageError, match=r"_y\.h5: no such file"):
        find(folder)
    (folder / "camelyonpatch_level_2_split_test_x.h5").write_bytes(b"not HDF5")
    with pytest.raises(UsageError, match="not a readable HDF5 file"):
        find(folder)
    shutil.move(folder / "camelyonpatch_level_2_split_test_x.h5", folder / "t_x.h5.gz")
    with pytest.raises(UsageError, match="gunzip"):
        find(folder)


@pytest.mark.usefixtures("here")
def test_crc_folders_of_tiff(tmp_path: Path) -> None:
    files = {
        f"{label}/{label}-{n}.tif": tile(10 * k + n)
        for k, label in enumerate(("ADI", "TUM"))
        for n in range(5)
    }
    importing(folders(tmp_path / "NCT-CRC-HE-100K", files), tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert {name: (row["label"], row["jpg"]) for name, row in found.items()} == {
        name: (name[:3], stored(pixels)) for name, pixels in files.items()
    }
    assert sorted(Dataset(tmp_path / "out").slides) == [f"NCT-CRC-HE-100K-0000{n}" for n in range(3)]
    # not one class after the other, as the folders lie
    assert len({row["label"] for row in list(found.values())[:5]}) == 2


@pytest.mark.usefixtures("here")
def test_plain_jpegs_keep_their_bytes_and_nothing_else_does(tmp_path: Path) -> None:
    root = tmp_path / "set"
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = tile(5)[..., 0]
    files = {
        "a/plain.jpg": saved(tile(1), "JPEG", quality=80),
        "a/full.jpeg": saved(tile(2), "JPEG", quality=80, subsampling=0),
        "b/progressive.jpg": saved(tile(3), "JPEG", progressive=True),
        "b/turned.jpg": saved(tile(4), "JPEG", exif=turned),
        "b/grey.jpg": saved(grey, "JPEG"),
        "b/palette.png": saved(np.asarray(Image.fromarray(tile(6)).quantize(8).convert("RGB")), "PNG"),
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for mode in ("none", "fit"):
        importing(root, tmp_path / mode, stain=StainParams(mode))
        found = rows_of(tmp_path / mode)
        same = {name for name, row in found.items() if row["jpg"] == files[name]}
        assert same == {"a/plain.jpg", "a/full.jpeg"}
        upright = np.rot90(jpeg.decode(files["b/turned.jpg"]), -1)
        difference = jpeg.decode(found["b/turned.jpg"]["jpg"]).astype(int) - upright
        assert np.abs(difference).mean() < 3
        assert all(images.is_plain_jpeg(row["jpg"]) for row in found.values())


@pytest.mark.usefixtures("here")
def test_mhist_and_its_partitions(tmp_path: Path) -> None:
    root = mhist(tmp_path / "mhist")
    folders(root, {"images/extra.png": tile(99)})
    found = find(root, split="test")
    assert [(item.source, item.label) for item in found.items] == [
        ("images/MHIST_e.png", "HP"),
        ("images/MHIST_f.png", "SSA"),
    ]
    assert any("1 image that annotations.csv does not list: left out" in note for note in found.notes)
    importing(root, tmp_path / "out", mpp=1.0)
    rows = rows_of(tmp_path / "out")
    assert {row["shard"] for row in rows.values()} == {"mhist-train-00000", "mhist-test-00000"}
    assert {name[-5]: row["label"] for name, row in rows.items()} == dict(
        zip("abcdef", ["HP", "SSA"] * 3, strict=True)
    )
    # the folder of images alone, with the CSV named
    beside = find(root / "images", labels=root / "annotations.csv")
    assert sorted(item.source for item in beside.items) == [f"MHIST_{letter}.png" for letter in "abcdef"]
    with pytest.raises(UsageError, match="no partition 'val'; it has test, train"):
        find(root, split="val")


def test_image_folder_with_partitions(tmp_path: Path) -> None:
    files = [f"{split}/{label}/{n}.png" for split in ("train", "val") for label in "xy" for n in range(2)]
    root = folders(tmp_path / "set", dict.fromkeys(files, tile(0)))
    found = find(root)
    assert {(item.source, item.label, item.split) for item in found.items} == {
        (name, name.split("/")[1], name.split("/")[0]) for name in files
    }
    assert [item.split for item in find(root, split="val").items] == ["val"] * 4


@pytest.mark.usefixtures("here")
def test_csv_with_its_own_column_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {f"{n}.png": tile(n, 16 * (n + 1)) for n in range(5)})
    table = write_csv(
        tmp_path / "l.csv",
        ("img", "dx", "case", "fold"),
        [
            ("0.png", "p", "A", "1"),
            ("1.png", "q", "B", "1"),
            ("./2.png", "", "B", "2"),
            ("3.png", "q", "", "2"),
        ],
    )
    columns = Columns("img", "dx", "case", "fold")
    found = find(root, labels=table, columns=columns)
    assert any("1 group is in more than one partition (a leak), such as B" in note for note in found.notes)
    assert any("1 image has no label" in note for note in found.notes)
    importing(root, tmp_path / "out", labels=table, columns=columns)
    rows = rows_of(tmp_path / "out")
    assert {name: (row["label"], row["group"], row["stored"]) for name, row in rows.items()} == {
        "0.png": ("p", "A", 16),
        "1.png": ("q", "B", 32),
        "2.png": (None, "B", 48),
        "3.png": ("q", None, 64),
    }
    for name, row in rows.items():
        assert jpeg.decode(row["jpg"]).shape == (row["stored"], row["stored"], 3), name


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,label", ["a/1.png,x", "a/1.png,y"], r"line 3: a/1\.png is listed twice \(line 2\)"),
        ("file,label", ["2.png,x"], r"line 2: 2\.png may be a/2\.png or b/2\.png; give its folder"),
        ("file,label", ["z.png,x"], r"none of its files .1. is in .*, such as z\.png"),
        ("file,label", [",x"], "line 2: the file is empty"),
        ("name,label", ["a/1.png,x"], "which column is the file.*it has name, label"),
        ("file,kind", ["a/1.png,x"], "which column is the label"),
        ("file,label", ["a/1.png,x,y"], "line 2: 3 cells, the header has 2"),
        ("file,label,label", ["a/1.png,x,y"], "two columns are named 'label'"),
        ("file,label", [], "needs a header and rows"),
    ],
)
def test_wrong_csv(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    root = folders(tmp_path / "set", dict.fromkeys(("a/1.png", "a/2.png", "b/2.png"), tile(0)))
    (root / "labels.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(UsageError, match=message):
        find(root)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in this folder"):
        find(tmp_path / "empty")
    loose = folders(tmp_path / "loose", {"1.png": tile(0)})
    with pytest.raises(UsageError, match="neither folders of classes nor a CSV"):
        find(loose)
    with pytest.raises(UsageError, match="not a tile set"):
        find(loose / "1.png")
    with pytest.raises(UsageError, match=r"no column 'dx' \(`label_column`\)"):
        find(mhist(tmp_path / "mhist"), columns=Columns(label="dx"))
    split = folders(tmp_path / "split", dict.fromkeys(("train/1.png", "test/2.png"), tile(0)))
    with pytest.raises(UsageError, match="named like partitions"):
        find(split)
    sets = folders(tmp_path / "sets", {f"{s}/{c}/1.png": tile(0) for s in ("A", "B") for c in "xy"})
    with pytest.raises(UsageError, match="A and B hold the same folders"):
        find(sets)
    assert {item.label for item in find(sets, format="folders").items} == {"A", "B"}


def test_more_images_than_a_file_can_hold_are_refused_by_the_header(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a_train_x.h5", "w") as file:
        file.create_dataset("x", shape=(10**9, 96, 96, 3), dtype="u1", chunks=(1, 96, 96, 3))
    with pytest.raises(UsageError, match=r"a_train_x\.h5: says it has 1,000,000,000 images, at most"):
        find(tmp_path)

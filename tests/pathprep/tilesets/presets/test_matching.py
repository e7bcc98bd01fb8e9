"""Published sets on drawn copies of their layouts: labels, groups, partitions, what is said of the rest."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from helpers.published_sets import bach, bracs, breakhis, crc, gleason, published
from PIL import Image
from typer.testing import CliRunner

import pathprep
from pathprep.cli import app
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.params.presets import PresetName
from pathprep.tilesets.images import SIDES, decode
from pathprep.tilesets.presets.matching import matched
from pathprep.tilesets.presets.registry import described, preset, presets


def test_names_are_those_of_the_registry() -> None:
    assert list(get_args(PresetName)) == list(presets())
    for name, each in presets().items():
        text = "\n".join(described(name))
        assert each.licence in text
        assert each.pages[0] in text
        assert all(line in text for line in each.layout.splitlines())
    with pytest.raises(UsageError, match="`preset` camelyon: no such set; there are bach, bracs"):
        preset("camelyon")


def test_the_split_of_bach_is_evas(tmp_path: Path) -> None:
    """eva counts through the files in order: these are its ranges (first and one past the last)."""
    train = [(0, 41), (59, 60), (90, 139), (169, 240), (258, 260), (273, 345), (368, 400)]
    found = matched("bach", bach(tmp_path))
    assert Counter(item.split for item in found.items) == {"train": 268, "val": 132}
    ordered = sorted(found.items, key=lambda item: item.source)
    numbers = [number for number, item in enumerate(ordered) if item.split == "train"]
    assert numbers == [number for low, high in train for number in range(low, high)]
    assert not any("published are" in note for note in found.notes)
    assert any(note.startswith("Groups: none: patients are not") for note in found.notes)


def test_bracs_and_breakhis(tmp_path: Path) -> None:
    found = matched("bracs", bracs(tmp_path / "bracs"))
    assert Counter(item.split for item in found.items) == {"train": 7, "val": 7, "test": 7}
    assert {item.label for item in found.items} == {"N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC"}
    assert {item.group for item in found.items if item.split == "test"} == {"BRACS_282"}
    assert any(note.startswith("bracs train: 7 images, published are 3,657") for note in found.notes)
    found = matched("breakhis", breakhis(tmp_path / "breakhis"))
    assert {item.group: item.split for item in found.items} == {
        **dict.fromkeys(("13200", "9133", "2523", "10147"), "train"),
        **dict.fromkeys(("16184CD", "23060CD", "16875", "19979"), "val"),
    }
    assert {item.label for item in found.items} == {"TA", "F", "DC", "MC"}
    said = "\n".join(found.notes)
    assert "9 images left out, at another magnification than 40x" in said
    assert "1 image left out, of classes with fewer than 7 patients (A, PT, LC, PC)" in said


def test_gleason_takes_what_eva_takes(tmp_path: Path) -> None:
    found = matched("gleason", gleason(tmp_path))
    assert Counter(item.split for item in found.items) == {"train": 12, "val": 4}
    assert {item.label for item in found.items} == {"benign", "gleason_3", "gleason_4", "gleason_5"}
    assert any(note == "Left out: test 1; `split` takes it" for note in found.notes)
    (only,) = matched("gleason", tmp_path, "test").items
    assert (only.label, only.group) == ("gleason_3", "ZT80_38_A_1_2")


@pytest.mark.parametrize("name", ["mhist", "pcam"])
def test_sets_of_tables_and_hdf5(name: str, tmp_path: Path) -> None:
    found = matched(name, published(name, tmp_path))
    assert {item.label for item in found.items} == set(preset(name).classes)
    assert {item.split for item in found.items} == set(preset(name).counts)


def test_nonorm_and_norm_are_told_apart(tmp_path: Path) -> None:
    crc(tmp_path)
    crc(tmp_path, "NCT-CRC-HE-100K-NONORM")
    found = matched("crc-100k", tmp_path)
    assert Counter(item.split for item in found.items) == {"train": 18, "val": 18}
    assert "preset crc-100k-nonorm takes them" in "\n".join(found.notes)
    found = matched("crc-100k-nonorm", tmp_path)
    assert {item.source.partition("/")[0] for item in found.items if item.split == "train"} == {
        "NCT-CRC-HE-100K-NONORM"
    }


def test_a_folder_further_down_will_do(tmp_path: Path) -> None:
    assert len(matched("bracs", bracs(tmp_path) / "BRACS_RoI/latest_version").items) == 21
    alone = matched("crc-100k", crc(tmp_path / "crc") / "CRC-VAL-HE-7K", "val")
    assert Counter(item.split for item in alone.items) == {"val": 18}


def test_what_does_not_look_as_the_set_does(tmp_path: Path) -> None:
    """What was expected, where it is to be had, and what was found."""
    with pytest.raises(
        UsageError, match=r"no such file or folder; BACH .*CC-BY-NC-ND-4.0, no commercial use"
    ):
        matched("bach", tmp_path / "none")
    crc(tmp_path)
    with pytest.raises(UsageError) as refused:
        matched("bach", tmp_path)
    said = str(refused.value)
    assert "36 images, none of them named as bach's are: found CRC-VAL-HE-7K/ADI/ADI-TCGA-A.tif" in said
    assert "https://zenodo.org/records/3632035" in said
    assert "ICIAR2018_BACH_Challenge/Photos/Benign/b001.tif" in said
    assert "\n" not in said  # the command would print it as \\n
    assert "`pathprep import-tiles --presets` shows the whole layout" in said
    shutil.rmtree(tmp_path / "CRC-VAL-HE-7K")
    with pytest.raises(
        UsageError, match=r"no image of crc-100k's val; `split` takes one .*\(train 18\); expected"
    ):
        matched("crc-100k", tmp_path)
    assert len(matched("crc-100k", tmp_path, "train").items) == 18
    with pytest.raises(UsageError, match="`split` dev: crc-100k has train, val"):
        matched("crc-100k", tmp_path, "dev")
    (tmp_path / "mhist").mkdir()
    (tmp_path / "mhist/annotations.csv").write_text("Image Name,Partition\nMHIST_aaa.png,train\n")
    with pytest.raises(
        UsageError, match=r"(?s)which column is the label\?.*annotations.csv Image Name,Majority"
    ):
        matched("mhist", tmp_path / "mhist")


def test_a_label_that_the_set_does_not_have(tmp_path: Path) -> None:
    published("mhist", tmp_path)
    text = (tmp_path / "annotations.csv").read_text().replace(",SSA,", ",TA,")
    (tmp_path / "annotations.csv").write_text(text)
    with pytest.raises(UsageError, match=r"label TA is none of mhist's \(HP, SSA\)"):
        matched("mhist", tmp_path)


@pytest.mark.parametrize("name", get_args(PresetName))
def test_every_preset_becomes_a_dataset(name: str, tmp_path: Path) -> None:
    """Partitions, MPP and central squares; the same again makes nothing."""
    source = published(name, tmp_path / "set")
    if name == "bach":
        shutil.rmtree(source)
        bach(source, {"Benign": range(40, 45), "Normal": range(44, 48), "InSitu": range(39, 41)})
    done = pathprep.import_tiles(source, tmp_path / "out", preset=name, workers=1)
    assert not done.damaged
    dataset = Dataset(tmp_path / "out")
    assert dataset.params["mpp"] == preset(name).mpp
    splits = {marker.split for marker in dataset.markers.values()}  # type: ignore[attr-defined]
    assert splits == set(preset(name).taken or preset(name).counts)
    assert all(slide.startswith(name) for slide in dataset.slides)


def test_command(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["import-tiles", "--presets"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "breakhis: BreakHis at 40x, breast, 4 of its 8 classes: CC-BY-4.0" in shown.stdout
    source, out = str(breakhis(tmp_path / "set")), str(tmp_path / "out")
    options = ["--out", out, "--workers", "1", "--preset", "breakhis"]
    done = CliRunner().invoke(app, ["import-tiles", source, *options, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["labels"] == {"DC": 2, "F": 2, "MC": 2, "TA": 2}
    again = ["import-tiles", "--config", f"{out}/import-tiles.yaml", "--json"]
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["already_done"] == 2
    wrong = CliRunner().invoke(app, ["import-tiles", source, *options, "--format", "folders"])
    assert isinstance(wrong.exception, UsageError)
    assert "`format`: `preset` breakhis knows it" in str(wrong.exception)


def test_the_central_square_of_what_is_not_square(tmp_path: Path) -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = decode((tmp_path / "wide.png").read_bytes(), crop=True)
    np.testing.assert_array_equal(found.pixels, pixels[:, 5:25])
    assert found.jpeg is None
    with pytest.raises(ValueError, match="30 x 20 px; tiles are square: crop it first, or `crop`"):
        decode((tmp_path / "wide.png").read_bytes())
    Image.new("RGB", (SIDES[1] + 96, SIDES[1] + 32)).save(tmp_path / "large.png")
    large = decode((tmp_path / "large.png").read_bytes(), crop=True)
    assert large.pixels.shape == (SIDES[1], SIDES[1], 3)
    assert large.scale == pytest.approx(1 + 32 / SIDES[1])
    Image.fromarray(pixels[:, :20]).save(tmp_path / "square.jpg")
    data = (tmp_path / "square.jpg").read_bytes()
    assert decode(data, crop=True).jpeg == decode(data).jpeg is not None  # bytes stay where nothing is cut


def test_sets_as_people_have_them(tmp_path: Path) -> None:
    """Unpacked into a folder of the same name (koushikkumarl/capsuleNetwork_cancerclassification 4), with the
    files that macOS puts beside each (Hedlen/MEFLUT 11).
    """
    crc(tmp_path / "nested" / "NCT-CRC-HE-100K")
    shutil.move(tmp_path / "nested/NCT-CRC-HE-100K/CRC-VAL-HE-7K", tmp_path / "nested/CRC-VAL-HE-7K")
    (tmp_path / "nested/CRC-VAL-HE-7K/ADI/._ADI-TCGA-A.tif").write_bytes(
        b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
    )
    (tmp_path / "nested/CRC-VAL-HE-7K/ADI/.DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    found = matched("crc-100k", tmp_path / "nested")
    assert Counter(item.split for item in found.items) == {"train": 18, "val": 18}
    assert not any("._" in item.source for item in found.items)


def test_a_partition_that_came_damaged(tmp_path: Path) -> None:
    """PCam's validation images, cut short on the way (pytorch/vision 6643, 8274); and packed ones."""
    published("pcam", tmp_path)
    images = tmp_path / "camelyonpatch_level_2_split_valid_x.h5"
    images.write_bytes(images.read_bytes()[:2000])
    with pytest.raises(
        UsageError, match=r"(?s)split_valid_x.h5: not a readable HDF5 file.*download it again.*expected"
    ):
        matched("pcam", tmp_path)
    for path in tmp_path.glob("*_x.h5"):
        path.rename(f"{path}.gz")
    with pytest.raises(UsageError, match=r"(?s)no file named ..._x.h5.*unpacked: gunzip \*.h5.gz"):
        matched("pcam", tmp_path)


def test_no_patient_is_on_both_sides(tmp_path: Path) -> None:
    """As in splits by image, which look far too good (Zhcyoung/BEPH 8)."""
    for name in ("bracs", "breakhis", "gleason", "pcam"):
        sides: dict[str | None, set[str]] = {}
        for item in matched(name, published(name, tmp_path / name)).items:
            assert item.group is not None
            sides.setdefault(item.group, set()).add(item.split)
        assert all(len(each) == 1 for each in sides.values())

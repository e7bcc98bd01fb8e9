"""Folders of images with masks: how they are found, their classes, and what does not fit is told."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.segmented import consep_folder, discs, imagescope, qupath, square, table_folder
from PIL import Image

from pathprep.errors import DatasetError, UsageError
from pathtrain.data.segmented.images import Images, check_apart, open_images
from pathtrain.data.segmented.numbering import numbered, preset_of
from pathtrain.data.segmented.presets import PRESETS
from pathtrain.data.segmented.truth import IGNORED


def sides(path: Path, layout: str = "auto", words: str | None = None) -> tuple[list[Images], list[str]]:
    sets = [open_images(path, side) for side in ("train", "test")]
    check_apart(sets)
    return numbered(sets, preset_of(layout, sets), words)


def test_a_table_has_splits_groups_and_objects(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "aabc", ["train", "Training", "TEST", "test"])
    (train, test), classes = sides(folder)
    assert [len(train), len(test)] == [2, 2]
    assert [place.group for place in test.places] == ["b", "c"]
    assert classes == ["background", "1", "2"]
    assert train.account.instances
    _, objects, mask = discs(64, 1)
    truth = train.truth(1)
    np.testing.assert_array_equal(truth.classes, mask)
    np.testing.assert_array_equal(truth.instances, objects)


def test_consep_is_known_by_its_files(tmp_path: Path) -> None:
    (train, test), classes = sides(consep_folder(tmp_path / "CoNSeP"))
    assert [len(train), len(test)] == [3, 2]
    assert classes == ["background", *PRESETS["consep"].classes]
    _, objects, _ = discs(64, 11)
    types = np.where(objects > 0, (objects - 1) % 6 + 2, 0)
    merged = np.array([0, 1, 2, 3, 3, 4, 4, 4])[types]  # 3, 4 epithelial; 5, 6, 7 spindle
    np.testing.assert_array_equal(test.truth(0).classes, merged)
    assert "Overlay" not in "".join(place.name for place in train.places)


def test_monusac_has_a_folder_a_patient_and_ignores_what_is_ambiguous(tmp_path: Path) -> None:
    for name, patients in (
        ("MoNuSAC_images_and_annotations", "AB"),
        ("MoNuSAC Testing Data and Annotations", "C"),
    ):
        for patient in patients:
            folder = tmp_path / name / f"TCGA-{patient}-01Z"
            folder.mkdir(parents=True)
            for number in (1, 2):
                stem = f"{folder.name}_{number}"
                Image.fromarray(discs(40)[0]).save(folder / f"{stem}.tif")
                shutil.copy(folder / f"{stem}.tif", folder / f"{stem}.svs")  # each image is there twice
                imagescope(
                    folder / f"{stem}.xml",
                    [
                        ("Epithelial", [("", square(2, 2, 6))]),
                        ("Macrophage", [("", square(12, 2, 6))]),
                        ("Ambiguous", [("", square(20, 20, 6))]),
                    ],
                )
    (train, test), classes = sides(tmp_path)
    assert [len(train), len(test)] == [4, 2]
    assert {place.group for place in train.places} == {"TCGA-A-01Z", "TCGA-B-01Z"}
    assert classes == ["background", "epithelial", "lymphocyte", "neutrophil", "macrophage"]
    truth = test.truth(0)
    assert [truth.classes[4, 4], truth.classes[4, 14], truth.classes[22, 22]] == [1, 4, IGNORED]


def test_folders_of_qupath_files_and_masks_beside(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "annotations").mkdir()
        pixels = discs(40, seed=len(split))[0]
        Image.fromarray(pixels).save(tmp_path / split / "images" / "a.png")
        qupath(
            tmp_path / split / "annotations" / "a.geojson",
            [("Tumor", "Polygon", [square(2, 2, 9)]), ("Stroma", "Polygon", [square(20, 20, 9)])],
        )
    (train, _), classes = sides(tmp_path)
    assert classes == ["background", "Stroma", "Tumor"]
    assert train.truth(0).classes[5, 5] == 2
    renamed, given = sides(tmp_path, words="tumor=lesion,stroma=background")
    assert given == ["background", "lesion"]
    assert renamed[0].truth(0).classes[[5, 25], [5, 25]].tolist() == [1, 0]


def test_masks_beside_images_with_an_ending(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pixels, _, classes = discs(32, ord(name), count=2)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray((classes > 0).astype(np.uint8) * 255).save(tmp_path / f"{name}_mask.png")
    images = open_images(tmp_path, "train")
    assert [place.name for place in images.places] == ["a.png", "b.png"]
    (found,), classes_found = numbered([images], None, None)
    assert classes_found == ["background", "foreground"]
    np.testing.assert_array_equal(found.truth(1).classes, discs(32, ord("b"), count=2)[2] > 0)


def test_classes_can_be_named_joined_and_ignored(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "ab", ["train", "test"])
    assert sides(folder, words="tumour, stroma")[1] == ["background", "tumour", "stroma"]
    (train, _), classes = sides(folder, words="1=cell,2=cell")
    assert classes == ["background", "cell"]
    np.testing.assert_array_equal(train.truth(0).classes, discs(64, 0)[2] > 0)
    (train, _), _ = sides(folder, words="1=cell,2=ignored")
    assert set(np.unique(train.truth(0).classes)) == {0, 1, IGNORED}


def test_zero_can_be_ignored_or_a_class(tmp_path: Path) -> None:
    """BCSS has 0 for what lies outside of the annotated region: no background."""
    folder = table_folder(tmp_path / "set", "ab", ["train", "test"])
    mask = discs(64, 0)[2]
    (train, _), classes = sides(folder, words="0=ignored,1=a,2=b")
    assert classes == ["background", "a", "b"]
    np.testing.assert_array_equal(train.truth(0).classes, np.where(mask == 0, IGNORED, mask))
    (train, _), classes = sides(folder, words="0=stroma,1=a,2=b")
    np.testing.assert_array_equal(train.truth(0).classes, mask + 1)
    assert classes == ["background", "stroma", "a", "b"]


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "ab", ["train", "test"])
    Image.fromarray(np.ones((64, 64), np.uint8)).save(folder / "0_class.png")
    with pytest.raises(DatasetError, match="every pixel of every mask is a, so there is one class"):
        sides(folder, words="1=a,2=a")


def test_empty_masks_are_counted_and_only_empty_ones_refused(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "abc", ["train", "train", "test"])
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "1_class.png")
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(folder / "1_inst.png")
    assert open_images(folder, "train").account.empty == 1
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "0_class.png")
    with pytest.raises(DatasetError, match="nothing can be learnt"):
        sides(folder)


def _spoil(folder: Path, what: str) -> None:
    text = (folder / "index.csv").read_text()
    if what == "size":
        Image.fromarray(np.zeros((64, 60), np.uint8)).save(folder / "0_class.png")
    elif what == "transposed":
        for name in ("0.png", "0_inst.png"):
            Image.open(folder / name).crop((0, 0, 64, 40)).save(folder / name)
        Image.fromarray(discs(64)[2][:, :40].astype(np.uint8)).save(folder / "0_class.png")
    elif what == "leak":
        (folder / "index.csv").write_text(text.replace(",b,test", ",a,test"))
    elif what == "missing class":
        Image.fromarray((discs(64, 0)[2] == 1).astype(np.uint8)).save(folder / "0_class.png")
    elif what == "missing file":
        (folder / "0_class.png").unlink()
    elif what == "twice":
        (folder / "index.csv").write_text(text + "\n" + text.splitlines()[1])
    elif what == "no masks":
        (folder / "index.csv").write_text("file,patient\n0.png,a")
    elif what == "damaged image":
        (folder / "0.png").write_bytes(b"\x89PNG no more")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("size", "a mask of 60x64 px for .*of 64x64 px"),
        ("transposed", "it looks transposed"),
        ("leak", "shares the groups a "),
        ("missing class", "class 2 has no pixel in"),
        ("missing file", "line 2: .*0_class.png is not there"),
        ("twice", "listed twice"),
        ("no masks", "no column of masks"),
        ("damaged image", "0.png: cannot be decoded"),
    ],
)
def test_what_does_not_fit_is_told_with_its_file(tmp_path: Path, what: str, says: str) -> None:
    folder = table_folder(tmp_path / "set", "ab", ["train", "test"])
    _spoil(folder, what)
    with pytest.raises((UsageError, DatasetError), match=says) as told:
        sides(folder)
    assert str(folder) in str(told.value)


def test_unknown_classes_are_named_with_a_file(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "ab", ["train", "test"])
    with pytest.raises(UsageError, match=r"0.png has the class 2, which is none of .* 2=NAME or 2=ignored"):
        sides(folder, words="1=cell")


def test_images_without_a_mask_are_refused_and_rows_without_one_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = consep_folder(tmp_path / "CoNSeP")
    (folder / "Train" / "Labels" / "train_2.mat").unlink()
    with pytest.raises(DatasetError, match=r"train_2.png: 1 image without a mask, of 5"):
        open_images(folder, "train")
    table = table_folder(tmp_path / "set", "abc", ["train", "train", "test"])
    text = (table / "index.csv").read_text().replace("1_class.png,1_inst.png", ",")
    (table / "index.csv").write_text(text)
    with caplog.at_level(logging.INFO):
        images = open_images(table, "train")
    assert (len(images), images.bare) == (1, 1)
    assert "left out: 1 row without an image or a mask" in caplog.text


def test_one_folder_on_both_sides_and_none_at_all_are_refused(tmp_path: Path) -> None:
    folder = table_folder(tmp_path / "set", "ab", ["", ""])
    with pytest.raises(UsageError, match="0.png is in .* too"):
        sides(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images with masks"):
        open_images(tmp_path / "empty", "train")
    with pytest.raises(UsageError, match="no such folder"):
        open_images(tmp_path / "gone", "train")

"""Masks as other programs write them: their numbers are read, and what is no mask is named with its file."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from helpers.segmented import discs
from PIL import Image
from scipy.io import savemat

from pathprep.errors import DatasetError
from pathtrain.data.segmented import pannuke
from pathtrain.data.segmented.mask_files import read_classes, read_instances

CLASSES = np.array([[0, 0, 1], [2, 2, 1]], np.uint8)


@pytest.mark.parametrize(
    "kind", ["grey", "palette", "bits16", "int32", "float.tif", "bool.npy", "tif", "npy"]
)
def test_the_numbers_are_read_whatever_holds_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / (f"a.{kind}" if kind in ("tif", "npy") else f"a{kind}" if "." in kind else "a.png")
    expected = CLASSES.astype(np.int32)
    if kind == "grey":
        Image.fromarray(CLASSES).save(path)
    elif kind == "palette":  # the colours say nothing: indices do
        image = Image.fromarray(CLASSES, "P")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        image.save(path)
    elif kind == "bits16":
        Image.fromarray(CLASSES.astype(np.uint16)).save(path)
    elif kind == "int32":
        path = path.with_suffix(".tif")
        tifffile.imwrite(path, CLASSES.astype(np.int32))
    elif kind == "bool.npy":
        path, expected = tmp_path / "a.npy", (CLASSES > 0).astype(np.int32)
        np.save(path, CLASSES > 0)
    elif kind == "npy":
        np.save(path, CLASSES.astype(np.int64))
    else:  # ImageJ saves 32-bit floats
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, CLASSES.astype(np.float32))
    found = read_classes(path)
    np.testing.assert_array_equal(found.values, expected)
    assert found.names == {int(value): str(value) for value in np.unique(expected) if value}
    np.testing.assert_array_equal(read_instances(path), expected)


def test_colours_are_classes_and_black_is_background(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 2], pixels[1, :2] = (255, 0, 0), (0, 255, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_classes(tmp_path / "a.png")
    assert found.values is not None
    names = [found.names.get(int(value), "") for value in found.values.ravel()]
    assert names == ["", "", "#ff0000", "#00ff10", "#00ff10", ""]
    assert len(np.unique(read_instances(tmp_path / "a.png"))) == 3


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matlab_files_of_both_versions_are_the_same(tmp_path: Path, version: str) -> None:
    """A 7.3 file is HDF5, which scipy refuses, and its rows and columns are exchanged: both often reported
    (yeatmanlab/AFQ-Browser 161; nipy/nipype 2162)."""
    _, objects, classes = discs(48, count=4)
    objects, classes = objects[:40], classes[:40]  # not square, so that a transposed one is seen
    path = tmp_path / "a.mat"
    if version == "5":
        savemat(path, {"inst_map": objects.astype(float), "type_map": classes.astype(float)})
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            file["inst_map"], file["type_map"] = objects.T.astype(float), classes.T.astype(float)
            file["inst_centroid"] = np.zeros((2, 4))
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    found = read_classes(path)
    np.testing.assert_array_equal(found.values, classes)
    np.testing.assert_array_equal(found.instances, objects)


def test_a_matlab_file_without_types_has_objects_alone(tmp_path: Path) -> None:
    """Kumar's and CPM's files of HoVer-Net have no type_map: a KeyError elsewhere."""
    _, objects, _ = discs(32, count=2)
    savemat(tmp_path / "a.mat", {"inst_map": objects})
    found = read_classes(tmp_path / "a.mat")
    assert found.values is None
    np.testing.assert_array_equal(found.instances, objects)


def _write(path: Path, what: str) -> Path:
    if what == "jpeg":
        Image.fromarray(CLASSES).save(path, "JPEG")
    elif what == "fractions":
        path = path.with_suffix(".npy")
        np.save(path, CLASSES / 2)
    elif what == "negative":
        path = path.with_suffix(".npy")
        np.save(path, CLASSES.astype(int) - 1)
    elif what == "photograph":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(path)
    elif what == "objects":
        Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(path)
    elif what == "other matlab":
        path = path.with_suffix(".mat")
        savemat(path, {"labels": CLASSES, "n_classes": 2})
    elif what == "cut":
        Image.fromarray(discs(64)[0]).save(path)
        path.write_bytes(path.read_bytes()[:60])
    elif what == "cut matlab":
        path = path.with_suffix(".mat")
        savemat(path, {"inst_map": np.arange(4096.0).reshape(64, 64)}, do_compression=True)
        path.write_bytes(path.read_bytes()[:-40])
    elif what == "volume":
        path = path.with_suffix(".npy")
        np.save(path, np.zeros((4, 5, 6, 7)))
    elif what == "pickle":
        path = path.with_suffix(".npy")
        np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("jpeg", "save masks as PNG"),
        ("fractions", "nearest neighbour"),
        ("negative", "negative"),
        ("photograph", "a colour a class"),
        ("objects", "numbers objects, not classes"),
        ("other matlab", "it has labels, n_classes"),
        ("cut", "no mask that can be read"),
        ("cut matlab", "no MAT file that can be read"),
        ("volume", "height x width"),
        ("pickle", "no mask that can be read"),
        ("absent", "No such file"),
    ],
)
def test_what_is_no_mask_is_named(tmp_path: Path, what: str, says: str) -> None:
    path = _write(tmp_path / "a.png", what)
    with pytest.raises(DatasetError) as told:
        read_classes(path)
    assert str(path) in str(told.value)
    assert says in str(told.value)


def _pannuke(folder: Path, count: int = 2, channels: int = 6) -> tuple[Path, Path]:
    images, masks = np.zeros((count, 48, 48, 3)), np.zeros((count, 48, 48, channels))
    for row in range(count):
        pixels, objects, classes = discs(48, row, count=2)
        images[row] = pixels
        masks[row, ..., 0] = np.where(classes == 1, objects, 0)
        masks[row, ..., 1] = np.where(classes == 2, objects, 0)
        masks[row, ..., -1] = objects == 0
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    return folder / "images.npy", folder / "masks.npy"


def test_pannuke_is_read_by_channel_and_its_last_one_is_background(tmp_path: Path) -> None:
    """That the sixth channel is background is often got wrong (Prerpcessing-PanNuke 2)."""
    images, masks = _pannuke(tmp_path)
    assert pannuke.check(images, masks) == ["", ""]
    pixels, objects, classes = discs(48, 1, count=2)
    np.testing.assert_array_equal(pannuke.pixels(images, 1), pixels)
    said = pannuke.said(masks, 1)
    np.testing.assert_array_equal(said.values, classes)
    assert said.instances is not None
    for number in (1, 2):
        assert len(np.unique(said.instances[objects == number])) == 1
    np.testing.assert_array_equal(said.instances > 0, objects > 0)


def test_objects_of_two_classes_with_one_number_are_two(tmp_path: Path) -> None:
    masks = np.zeros((1, 4, 4, 6), np.int32)
    masks[0, 0, :2, 0] = masks[0, 3, :2, 4] = 7
    masks[0, 0, 1, 4] = 7  # of both classes: the first has it
    np.save(tmp_path / "masks.npy", masks)
    said = pannuke.said(tmp_path / "masks.npy", 0)
    assert said.instances is not None
    assert said.instances[0].tolist() == [1, 1, 0, 0]
    assert said.instances[3].tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize("what", ["channels", "count", "cut", "types"])
def test_arrays_that_are_not_pannukes_are_named(tmp_path: Path, what: str) -> None:
    images, masks = _pannuke(tmp_path, channels=5 if what == "channels" else 6)
    if what == "count":
        np.save(images, np.zeros((3, 32, 32, 3)))
    elif what == "cut":
        masks.write_bytes(masks.read_bytes()[:-1000])
    elif what == "types":
        np.save(tmp_path / "types.npy", np.array(["Breast"]))
    with pytest.raises(DatasetError, match="types.npy" if what == "types" else "masks.npy"):
        pannuke.check(images, masks)

"""Masks from files of pixels: PNG, TIFF, BMP, NumPy and MATLAB, as other programs write them.

PNG, TIFF, BMP   class numbers or object numbers, 1 to 32 bits, with a palette or without: the numbers
                 count, not the palette's colours; or RGB, a colour a class, black for background
NPY              the same as an array (H, W); or an object array of HoVer-Net's, (H, W, 2): instance, class
MAT              of CoNSeP and HoVer-Net: inst_map and type_map; version 5, or 7.3, which is HDF5 and has
                 rows and columns exchanged
"""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from scipy.io import loadmat

from pathprep.errors import DatasetError
from pathprep.images import limits
from pathprep.storage import regular
from pathtrain.data.segmented.truth import Ints, Said, whole_numbers

ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".npy", ".mat")
TYPE, INSTANCE = ("type_map", "class_map", "type_mask"), ("inst_map", "instance_map", "inst_mask")
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")
MOST_CLASSES = 254
MOST_COLOURS = 64  # more are no classes but a photograph, or edges that were smoothed

Array = npt.NDArray[Any]


def read_classes(path: Path) -> Said:
    """A file whose pixels are classes; of MAT files the objects too.

    Raises:
        DatasetError: it is damaged, or no such file.
    """
    if path.suffix.lower() == ".mat":
        return _of_matlab(path)
    array = read_array(path)
    if array.ndim == 3 and array.shape[2] == 2 and path.suffix.lower() == ".npy":
        values = whole_numbers(array[..., 1], path)
        return Said(values, _numbered(values, path), whole_numbers(array[..., 0], path), "0")
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return _of_colours(array[..., :3], path)
    values = _flat(array, path)
    return Said(values, _numbered(values, path), zero="0")


def read_instances(path: Path) -> Ints:
    """(H, W) int32 numbers of objects.

    Raises:
        DatasetError: it is damaged, or no such file.
    """
    if path.suffix.lower() == ".mat":
        found = _of_matlab(path).instances
        if found is None:
            raise DatasetError(f"{path}: holds no objects ({INSTANCE[0]})")
        return found
    array = read_array(path)
    if array.ndim == 3 and array.shape[2] in (3, 4):  # a colour an object: numbers that are all different
        codes = array[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        return (
            np.unique(np.concatenate([[0], codes.ravel()]), return_inverse=True)[1][1:]
            .reshape(codes.shape)
            .astype(np.int32)
        )
    return _flat(array, path)


def read_array(path: Path) -> Array:
    """The numbers of a file of pixels, (H, W) or (H, W, channels).

    Raises:
        DatasetError: it is missing or damaged.
    """
    data = _bytes(path)
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                limits.check(file.pages[0].shape[1], file.pages[0].shape[0])
                return np.asarray(file.pages[0].asarray())
        if data[:2] == b"\xff\xd8":
            raise ValueError("a JPEG, which changes the numbers at edges; save masks as PNG")
        with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "GIF")) as image:
            limits.check(*image.size)
            if image.mode not in MODES:
                raise ValueError(f"pixels are {image.mode}; save class numbers as 8- or 16-bit grey")
            return np.array(image)
    except Exception as error:  # decoders raise what they happen to
        raise DatasetError(f"{path}: no mask that can be read ({limits.reason(error)})") from None


def _bytes(path: Path) -> bytes:
    try:
        return regular.read(path, limits.MOST_BYTES)
    except OSError as error:
        raise DatasetError(f"{path}: {limits.reason(error)}") from None


def _flat(array: Array, path: Path) -> Ints:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2:
        raise DatasetError(f"{path}: a mask of shape {array.shape}; expected height x width")
    return whole_numbers(array, path)


def _numbered(values: Ints, path: Path) -> dict[int, str]:
    found = np.unique(values)
    found = found[found > 0]
    if len(found) > MOST_CLASSES:
        raise DatasetError(
            f"{path}: {len(found):,} different values, so it numbers objects, not classes; give it as the "
            "column inst of a CSV, or in a folder instances"
        )
    return {int(value): str(value) for value in found}


def _of_colours(array: Array, path: Path) -> Said:
    codes = (array.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])).astype(np.int32)
    found = np.unique(codes)
    if len(found) > MOST_COLOURS:
        raise DatasetError(
            f"{path}: {len(found):,} colours, so it is no mask: a photograph, or one that was saved as JPEG "
            "or resized with smoothing; save a colour a class"
        )
    return Said(codes, {int(code): f"#{code:06x}" for code in found if code}, zero="#000000")


def _of_matlab(path: Path) -> Said:
    arrays = _matlab(path)
    types = next((arrays[name] for name in TYPE if name in arrays), None)
    objects = next((arrays[name] for name in INSTANCE if name in arrays), None)
    if types is None and objects is None:
        raise DatasetError(
            f"{path}: has neither {TYPE[0]} nor {INSTANCE[0]}, as CoNSeP's and HoVer-Net's files; it has "
            f"{', '.join(sorted(arrays)) or 'no arrays'}"
        )
    instances = None if objects is None else whole_numbers(objects, path)
    if types is None:
        return Said(None, {}, instances)
    values = whole_numbers(types, path)
    if instances is not None and instances.shape != values.shape:
        raise DatasetError(f"{path}: {TYPE[0]} is {values.shape}, {INSTANCE[0]} {instances.shape}")
    return Said(values, _numbered(values, path), instances, "0")


def _matlab(path: Path) -> dict[str, Array]:
    """Its arrays of two dimensions."""
    data = _bytes(path)
    try:
        if data[:4] == b"\x89HDF" or b"MATLAB 7.3" in data[:128]:
            with h5py.File(io.BytesIO(data), "r") as file:
                # MATLAB stores columns first, and HDF5 says so by exchanging the dimensions
                return {
                    name: np.asarray(each).T
                    for name, each in file.items()
                    if isinstance(each, h5py.Dataset) and each.ndim == 2
                }
        found = loadmat(io.BytesIO(data))
        return {name: each for name, each in found.items() if isinstance(each, np.ndarray) and each.ndim == 2}
    except Exception as error:  # it raises what its parts happen to
        raise DatasetError(f"{path}: no MAT file that can be read ({limits.reason(error)})") from None

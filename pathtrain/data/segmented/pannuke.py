"""PanNuke as it is published: arrays of images, and of masks with a channel for each class.

masks.npy (N, H, W, 6) holds in channel c the numbers of the objects of class c; the sixth is background, 1
where no object is. A pixel may be in two channels: the first class has it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import DatasetError
from pathprep.images.limits import reason
from pathprep.words import counted
from pathtrain.data.segmented.presets import PRESETS
from pathtrain.data.segmented.truth import Said, whole_numbers

CHANNELS = len(PRESETS["pannuke"].classes) + 1


def check(images: Path, masks: Path) -> list[str]:
    """The tissue of each image, "" where it is not told.

    Raises:
        DatasetError: the arrays are damaged, or do not fit each other.
    """
    pictures, channels = _mapped(images), _mapped(masks)
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise DatasetError(f"{images}: an array {pictures.shape}; PanNuke's are (N, 256, 256, 3)")
    if channels.ndim != 4 or channels.shape[3] != CHANNELS:
        raise DatasetError(
            f"{masks}: an array {channels.shape}; PanNuke's are (N, 256, 256, {CHANNELS}), a channel a class "
            "and the background last"
        )
    if channels.shape[:3] != pictures.shape[:3]:
        raise DatasetError(f"{masks}: {channels.shape[:3]} of masks for {pictures.shape[:3]} of images")
    types = images.with_name("types.npy")
    if not types.is_file():
        return [""] * len(pictures)
    try:
        kinds = [str(kind) for kind in np.load(types, allow_pickle=False).tolist()]
    except Exception as error:
        raise DatasetError(f"{types}: cannot be read ({reason(error)})") from None
    if len(kinds) != len(pictures):
        raise DatasetError(f"{types}: {len(kinds):,} tissues of {counted(len(pictures), 'image')}")
    return kinds


def pixels(path: Path, row: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) of an image: PanNuke's are doubles of 0 to 255.

    Raises:
        DatasetError: they are not.
    """
    values: npt.NDArray[Any] = np.array(_mapped(path)[row])
    if values.dtype == np.uint8:
        return values
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
        raise DatasetError(
            f"{path}: image {row} has values from {values.min():g} to {values.max():g}, not 0 to 255"
        )
    if values.dtype.kind == "f" and 0 < values.max() <= 1:
        raise DatasetError(f"{path}: image {row} has values of at most 1; save them as 0 to 255")
    rounded: npt.NDArray[np.uint8] = np.rint(values).astype(np.uint8)
    return rounded


def said(path: Path, row: int) -> Said:
    """The classes and objects of an image.

    Raises:
        DatasetError: the masks hold no whole numbers.
    """
    channels = whole_numbers(np.array(_mapped(path)[row]), path)[..., :-1]
    values = np.zeros(channels.shape[:2], np.int32)
    instances, last = np.zeros_like(values), 0
    for number in range(channels.shape[2]):
        own = (channels[..., number] > 0) & (values == 0)
        values[own] = number + 1
        _, objects = np.unique(channels[..., number][own], return_inverse=True)
        instances[own] = objects + 1 + last
        last = int(instances.max())
    return Said(values, {number + 1: str(number + 1) for number in range(channels.shape[2])}, instances)


def _mapped(path: Path) -> npt.NDArray[Any]:
    """An array that stays on the disk: a fold is of 4 GB."""
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:
        raise DatasetError(f"{path}: no array that can be read ({reason(error)})") from None

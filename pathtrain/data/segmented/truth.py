"""What a file says of the pixels of an image: a name each, and the objects they belong to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import DatasetError

Ints = npt.NDArray[np.int32]
Classes = npt.NDArray[np.uint8]

IGNORED = 255  # class number of pixels that count nowhere


@dataclass(frozen=True)
class Said:
    """Pixels by what their file calls them.

    Attributes:
        values: (H, W) int32, 0 for background; None: the objects say which pixels are no background.
        names: value -> what the file calls it: a class, a number or a colour; several may share a name.
        instances: (H, W) int32, number of the object, 0 for none; None if objects are not told apart.
        zero: what the file calls the value 0; "" where it is what nobody drew on.
    """

    values: Ints | None
    names: dict[int, str]
    instances: Ints | None = None
    zero: str = ""


@dataclass(frozen=True)
class Truth:
    """The truth of an image.

    Attributes:
        classes: (H, W) uint8: 0 background, 1 to C - 1, IGNORED.
        instances: (H, W) int32, 0 for none; None if they are not given.
    """

    classes: Classes
    instances: Ints | None

    def part(self, top: int, left: int, height: int, width: int) -> "Truth":
        """A part of the image."""
        box = slice(top, top + height), slice(left, left + width)
        return Truth(self.classes[box], None if self.instances is None else self.instances[box])


def whole_numbers(values: npt.NDArray[Any], path: object) -> Ints:
    """(H, W) int32 of numbers of any kind: MATLAB and some programs write masks as doubles.

    Raises:
        DatasetError: they are not whole, are negative, or too large.
    """
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    if values.dtype.kind not in "iuf":
        raise DatasetError(f"{path}: its mask holds {values.dtype}, no numbers")
    if not np.isfinite(values).all() or (values < 0).any() or (values > np.iinfo(np.int32).max).any():
        raise DatasetError(f"{path}: its mask has values that are negative, too large or not finite")
    found = values.astype(np.int32)
    if values.dtype.kind == "f" and (found != values).any():
        raise DatasetError(
            f"{path}: its mask has fractions: a picture of probabilities, or resized with smoothing; "
            "save class numbers, resized by nearest neighbour"
        )
    return found

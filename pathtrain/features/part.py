"""One file of features before it is written: what it is made from, and how its numbers are stored.

Features are computed as float32 and may be stored smaller. float16 has 11 bits of precision and ends at
65,504; bfloat16 has 8 and the range of float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.errors import UsageError
from pathtrain.params.encoding import Dtype

SINGULAR = {"files": "file", "labels": "label", "groups": "group"}  # arrays -> columns of tables
PIECE = 1 << 20  # bytes of an array that have one checksum
# What a file that does not say so was made with: those before there was a choice
USUAL = {"dtype": "float32", "readout": "cls"}
# What of a file's making says in which space its features lie: two of these in a folder cannot be compared
IDENTITY = ("fingerprint", "readout", "level", "size", "positions", "side")

Features = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """One file: what is in it beside the features.

    Attributes:
        name: of the slide (or folder) in the dataset. file: name of the file, without its ending.
        tiles: that it is made from.
        made: what it is made from, which is written to it: strings and numbers. ``dtype`` of the features.
        arrays: makes the arrays beside the features, when the file is written: those of all slides at once
            would fill the memory.
        coords_attributes: of ``coords``.
        rows: tells how many the features have; None: one per tile.
        left_out: tiles that turned out to be unusable and have no row, by name, with the reason; known
            when it was encoded.
        about: what is written to it besides, and not compared: facts for people and other tools.
        columns: makes further columns, a value per tile, for Parquet and AnnData.
    """

    name: str
    file: str
    tiles: range
    made: dict[str, Any]
    arrays: Callable[[], Arrays]
    coords_attributes: dict[str, Any]
    rows: Callable[[], int] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    columns: Callable[[], Arrays] = dict

    def holds(self, rows: int) -> bool:
        """Whether the features have so many rows."""
        return rows == (len(self.tiles) if self.rows is None else self.rows())

    def is_made(self, made: Callable[[str], Any]) -> bool:
        """Whether a file was made from the same; ``made`` tells what it says of each thing, None: nothing."""
        wanted = {**USUAL, **self.made}
        return wanted == {key: USUAL.get(key) if (said := made(key)) is None else said for key in wanted}

    @property
    def dtype(self) -> Dtype:
        """How its features are stored."""
        found: Dtype = self.made.get("dtype", "float32")
        return found


def origin(marker: Marker) -> dict[str, Any]:
    """What coordinates of a slide count from, as attributes of ``coords``: see pathtrain.features.files."""
    bounds = marker.bounds if isinstance(marker, SlideMarker) else None
    return {"origin": "slide"} if bounds is None else {"origin": "slide", "bounds": list(bounds)}


def pieces(features: npt.NDArray[Any]) -> Iterator[slice]:
    """Rows of an array in parts of about PIECE bytes."""
    each = rows_of_a_piece(features)
    for start in range(0, len(features), each):
        yield slice(start, min(start + each, len(features)))


def rows_of_a_piece(array: npt.NDArray[Any]) -> int:
    """How many rows of an array have about PIECE bytes; at least one."""
    return max(1, -(-len(array) // max(1, -(-array.nbytes // PIECE))))


def stored(features: Features, dtype: Dtype, path: Path) -> npt.NDArray[Any]:
    """Features as their file holds them: float16, or float32; those of bfloat16 are rounded, as float32.

    Raises:
        UsageError: one is beyond what float16 can hold.
    """
    if dtype == "float16":
        largest = float(np.abs(features).max(initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            raise UsageError(
                f"{path}: features reach {largest:.4g}, and float16 ends at 65504; give `dtype` bfloat16 "
                "(hdf5) or float32"
            )
        return features.astype(np.float16)
    if dtype == "bfloat16":
        rounded = (
            torch.from_numpy(np.array(features)).bfloat16().float()
        )  # torch takes none that are read only
        return np.asarray(rounded.numpy())
    return features

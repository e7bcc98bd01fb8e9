"""Files of features: what ``embed`` writes for a slide, as HDF5 or Parquet.

    <slide>.h5         the layout that CLAM and TRIDENT read. <slide> is the slide's own name; where it cannot
                       be a file's, that in the dataset
      features  (N, D) float32, in the order of the dataset's index
      coords    (N, 2) int64, x and y of the tile's corner in level-0 pixels; TRIDENT's attributes on it:
                patch_size (at the target magnification), patch_size_level0, overlap, name, and
                level0_magnification and target_magnification, nominal: 10 / MPP, rounded. And origin,
                always ``slide``: they count from the corner of the whole slide, as OpenSlide does; QuPath
                opens slides with bounds (x, y, width, height; where there are) cropped, and counts from there
      attributes: what it was made from: of tiles fingerprint, slide (its name in the dataset), build_id,
                  source_sha256, size (pixels; or `256 cropped to 224`), precision; and positions,
                  how the model's were resampled, where they were. And version (2) and seal, which pathtrain
                  compares; every array of numbers has Fletcher 32 checksums, which all readers compare
    <slide>.parquet    a row per tile: features (a list of D float32), x, y; the attributes, those of coords
                       too, as JSON in the schema's metadata, under the key ``pathtrain``; the seal under
                       ``pathtrain_seal``, and a checksum of each page

Of image folders and imported tiles there are the strings files, labels and groups instead of coordinates
(in Parquet the columns file, label and group).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.storage.embedded_seal import EMPTY, put
from pathtrain.features import hdf5_stream
from pathtrain.features.read import (
    SEAL,
    SEALED_SINCE,
    VERSION,
    VERSION_KEY,
    opened,
    read_bytes,
)

METADATA, SEAL_METADATA = b"pathtrain", b"pathtrain_seal"
PIECE = 1 << 20  # bytes of an array that have one checksum
SINGULAR = {"files": "file", "labels": "label", "groups": "group"}

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """One file: what is in it beside the features.

    Attributes:
        name: of the slide (or folder) in the dataset. file: name of the file, without its ending.
        tiles: that it is made from.
        made: what it is made from, which is written to it: strings and numbers.
        arrays: makes the arrays beside the features, when the file is written: those of all slides at once
            would fill the memory.
        coords_attributes: of ``coords``.
        rows: tells how many the features have; None: one per tile.
        left_out: tiles that turned out to be unusable and have no row, by name, with the reason; known
            when it was encoded.
    """

    name: str
    file: str
    tiles: range
    made: dict[str, Any]
    arrays: Callable[[], dict[str, npt.NDArray[Any]]]
    coords_attributes: dict[str, Any]
    rows: Callable[[], int] | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def holds(self, rows: int) -> bool:
        """Whether the features have so many rows."""
        return rows == (len(self.tiles) if self.rows is None else self.rows())


def origin(marker: Marker) -> dict[str, Any]:
    """What coordinates of a slide count from, as attributes of ``coords``: see the module."""
    bounds = marker.bounds if isinstance(marker, SlideMarker) else None
    return {"origin": "slide"} if bounds is None else {"origin": "slide", "bounds": list(bounds)}


def hdf5_fits(path: Path, part: Part) -> bool:
    """Whether a file is whole, to the bit, and was made from the same things."""
    try:
        with opened(path) as file:
            made = {key: file.attrs.get(key) for key in part.made}
            return bool(made == part.made and part.holds(len(file["features"])))
    except UsageError:  # absent, not HDF5, or damaged
        return False


def write_hdf5(path: Path, part: Part, features: Features) -> None:
    """Write it whole or not at all."""
    with atomic.pending(path) as (stream, temporary):
        with hdf5_stream.writing(stream) as file:
            bulk = _fill(file, part, features)
        put(stream, bulk)
    atomic.publish(temporary, path)


def _fill(file: h5py.File, part: Part, features: Features) -> tuple[int, int]:
    """Write all but the seal; where the features' numbers lie."""
    # before all else: so the seal lies at the file's start
    file.attrs.update({**part.made, VERSION_KEY: VERSION, SEAL: np.bytes_(EMPTY)})
    _checked(file, "features", features)
    for name, array in part.arrays().items():
        if array.dtype == object:
            file[name] = array.astype(h5py.string_dtype())
        else:
            _checked(file, name, array)
    if "coords" in file:
        file["coords"].attrs.update(part.coords_attributes)
    return _extent(file["features"])


def _checked(file: h5py.File, name: str, array: npt.NDArray[Any]) -> None:
    """Write an array with checksums of its own (Fletcher 32), which every reader of HDF5 compares."""
    pieces = -(-array.nbytes // PIECE)
    rows = max(1, -(-len(array) // max(1, pieces)))
    file.create_dataset(name, data=array, chunks=(rows, *array.shape[1:]), fletcher32=True)


def _extent(array: h5py.Dataset) -> tuple[int, int]:
    """Where in the file its numbers lie: start and length."""
    pieces = [array.id.get_chunk_info(number) for number in range(array.id.get_num_chunks())]
    start = min(piece.byte_offset for piece in pieces)
    return start, max(piece.byte_offset + piece.size for piece in pieces) - start


def parquet_fits(path: Path, part: Part) -> bool:
    """Whether a file is whole, to the bit, and was made from the same things."""
    try:
        found = pq.read_metadata(pa.BufferReader(read_bytes(path)))
        about = json.loads((found.metadata or {})[METADATA])
        # what is older has no seal
        sealed = SEAL_METADATA in found.metadata or about.get(VERSION_KEY, 1) < SEALED_SINCE
        return bool(sealed and about["made_from"] == part.made and part.holds(found.num_rows))
    except (UsageError, OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException):
        return False  # absent, or not such a file


def write_parquet(path: Path, part: Part, features: Features) -> None:
    """Write it whole or not at all."""
    flat = pa.array(features.reshape(-1), pa.float32())
    columns: dict[str, Any] = {"features": pa.FixedSizeListArray.from_arrays(flat, features.shape[1])}
    for name, array in part.arrays().items():
        if name == "coords":
            columns |= {"x": pa.array(array[:, 0]), "y": pa.array(array[:, 1])}
        else:
            columns[SINGULAR[name]] = pa.array(array.tolist(), pa.string())
    about = {"made_from": part.made, "coords": part.coords_attributes, VERSION_KEY: VERSION}
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(about, sort_keys=True).encode()})
    with atomic.pending(path) as (stream, temporary):
        # random mantissas do not compress
        with pq.ParquetWriter(
            stream, table.schema, compression="none", use_dictionary=False, write_page_checksum=True
        ) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({SEAL_METADATA: EMPTY.encode()})
        put(stream)
    atomic.publish(temporary, path)


# format -> ending, whether a file fits, how it is written
FORMATS = {
    "hdf5": (".h5", hdf5_fits, write_hdf5),
    "parquet": (".parquet", parquet_fits, write_parquet),
}

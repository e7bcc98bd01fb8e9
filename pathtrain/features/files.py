"""Files of features: what ``embed`` writes for a slide, as HDF5 or Parquet; AnnData: see anndata_files.

    <slide>.h5         the layout that CLAM and TRIDENT read. <slide> is the slide's own name; where it cannot
                       be a file's, that in the dataset
      features  (N, D), or (N, P, D) of patch tokens, in the order of the dataset's index; float32, float16
                or bfloat16. This is a type of its own in HDF5 (16 bits, 8 of exponent), which every reader
                converts to float32. Attributes encoder and name, as TRIDENT has them
      coords    (N, 2) int64, x and y of the tile's corner in level-0 pixels; TRIDENT's attributes on it:
                patch_size (at the target magnification), patch_size_level0, overlap, name, and
                level0_magnification and target_magnification, nominal: 10 / MPP, rounded. And origin,
                always ``slide``: they count from the corner of the whole slide, as OpenSlide does; QuPath
                opens slides with bounds (x, y, width, height; where there are) cropped, and counts from there
      attributes: what it was made from: of tiles fingerprint, slide (its name in the dataset), build_id,
                  source_sha256, size (pixels; or `256 cropped to 224`), precision; and positions,
                  how the model's were resampled, where they were. For people encoder, readout, width, mpp,
                dtype and licence. And version (2) and seal, which pathtrain
                  compares; every array of numbers has Fletcher 32 checksums, which all readers compare
    <slide>.parquet    a row per tile: features (a list of D float32 or float16), x, y; straight from slides
                       side, tissue, the quality figures and stain_status, too; the attributes, those of
                       coords too, as JSON in the schema's metadata, under the key ``pathtrain``; the seal
                       under ``pathtrain_seal``, and a checksum of each page

Of image folders and imported tiles there are the strings files, labels and groups instead of coordinates
(in Parquet the columns file, label and group).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.storage.embedded_seal import EMPTY, put
from pathtrain.features import anndata_files, hdf5_stream
from pathtrain.features.part import SINGULAR, Features, Part, pieces, rows_of_a_piece, stored
from pathtrain.features.read import (
    SEAL,
    SEALED_SINCE,
    VERSION,
    VERSION_KEY,
    opened,
    read_bytes,
)

METADATA, SEAL_METADATA = b"pathtrain", b"pathtrain_seal"


def hdf5_fits(path: Path, part: Part) -> bool:
    """Whether a file is whole, to the bit, and was made from the same things."""
    try:
        with opened(path) as file:
            return part.is_made(file.attrs.get) and part.holds(len(file["features"]))
    except UsageError:  # absent, not HDF5, or damaged
        return False


def hdf5_made(path: Path) -> dict[str, Any]:
    """What a file says that it was made from; nothing if it does not, or cannot be read."""
    try:
        with opened(path, whole=False) as file:
            return dict(file.attrs)
    except UsageError:
        return {}


def write_hdf5(path: Path, part: Part, features: Features) -> None:
    """Write it whole or not at all."""
    with atomic.pending(path) as (stream, temporary):
        with hdf5_stream.writing(stream) as file:
            bulk = _fill(file, part, features, path)
        put(stream, bulk)
    atomic.publish(temporary, path)


def _fill(file: h5py.File, part: Part, features: Features, path: Path) -> tuple[int, int]:
    """Write all but the seal; where the features' numbers lie."""
    # before all else: so the seal lies at the file's start
    file.attrs.update({**part.about, **part.made, VERSION_KEY: VERSION, SEAL: np.bytes_(EMPTY)})
    _features(file, part, features, path)
    for name, array in part.arrays().items():
        if array.dtype == object:
            file[name] = array.astype(h5py.string_dtype())
        else:
            file.create_dataset(name, data=array, chunks=_chunks(array), fletcher32=True)
    if "coords" in file:
        file["coords"].attrs.update(part.coords_attributes)
    return _extent(file["features"])


def _features(file: h5py.File, part: Part, features: Features, path: Path) -> None:
    """Write the features with checksums of their own (Fletcher 32), which every reader of HDF5 compares."""
    kind = {"float16": h5py.h5t.IEEE_F16LE, "bfloat16": _bfloat16()}.get(part.dtype, h5py.h5t.IEEE_F32LE)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(_chunks(features))
    plan.set_fletcher32()
    plan.set_obj_track_times(False)  # equal features give equal bytes
    h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple(features.shape), plan)
    there = file["features"]
    for rows in pieces(features):
        there[rows] = stored(features[rows], part.dtype, path)
    if "encoder" in part.about:
        there.attrs.update({"encoder": part.about["encoder"], "name": part.name})


def _bfloat16() -> Any:
    """HDF5's description of it; h5py and others read such numbers as float32."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # sign, exponent from bit 7 with 8 bits, mantissa from bit 0 with 7
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def _chunks(array: npt.NDArray[Any]) -> tuple[int, ...]:
    return (rows_of_a_piece(array), *array.shape[1:])


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
        return bool(sealed and part.is_made(about["made_from"].get) and part.holds(found.num_rows))
    except (UsageError, OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException):
        return False  # absent, or not such a file


def parquet_made(path: Path) -> dict[str, Any]:
    """What a file says that it was made from; nothing if it does not, or cannot be read."""
    try:
        about = json.loads((pq.read_metadata(path).metadata or {})[METADATA])
        return {**about.get("about", {}), **about["made_from"]}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException):
        return {}


def write_parquet(path: Path, part: Part, features: Features) -> None:
    """Write it whole or not at all."""
    if part.dtype == "bfloat16":
        raise UsageError("`dtype` bfloat16: Parquet has no such numbers; give `format` hdf5, or float16")
    values = stored(features, part.dtype, path)
    column: Any = pa.array(values.reshape(-1), pa.float16() if part.dtype == "float16" else pa.float32())
    for side in reversed(features.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, side)
    columns: dict[str, Any] = {"features": column}
    for name, array in part.arrays().items():
        if name == "coords":
            columns |= {"x": pa.array(array[:, 0]), "y": pa.array(array[:, 1])}
        else:
            columns[SINGULAR[name]] = pa.array(array.tolist(), pa.string())
    for name, array in part.columns().items():
        columns.setdefault(name, pa.array(array.tolist() if array.dtype == object else array))
    about = {
        "about": part.about,
        "made_from": part.made,
        "coords": part.coords_attributes,
        VERSION_KEY: VERSION,
    }
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


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
        ending: of its files. fits: whether a file is whole, and was made from the same things.
        write: writes a file. made: what a file says that it was made from.
    """

    ending: str
    fits: Callable[[Path, Part], bool]
    write: Callable[[Path, Part, Features], None]
    made: Callable[[Path], dict[str, Any]]


FORMATS = {
    "hdf5": Kind(".h5", hdf5_fits, write_hdf5, hdf5_made),
    "parquet": Kind(".parquet", parquet_fits, write_parquet, parquet_made),
    "anndata": Kind(".h5ad", anndata_files.h5ad_fits, anndata_files.write_h5ad, hdf5_made),
    "zarr": Kind(".zarr", anndata_files.zarr_fits, anndata_files.write_zarr, anndata_files.zarr_made),
}

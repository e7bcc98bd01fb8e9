"""The columns of a dataset's tiles as plain arrays: from a slide's table, to .npy files, and mapped back.

A column has one dtype and one shape per row, so that a million tables become one array. The column
``region`` brings the tables with it that find a region's tiles (pathprep.dataset.tile_index).
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pathprep.dataset.schema import STATUSES, field
from pathprep.storage import atomic
from pathprep.storage.sums import append_sums, is_whole
from pathprep.words import counted

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# file -> dtype; the first has a row per tile, the next two a row per region, the last a row per slide
REGION_FILES: dict[str, np.dtype[Any]] = {
    "region_order": np.dtype(np.int32),
    "region_ids": np.dtype(np.int32),
    "region_starts": np.dtype(np.int64),
    "region_ends": np.dtype(np.int64),
}


def kind(name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """dtype of a file and the shape of one of its rows.

    Raises:
        KeyError: neither a column of SCHEMA nor a region table.
    """
    if name in REGION_FILES:
        return REGION_FILES[name], ()
    stored = field(name).type
    if pa.types.is_fixed_size_list(stored):
        return np.dtype(stored.value_type.to_pandas_dtype()), (stored.list_size,)
    if pa.types.is_dictionary(stored):
        return np.dtype(np.int8), ()
    plain: np.dtype[Any] = np.dtype(stored.to_pandas_dtype())
    return plain, ()


def files(columns: Iterable[str]) -> list[str]:
    """The arrays that these columns take: each one, and the region tables with ``region``."""
    names = list(dict.fromkeys(columns))
    return [*names, *REGION_FILES] if "region" in names else names


def arrays(table: pa.Table, columns: Iterable[str]) -> Arrays:
    """A slide's columns as arrays.

    Raises:
        ValueError: a column holds what SCHEMA does not allow for.
    """
    return {name: _array(table[name].combine_chunks(), name) for name in columns}


def _array(values: Any, name: str) -> Array:
    dtype, shape = kind(name)
    if shape:
        # where a list is null, its numbers are whatever was there
        rows = values.flatten() if not values.null_count else None
        if rows is not None:
            return np.asarray(rows, dtype).reshape(-1, *shape)
        found = np.full((len(values), *shape), np.nan, dtype)
        found[values.is_valid().to_numpy(zero_copy_only=False)] = np.asarray(
            values.drop_null().flatten(), dtype
        ).reshape(-1, *shape)
        return found
    if pa.types.is_dictionary(values.type):
        values = pc.index_in(values.cast(pa.string()), value_set=pa.array(STATUSES))
    if name == "tissue_pixels":
        values = values.fill_null(-1)
    if values.null_count:
        raise ValueError(f"column {name}: {counted(values.null_count, 'row')} without a value")
    return np.asarray(values.to_numpy(zero_copy_only=False)).astype(dtype, copy=False)


def with_regions(parts: Iterable[Arrays]) -> Iterator[Arrays]:
    """Adds to each slide's columns, in the order of slides, its rows of the region tables."""
    tiles = regions = 0
    for part in parts:
        if "region" in part:
            order = np.argsort(part["region"], kind="stable").astype(np.int32)
            ids, first = np.unique(part["region"][order], return_index=True)
            regions += len(ids)
            part = {
                **part,
                "region_order": order,
                "region_ids": ids,
                "region_starts": tiles + first,
                "region_ends": np.array([regions]),
            }
            tiles += len(order)
        yield part


def join(parts: Iterable[Arrays], columns: Iterable[str]) -> Arrays:
    """All slides' columns and region tables in memory."""
    lists: dict[str, list[Array]] = {name: [_empty(name)] for name in files(columns)}
    for part in with_regions(parts):
        for name, found in lists.items():
            found.append(part[name])
    return {name: np.concatenate(found) for name, found in lists.items()}


def _empty(name: str) -> Array:
    dtype, shape = kind(name)
    return np.empty((0, *shape), dtype)


def write(folder: Path, parts: Iterable[Arrays], columns: Iterable[str]) -> None:
    """Write columns and region tables to <folder>/<name>.npy, slide by slide, each file whole or not at all.

    After what numpy reads, each has the sums of its bytes (storage.sums).

    Args:
        folder: exists.
        parts: each slide's columns, in the order of slides; one slide is held at a time.
        columns: that the parts have.

    Raises:
        OSError: it cannot be written.
    """
    with ExitStack() as stack:
        pending = {
            name: stack.enter_context(atomic.pending(folder / f"{name}.npy")) for name in files(columns)
        }
        rows = dict.fromkeys(pending, 0)
        for name, (file, _) in pending.items():
            _header(file, name, 0)
        for part in with_regions(parts):
            for name, (file, _) in pending.items():
                dtype, shape = kind(name)
                array = np.ascontiguousarray(part[name], dtype)
                assert array.shape[1:] == shape, name
                file.write(array.tobytes() if array.ndim > 1 else array.data)
                rows[name] += len(array)
        for name, (file, _) in pending.items():
            file.seek(0)
            _header(file, name, rows[name])
            append_sums(file)
    for name, (_, temporary) in pending.items():
        atomic.publish(temporary, folder / f"{name}.npy")


def _header(file: Any, name: str, rows: int) -> None:
    # numpy pads the header so that its length does not depend on the number of rows (since 1.23)
    dtype, shape = kind(name)
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(file, about)


def mapped(path: Path, name: str, rows: int | None) -> Array | None:
    """A file as a read-only array that lies on disk; None if it is absent, damaged or of another length.

    All of it is read and compared with its sums, once in a process.

    Args:
        rows: that it must have; None where any number is right.
    """
    try:
        if not is_whole(path):
            return None
        # a plain array over the map: numpy's own class costs a microsecond at each access
        array: Array = np.load(path, mmap_mode="r").view(np.ndarray)
    except Exception:  # of a damaged header numpy raises what its parser happens to
        return None
    dtype, shape = kind(name)
    right = array.dtype == dtype and array.shape[1:] == shape and rows in (None, len(array))
    return array if right else None

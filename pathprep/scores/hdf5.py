"""Scores in HDF5: ``coords`` (N, 2) and scores of as many tiles, as CLAM's heat maps have them."""

import io
from concurrent.futures import TimeoutError
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pebble import ProcessExpired, ProcessPool

from pathprep.errors import UsageError
from pathprep.launchers import server
from pathprep.scores.columns import Column, Floats, Ints, is_named_by_numbers, of_names, texts_of
from pathprep.scores.rows import Rows
from pathprep.storage import hdf5_chunks, regular
from pathprep.storage.embedded_seal import seal_in
from pathprep.storage.printable import printable
from pathprep.storage.seals import Seal

NO_SCORES = ("features", "coords", "embeddings", "imgs", "annotations")
TIMEOUT_S = 120.0
MOST_BRANCHES = 64  # columns of one dataset of scores
ENDINGS = (
    "_blockmap",
    "_patches",
    "_attention",
    "_scores",
)  # of files that CLAM and others name after a slide


def read(path: Path) -> tuple[str, Rows, list[str]]:
    """The slide's name, its rows, and what was left out.

    The file is read in a child process: one flipped bit can make libhdf5 end its process, or never come back.

    Raises:
        UsageError: it cannot be read, has no ``coords``, or no score.
    """
    with ProcessPool(1, context=server.context(loaded=False)) as pool:
        try:
            found: tuple[str, Rows, list[str]] = pool.schedule(
                _read_file, args=[path], timeout=TIMEOUT_S
            ).result()
        except ProcessExpired as error:
            raise UsageError(
                f"{path}: damaged (its reader crashed, exit code {error.exitcode}); make it again"
            ) from None
        except TimeoutError:
            raise UsageError(f"{path}: could not be read within {TIMEOUT_S:g} s; make it again") from None
    return found


def _read_file(path: Path) -> tuple[str, Rows, list[str]]:
    try:
        data = regular.read(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if seal_in(data) is Seal.BROKEN:  # before libhdf5 sees it
        raise UsageError(f"{path}: damaged (its seal differs); make it again")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return _read(path, file)
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # of a damaged file h5py raises OSError, RuntimeError, KeyError, ValueError ...
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UsageError(f"{path}: not a readable HDF5 file of scores ({line})") from None


def _read(path: Path, file: Any) -> tuple[str, Rows, list[str]]:
    if not isinstance(file.get("coords"), h5py.Dataset):
        raise UsageError(f"{path}: no `coords`, (N, 2) of level-0 pixels; it has {', '.join(file) or 'none'}")
    coords = np.asarray(hdf5_chunks.whole(file["coords"]))
    if coords.ndim == 3 and coords.shape[0] == 1:
        coords = coords[0]
    if coords.ndim != 2 or coords.shape[1] != 2 or not len(coords) or coords.dtype.kind not in "iuf":
        raise UsageError(f"{path}: coords are {coords.shape} of {coords.dtype}; expected (N, 2) of pixels")
    if not np.isfinite(coords).all():
        raise UsageError(f"{path}: coords hold NaN or infinity")
    columns, notes = dict[str, Column](), list[str]()
    for name, stored in file.items():
        if name in NO_SCORES or not isinstance(stored, h5py.Dataset):
            continue
        made = _columns(name, np.asarray(hdf5_chunks.whole(stored)), len(coords))
        if made is None:
            notes.append(
                f"{printable(name)}: {stored.shape} of {stored.dtype} are no scores of tiles; left out"
            )
        else:
            columns |= made
    places: Ints = np.rint(coords).astype(np.int64)
    side = np.full(len(coords), _side(file["coords"].attrs), np.int64)
    rows = Rows(places[:, 0], places[:, 1], side, columns, np.arange(1, len(coords) + 1))
    return _slide(path, file), rows, notes


def _columns(name: str, values: Any, tiles: int) -> dict[str, Column] | None:
    """The columns of a dataset; of several branches (CLAM-MB, a probability per class) each its own.

    Branches come first in CLAM's attention, (C, N), and last in tables of probabilities, (N, C).
    """
    if values.dtype.kind in "OS":
        texts = [
            each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values.flat
        ]
        classes = of_names(texts) if len(texts) == tiles else None
        return None if classes is None else {name: classes}
    if values.dtype.kind not in "iufb":
        return None
    flat: Floats = values.astype(np.float64)
    while flat.ndim > 2 and 1 in flat.shape:
        flat = flat.squeeze(flat.shape.index(1))
    if flat.size == tiles:
        own = flat.reshape(-1)
        if is_named_by_numbers(name, own):
            classes = of_names(texts_of(own))
            return None if classes is None else {name: classes}
        return {name: own}
    if flat.ndim == 2 and tiles in flat.shape and flat.size // tiles <= MOST_BRANCHES:
        branches = flat.T if flat.shape[0] == tiles else flat
        return {f"{name} {number}": branch for number, branch in enumerate(branches)}
    return None


def _side(attributes: Any) -> int:
    """Of a tile, level-0 pixels: as stated, or by CLAM's patch size and its level's downsample."""
    if "patch_size_level0" in attributes:
        return int(attributes["patch_size_level0"])
    if "patch_size" in attributes and ("downsample" in attributes or not attributes.get("patch_level", 1)):
        by = float(np.ravel(attributes["downsample"])[0]) if "downsample" in attributes else 1.0
        return round(int(attributes["patch_size"]) * by)
    return 0


def _slide(path: Path, file: Any) -> str:
    for attributes in (file.attrs, file["coords"].attrs):
        for key in ("own_name", "slide", "name"):
            if isinstance(attributes.get(key), str | bytes):
                value = attributes[key]
                return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return next((path.stem.removesuffix(one) for one in ENDINGS if path.stem.endswith(one)), path.stem)

"""PCam's HDF5 files: ``<name>_x.h5`` with images, ``<name>_y.h5`` with labels, ``<name>_meta.csv``."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pathprep.errors import UsageError
from pathprep.images import limits
from pathprep.slides.readers.base import Pixels
from pathprep.storage import cells, hdf5_chunks, regular, tables
from pathprep.storage.tables import Columns
from pathprep.tilesets.images import SIDES
from pathprep.tilesets.items import Item, split_of
from pathprep.words import counted

SUFFIXES = ("_x.h5", "_x.hdf5")
# Rows are read one by one in rising order, and a compressed chunk of them must be unpacked only once
CHUNK_CACHE = 128 << 20
# Images of one file: a header may say any number, and each takes some hundred bytes before it is read
MOST = 20_000_000
MOST_CHUNK = 1 << 30  # bytes of a chunk, which is unpacked whole


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted."""
    return sorted(path for path in folder.glob("*") if path.name.endswith(SUFFIXES) and path.is_file())


def items(path: Path, meta: Path | None, columns: Columns) -> list[Item]:
    """One item per row of an image file; its labels are y's numbers as text, its groups the meta CSV's.

    Args:
        path: ``<name>_x.h5``: dataset ``x`` (N, H, H, 3) uint8; beside it ``<name>_y.h5``: dataset ``y``,
            N whole numbers.
        meta: CSV with a row per image in their order; None for ``<name>_meta.csv``, if it is there.
        columns: which of the CSV's columns is the group; default: ``wsi``.

    Raises:
        UsageError: a file is missing, or does not hold what it should, or they do not belong together.
    """
    count = _shape(path)[0]
    labels = _labels(path.with_name(beside(path, "y") + path.suffix), count, path)
    found = meta or path.with_name(beside(path, "meta") + ".csv")
    groups = _groups(found, labels, columns) if meta or found.is_file() else None
    split = split_of(path.name)
    return [
        Item(f"{path.name}#{row}", label, groups[row] or None if groups else None, split, row)
        for row, label in enumerate(labels)
    ]


def beside(path: Path, what: str) -> str:
    """The stem of the file that belongs to an image file: ``y`` or ``meta``."""
    return path.stem.removesuffix("_x") + f"_{what}"


@contextmanager
def _dataset(path: Path, name: str) -> Iterator[Any]:
    """A dataset of a file.

    Raises:
        UsageError: there is none, or it cannot be read, here or in what is done with it.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; PCam's images and labels lie side by side, unpacked")
    try:
        with h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE) as file:
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink | h5py.SoftLink):
                raise UsageError(f"{path}: '{name}' is a link to another place; copy the data into the file")
            stored = file.get(name)
            if not isinstance(stored, h5py.Dataset):
                raise UsageError(f"{path}: holds no dataset '{name}'; it has {', '.join(file) or 'none'}")
            if stored.external or stored.is_virtual:
                raise UsageError(f"{path}: '{name}' has its data in other files; copy them into this one")
            if stored.chunks and math.prod(stored.chunks) * stored.dtype.itemsize > MOST_CHUNK:
                raise UsageError(
                    f"{path}: '{name}' is stored in chunks of {stored.chunks}, which do not fit into memory; "
                    "store it in chunks of fewer rows"
                )
            yield stored
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # of a damaged file h5py raises OSError, RuntimeError, KeyError, ValueError ...
        words = limits.reason(error)
        raise UsageError(f"{path}: not a readable HDF5 file ({words}); download it again") from None


def _shape(path: Path) -> tuple[int, ...]:
    with _dataset(path, "x") as images:
        shape, kind = images.shape, images.dtype
    low, high = SIDES
    square = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2] and low <= shape[1] <= high
    if not square or kind != np.uint8 or not shape[0]:
        first = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]
        fix = "; its channels come first: move them last" if first else ""
        fix += f"; scale {kind} to 0..255 from its true range" if kind != np.uint8 else ""
        raise UsageError(
            f"{path}: x is {shape} of {kind}; expected (N, H, H, 3) of uint8, H {low} to {high}{fix}"
        )
    if shape[0] > MOST:
        raise UsageError(f"{path}: says it has {shape[0]:,} images, at most {MOST:,} are read; divide it")
    return tuple(shape)


def _labels(path: Path, count: int, images: Path) -> list[str]:
    with _dataset(path, "y") as stored:
        if (
            stored.shape == ()
            or stored.size != count
            or len(stored) != count
            or stored.dtype.kind not in "iub"
        ):
            raise UsageError(
                f"{path}: y is {stored.shape} of {stored.dtype}; "
                f"expected a whole number for each of the {count} images of {images.name}"
            )
        values = hdf5_chunks.whole(stored).reshape(-1)
    return [str(int(value)) for value in values]


def _groups(path: Path, labels: list[str], columns: Columns) -> list[str]:
    table = tables.read(path)
    groups = table.need("group", columns)
    if len(groups) != len(labels):
        raise UsageError(
            f"{path}: {counted(len(groups), 'row')} for "
            f"{counted(len(labels), 'image')}; is it of another partition?"
        )
    stated = table.columns.get("center_tumor_patch")
    if stated is not None:
        for line, said, label in zip(table.lines, stated, labels, strict=True):
            if (said.lower() in ("true", "1")) != (label == "1"):
                raise UsageError(
                    f"{path}, line {line}: center_tumor_patch is {said}, but the image's label is {label}; "
                    "the files do not belong together"
                )
    return [cells.known(group) for group in groups]


class Rows:
    """Images by row, from the files of one shard."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # kept open: a dataset that is opened again has lost its chunk cache
        self._images: dict[str, Any] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what was opened."""
        for stored in self._images.values():
            stored.file.close()

    def read(self, item: Item) -> Pixels:
        """(H, H, 3) uint8.

        Raises:
            Exception: it cannot be read; h5py raises OSError, RuntimeError, KeyError and others.
        """
        with self._lock:
            if item.file not in self._images:
                path = self._root / item.file
                regular.open_regular(path).close()
                file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE)
                self._images[item.file] = file["x"]
            stored = self._images[item.file]
            hdf5_chunks.check(stored, item.row)
            pixels: Pixels = stored[item.row]
        return pixels

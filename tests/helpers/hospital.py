"""Slides as a hospital names them, and a search for what must be nowhere."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import pyarrow.parquet as pq

from helpers.slides import tissue, write_tiff

# Of slides, folders and masks: none of these may be in anything that is made with pseudonyms
SLIDES = ("S19-01234", "Mueller_Hans 4711")
FOLDERS = ("ward-zimmermann", "Pat_00815")


def slides(root: Path) -> Path:
    """Two slides in folders that are named after patients; returns the folder."""
    folder = root / FOLDERS[0] / FOLDERS[1]
    folder.mkdir(parents=True)
    for number, name in enumerate(SLIDES):
        write_tiff(folder / f"{name}.tif", tissue(360, 420, seed=number, margin=50))
    return folder


def texts(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's name and bytes, and what is compressed in Parquet and HDF5."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        yield name, name.encode()
        if not path.is_file():
            continue
        yield name, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield name, repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                yield name, _hdf5(file)


def _hdf5(file: h5py.File) -> bytes:
    found = [repr(dict(file.attrs))]

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        found.extend([name, repr(dict(item.attrs))])
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "OS":
            found.append(repr(item[()].tolist()))

    file.visititems(visit)
    return "\n".join(found).encode()


def leaks(root: Path, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Files of a folder in which a word occurs in any case, and the word."""
    return [
        (name, word) for name, data in texts(root) for word in words if word.lower().encode() in data.lower()
    ]

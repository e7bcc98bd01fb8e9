"""The texts in files of every kind that this project writes; nothing is executed, and no pixel decoded.

JSON, YAML, HTML, CSV and logs by their lines; Parquet and HDF5 by their columns and attributes; checkpoints
by the strings of their pickles, looked through and not loaded; all others by their readable letters.
"""

import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.storage import hdf5_chunks

LARGEST = 1 << 28  # bytes of a text that is read; of a larger file its first
_READABLE = re.compile(rb"[\x20-\x7e]{6,}")
# What follows a name in a key of a tile and in a row of HDF5
_PLACE = re.compile(r"__\d+_\d+$|#\d+$")
_DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
# Columns, attributes and keys of JSON that name slides, patients and files
NAMES = frozenset({"slide", "slide_id", "own_name", "group", "groups", "image", "set", "patient", "patients"})
JSON_NAMES = NAMES | {"slides", "held-out slides"}
COLUMN_NAMES = NAMES | {"name", "source", "file", "files", "key"}
BYTES = "its bytes"  # where of a text that was found among bytes
LABELS = frozenset({"label", "labels"})


class Text(NamedTuple):
    """A text of a file.

    Attributes:
        where: within the file: a key, column or attribute. text: it.
        kind: ``name`` of a slide, group or file; ``label``; or any other ``text``.
    """

    where: str
    text: str
    kind: str = "text"


def of_file(path: Path) -> Iterator[Text]:
    """The texts of a file.

    Raises:
        OSError, ValueError, and those of its reader: it cannot be read as what its name says.
    """
    reader = _READERS.get(path.suffix.lower(), _readable)
    yield from reader(path)


def _kind(where: str, names: Set[str] = COLUMN_NAMES) -> str:
    last = where.rpartition(".")[2]
    return "name" if last in names else "label" if last in LABELS else "text"


def _json(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        yield from _values(json.loads(file.read(LARGEST)), "")


def _values(value: Any, where: str) -> Iterator[Text]:
    if isinstance(value, str):
        yield Text(where, value, _kind(where, JSON_NAMES))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield Text(where or "its keys", str(key))
            yield from _values(each, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _values(each, where)


def _lines(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        text = file.read(LARGEST).decode(errors="replace")
    for number, line in enumerate(_DATA_URI.sub("", text).splitlines(), 1):
        yield Text(f"line {number}", line)


def _parquet(path: Path) -> Iterator[Text]:
    with pq.ParquetFile(path) as file:
        for key, value in (file.schema_arrow.metadata or {}).items():
            name = key.decode(errors="replace")
            yield from _attribute(value.decode(errors="replace"), f"metadata.{name}")
        columns = [each.name for each in file.schema_arrow if _is_text(each.type)]
        seen: set[tuple[str, str]] = set()
        for batch in file.iter_batches(columns=columns) if columns else ():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for value in column.unique().to_pylist():
                    value = value if value is None else _PLACE.sub("", value)
                    if value is not None and (name, value) not in seen:
                        seen.add((name, value))
                        yield Text(name, value, _kind(name))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _attribute(text: str, where: str) -> Iterator[Text]:
    """A text beside the columns, which may be JSON."""
    try:
        found = json.loads(text) if text[:1] in ("{", "[") else None
    except ValueError:
        found = None
    if found is None:
        yield Text(where, text, _kind(where))
    else:
        yield from _values(found, where)


def _hdf5(path: Path) -> Iterator[Text]:
    found: list[Text] = []

    def visit(name: str, item: Any) -> None:
        for key, value in item.attrs.items():
            for each in np.atleast_1d(value):
                if isinstance(each, str | bytes):
                    found.extend(_attribute(_text(each), f"{name or '/'}.{key}"))
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "OS":
            values = {_PLACE.sub("", _text(each)) for each in hdf5_chunks.whole(item).ravel().tolist()}
            found.extend(Text(name, each, _kind(name)) for each in values)

    with h5py.File(path, "r") as file:
        visit("", file)
        file.visititems(visit)
    yield from found


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _safetensors(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        yield from _values(json.loads(file.read(min(length, LARGEST))), "header")


def _checkpoint(path: Path) -> Iterator[Text]:
    """A file of torch.save: a zip whose data.pkl is looked through, opcode by opcode, and never loaded."""
    if not zipfile.is_zipfile(path):
        yield from _readable(path)
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield Text("its members", name)
            if name.endswith(".pkl"):
                with archive.open(name) as file:
                    for _, argument, _ in pickletools.genops(file.read(LARGEST)):
                        if isinstance(argument, str):
                            yield Text(name, argument)


def _readable(path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        yield from readable(file)


def readable(file: BinaryIO) -> Iterator[Text]:
    """Whatever could be read by people, in pieces that share their ends."""
    tail = b""
    while piece := file.read(1 << 22):
        data = tail + piece
        for found in _READABLE.finditer(data):
            yield Text(BYTES, found[0].decode("ascii"))
        tail = data[-256:]


_READERS: dict[str, Callable[[Path], Iterator[Text]]] = {
    ".json": _json,
    ".geojson": _json,
    ".parquet": _parquet,
    ".h5": _hdf5,
    ".safetensors": _safetensors,
    ".pt": _checkpoint,
    **dict.fromkeys((".yaml", ".yml", ".html", ".md", ".txt", ".csv", ".log", ".jsonl", ".sh"), _lines),
}

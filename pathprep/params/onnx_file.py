"""What an ONNX file says of itself, without running it: its metadata, and the files that its weights lie in.

Only as much of Protocol Buffers' wire format is read as that takes; field numbers are those of onnx.proto
(ModelProto: graph 7, metadata_props 14; GraphProto: node 1, initializer 5; NodeProto: attribute 5;
AttributeProto: t 5, g 6; TensorProto: external_data 13; StringStringEntryProto: key 1, value 2).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError

MOST_BYTES = 2 << 30  # Protocol Buffers' own limit


@dataclass(frozen=True)
class OnnxFile:
    """A model's file.

    Attributes:
        metadata: keys and values that its maker wrote.
        files: the model, then those of its weights outside it.
        sha256: of the bytes of all of them, 64 hex digits.
    """

    metadata: dict[str, str]
    files: tuple[Path, ...]
    sha256: str


def read(path: Path) -> OnnxFile:
    """What a file says.

    Raises:
        UsageError: it is absent, no ONNX model, or weights that it names are absent or outside its folder.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(
                f"{path}: larger than any ONNX file (2 GB); keep its weights in a file beside it"
            )
        data = memoryview(path.read_bytes())
        metadata, outside = {}, dict[str, None]()
        graphs = 0
        for number, value in _fields(data):
            if number == 14:
                key, text = _pair(value)
                metadata[key] = text
            elif number == 7:
                graphs += 1
                outside |= dict.fromkeys(_outside(value))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, RecursionError):
        raise UsageError(f"{path}: not an ONNX model, or damaged") from None
    if not graphs:
        raise UsageError(f"{path}: not an ONNX model (it has no graph)")
    files = [path]
    for name in outside:
        place = path.parent / name
        if not place.resolve().is_relative_to(path.parent.resolve()):
            raise UsageError(f"{path}: names weights outside its folder ({name})")
        if not place.is_file():
            raise UsageError(f"{path}: its weights are in {name}, which is not beside it; copy both")
        files.append(place)
    digest = hashlib.sha256(data)
    for place in files[1:]:
        with place.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return OnnxFile(metadata, tuple(files), digest.hexdigest())


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field that has a length; numbers are passed over.

    Raises:
        ValueError, IndexError: it is not Protocol Buffers' format.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("cut short")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _pair(data: memoryview) -> tuple[str, str]:
    parts = {number: bytes(value).decode() for number, value in _fields(data)}
    return parts.get(1, ""), parts.get(2, "")


def _outside(graph: memoryview) -> Iterator[str]:
    """Names of the files that tensors of a graph, and of graphs within it, lie in."""
    for number, value in _fields(graph):
        if number == 5:
            yield from _location(value)
        elif number == 1:
            for attribute in (part for field, part in _fields(value) if field == 5):
                for field, part in _fields(attribute):
                    if field == 5:
                        yield from _location(part)
                    elif field == 6:
                        yield from _outside(part)


def _location(tensor: memoryview) -> Iterator[str]:
    for number, value in _fields(tensor):
        if number == 13:
            key, text = _pair(value)
            if key == "location":
                yield text

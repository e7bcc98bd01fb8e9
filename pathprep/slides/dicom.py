"""DICOM slides: a series of files, one for each level, label and overview, as their headers say.

OpenSlide opens the whole slide from any of its files, and reads every file of the folder to find the others:
for a folder of thousands of files it is asked about one file of each series only. Headers are read here, as
far as the tags that are needed (PS3.5, explicit and implicit VR, little endian).
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pathprep.storage import regular

MAGIC_AT, MAGIC = 128, b"DICM"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_IMPLICIT, _EXPLICIT_LITTLE = "1.2.840.10008.1.2", ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_TRANSFER = (0x0002, 0x0010)
_WANTED = {
    (0x0008, 0x0008): "kind",
    (0x0008, 0x0016): "sop_class",
    (0x0008, 0x0018): "instance",
    (0x0020, 0x000E): "series",
    (0x0028, 0x0008): "frames",
    (0x0028, 0x0010): "rows",
    (0x0028, 0x0011): "columns",
}
_LAST = (0x0028, 0x0011)
# Value representations whose length takes four bytes, after two that are empty
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_DEEPEST = 16  # sequences in sequences
_MOST = 10_000  # elements of one header


@dataclass(frozen=True)
class DicomFile:
    """What a header says.

    Attributes:
        path: of the file. series, instance: UIDs. kind: VOLUME, LABEL, OVERVIEW or THUMBNAIL.
        pixels: of all its frames.
        is_slide: its class is that of whole slides.
    """

    path: Path
    series: str
    instance: str
    kind: str
    pixels: int
    is_slide: bool


@dataclass(frozen=True)
class Series:
    """A DICOM slide.

    Attributes:
        uid: its identity. files: its levels, in the order of their instances' UIDs; label and overview are
            not among them, since they may be deleted, or arrive late.
    """

    uid: str
    files: tuple[Path, ...]


def has_magic(path: Path) -> bool:
    """Whether a file is DICOM, whatever it is called."""
    try:
        with regular.open_regular(path) as file:
            file.seek(MAGIC_AT)
            return file.read(4) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> DicomFile | None:
    """What a DICOM file's header says; None if it is damaged, in another encoding, or not DICOM."""
    try:
        with regular.open_regular(path) as file:
            file.seek(MAGIC_AT)
            if file.read(4) != MAGIC:
                return None
            found = _elements(file)
    except (OSError, ValueError, struct.error):
        return None
    if "series" not in found:
        return None
    kinds = found.get("kind", b"").decode("ascii", "replace").split("\\")
    kind = kinds[2].strip() if len(kinds) > 2 else "VOLUME"
    frames = _text(found.get("frames", b"1"))
    sides = [int.from_bytes(found.get(side, b"\0\0"), "little") for side in ("rows", "columns")]
    pixels = (int(frames) if frames.isdecimal() else 1) * sides[0] * sides[1]
    return DicomFile(
        path,
        _text(found["series"]),
        _text(found.get("instance", b"")),
        kind,
        pixels,
        _text(found.get("sop_class", b"")) == WHOLE_SLIDE,
    )


def in_folder(folder: Path) -> list[DicomFile]:
    """The files of slides that lie in a folder; none if it cannot be listed."""
    try:
        listed = [each for each in sorted(folder.iterdir()) if each.is_file()]
    except OSError:
        return []
    return [each for each in map(read_header, listed) if each is not None and each.is_slide]


def series(files: Iterable[DicomFile]) -> Series | None:
    """The slide that files of one series and folder make; None if none of them is a level."""
    levels: dict[str, DicomFile] = {}
    for each in files:
        if each.kind == "VOLUME":
            levels.setdefault(each.instance, each)  # a file may have been copied beside itself
    paths = tuple(levels[instance].path for instance in sorted(levels))
    return Series(next(iter(levels.values())).series, paths) if levels else None


def largest(files: Iterable[DicomFile]) -> DicomFile:
    """The file of the largest level, which a slide cannot be without."""
    return max(files, key=lambda each: (each.kind == "VOLUME", each.pixels, each.instance))


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _elements(file: BinaryIO) -> dict[str, bytes]:
    """The wanted elements, from after the magic on."""
    found: dict[str, bytes] = {}
    implicit = False
    for _ in range(_MOST):
        start = file.tell()
        tag = _tag(file)
        if tag is None or tag > _LAST:
            break
        if tag[0] > 0x0002 and "syntax" in found:
            syntax = _text(found.pop("syntax"))
            if syntax in _EXPLICIT_LITTLE:
                raise ValueError("big-endian or deflated")
            implicit = syntax == _IMPLICIT
        length = _length(file, implicit and tag[0] > 0x0002)
        name = "syntax" if tag == _TRANSFER else _WANTED.get(tag)
        if length == _UNDEFINED:
            _skip_items(file, implicit, 0)
        elif name is not None and length <= 1024:
            found[name] = file.read(length)
        else:
            file.seek(length, 1)
        if file.tell() <= start:
            raise ValueError("no header")
    return found


def _tag(file: BinaryIO) -> tuple[int, int] | None:
    data = file.read(4)
    return struct.unpack("<HH", data) if len(data) == 4 else None


def _length(file: BinaryIO, implicit: bool) -> int:
    if implicit:
        return int(struct.unpack("<I", file.read(4))[0])
    kind, short = struct.unpack("<2sH", file.read(4))
    return int(struct.unpack("<I", file.read(4))[0]) if kind in _LONG else int(short)


def _skip_items(file: BinaryIO, implicit: bool, depth: int) -> None:
    """Pass over a sequence of undefined length, from its first item to its end."""
    if depth > _DEEPEST:
        raise ValueError("sequences too deep")
    for _ in range(_MOST):
        tag, length = _tag(file), struct.unpack("<I", file.read(4))[0]
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise ValueError("no item")
        if length != _UNDEFINED:
            file.seek(length, 1)
            continue
        for _ in range(_MOST):
            inner = _tag(file)
            if inner == _ITEM_END:
                file.seek(4, 1)
                break
            if inner is None:
                raise ValueError("cut off")
            size = _length(file, implicit)
            if size == _UNDEFINED:
                _skip_items(file, implicit, depth + 1)
            else:
                file.seek(size, 1)
    raise ValueError("no end")

"""DICOM files of which only the header is there: enough to tell which slide they are of."""

import struct
from pathlib import Path

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF


def element(group: int, number: int, kind: str, value: bytes, implicit: bool = False) -> bytes:
    """One element; ``SQ`` has an undefined length and one item that holds ``value``."""
    tag = struct.pack("<HH", group, number)
    if kind == "SQ":
        items = (
            struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + value + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        )
        value = items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return tag + (b"" if implicit else b"SQ\0\0") + struct.pack("<I", UNDEFINED) + value
    value += b"\0" * (len(value) % 2)
    if implicit:
        return tag + struct.pack("<I", len(value)) + value
    return tag + kind.encode() + struct.pack("<H", len(value)) + value


def write_dicom(
    path: Path,
    series: str,
    instance: str,
    *,
    kind: str = "VOLUME",
    side: int = 256,
    sop_class: str = WHOLE_SLIDE,
    syntax: str = EXPLICIT,
    tail: bytes = b"",
) -> Path:
    """A file of one frame of ``side`` pixels; ``tail``: bytes after its header."""
    implicit = syntax == IMPLICIT

    def of(group: int, number: int, vr: str, value: bytes) -> bytes:
        return element(group, number, vr, value, implicit)

    # a series that is referred to stands before the file's own, in sequences within sequences
    other = of(0x0020, 0x000E, "UI", b"9.9.9")
    body = [
        of(0x0008, 0x0008, "CS", f"ORIGINAL\\PRIMARY\\{kind}\\NONE".encode()),
        of(0x0008, 0x0016, "UI", sop_class.encode()),
        of(0x0008, 0x0018, "UI", instance.encode()),
        of(0x0008, 0x1115, "SQ", other + of(0x0008, 0x1140, "SQ", other)),
        of(0x0020, 0x000E, "UI", series.encode()),
        of(0x0028, 0x0008, "IS", b"1"),
        of(0x0028, 0x0010, "US", struct.pack("<H", side)),
        of(0x0028, 0x0011, "US", struct.pack("<H", side)),
        of(0x0040, 0x0560, "SQ", other),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = element(0x0002, 0x0010, "UI", syntax.encode())
    path.write_bytes(bytes(128) + b"DICM" + meta + b"".join(body) + tail)
    return path

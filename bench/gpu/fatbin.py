"""CUDA device code in shared libraries: all but one architecture's is zeroed, which compresses to nothing.

A fat binary is an ELF section ``.nv_fatbin`` of records, each a header and entries, one for each architecture
and kind. Entries keep their places and sizes, so that nothing else in the file moves; the one that is kept is
as it was. CUDA picks the entry that fits the card, and on another card finds none.

    header  u32 magic 0xBA55ED50, u16 version, u16 size of this header, u64 size of the entries
    entry   u16 kind (1 PTX, 2 machine code), u16 version, u32 size of this header, u64 size of the code,
            and at byte 28 u32 architecture, such as 90

(The format is not documented by NVIDIA; it is as `cuobjdump --list-elf` shows these files.)
"""

import struct
from collections.abc import Iterator
from pathlib import Path

MAGIC, MACHINE_CODE = 0xBA55ED50, 2
SECTION = b".nv_fatbin"
ELF64_LITTLE = b"\x7fELF\x02\x01"


def sections(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the sections with fat binaries in an ELF file.

    Raises:
        ValueError: it is no 64-bit little-endian ELF file.
    """
    if not data.startswith(ELF64_LITTLE):
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + number * size) for number in range(count)]
    for name, _, _, _, offset, length in headers:
        start = headers[names][4] + name
        if data[start : data.index(b"\0", start)].startswith(SECTION):
            yield offset, offset + length


def entries(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, slice]]:
    """Kind, architecture and place of the code of each entry in a section."""
    while start + 16 <= end:
        magic, _, header, size = struct.unpack_from("<IHHQ", data, start)
        if magic != MAGIC:
            start += 8  # records are aligned to it
            continue
        at, start = start + header, start + header + size
        while at + 32 <= start:
            kind, _, head, code = struct.unpack_from("<HHIQ", data, at)
            (architecture,) = struct.unpack_from("<I", data, at + 28)
            yield kind, architecture, slice(at + head, at + head + code)
            at += head + code


def keep_only(path: Path, architecture: int) -> tuple[int, int]:
    """Zero, in place, the code of all other architectures; bytes that were kept, and that were zeroed.

    A file without code of this one stays as it is: the card would take another's, or PTX.

    Raises:
        ValueError: it is no 64-bit little-endian ELF file.
    """
    data = bytearray(path.read_bytes())
    kept = zeroed = 0
    for start, end in sections(bytes(data)):
        for kind, found, place in list(entries(bytes(data), start, end)):
            length = place.stop - place.start
            if (kind, found) == (MACHINE_CODE, architecture):
                kept += length
            else:
                data[place] = bytes(length)
                zeroed += length
    if not kept:
        return 0, 0
    path.write_bytes(data)
    return kept, zeroed

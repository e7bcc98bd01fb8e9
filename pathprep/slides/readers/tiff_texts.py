"""How long the texts and other metadata of a TIFF are, before any library reads them into memory.

The libraries that read slides take whatever length a tag declares, several times over: 115 MB of
ImageDescription took 1.8 GB. So the directories are walked here first, entry by entry, without the values.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pathprep.slides.readers import limits

# DocumentName, ImageDescription, Make, Model, PageName, Software, DateTime, Artist, HostComputer,
# JPEGTables, XMP, Copyright, IPTC, Photoshop, ICC profile
_TAGS = frozenset({269, 270, 271, 272, 285, 305, 306, 315, 316, 347, 700, 33432, 33723, 34377, 34675})
_NAMES = {270: "ImageDescription", 700: "XMP", 34675: "ICC profile"}
_SUBIFDS = 330
_BYTES = {1: 1, 2: 1, 6: 1, 7: 1, 4: 4, 13: 4, 16: 8, 18: 8}  # of a value, by its type
# The longest are those of Philips, which hold pictures: some MB
LONGEST, ALL = 1 << 24, 1 << 26


def too_long(path: Path) -> str:
    """Which text of a TIFF is longer than any program writes, in words; "" for other files and sound ones.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    total = 0
    with path.open("rb") as file:
        for tag, length in _lengths(file, size):
            total += length
            if length > LONGEST or total > ALL:
                name = _NAMES.get(tag, f"tag {tag}")
                return f"its {name} is declared as {length:,} bytes ({total:,} with what stands before)"
    return ""


def _lengths(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Tag and bytes of each text that the file can hold."""
    head = file.read(16)
    if len(head) < 8 or head[:2] not in (b"II", b"MM"):
        return
    order = "<" if head[:2] == b"II" else ">"
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version == 42:
        entry, number, pointer = f"{order}HHI4s", f"{order}H", f"{order}I"
        first = head[4:8]
    elif version == 43 and len(head) == 16:
        entry, number, pointer = f"{order}HHQ8s", f"{order}Q", f"{order}Q"
        first = head[8:16]
    else:
        return
    step, wide = struct.calcsize(entry), struct.calcsize(pointer)
    todo = [int(struct.unpack(pointer, first)[0])]
    seen: set[int] = set()
    while todo and len(seen) <= limits.MAX_DIRECTORIES:
        at = todo.pop(0)
        if at in seen or not 0 < at < size:
            continue
        seen.add(at)
        file.seek(at)
        count = file.read(struct.calcsize(number))
        if len(count) < struct.calcsize(number):
            continue
        entries = file.read(min(int(struct.unpack(number, count)[0]), 1 << 16) * step + wide)
        found = list(struct.iter_unpack(entry, entries[: (len(entries) - wide) // step * step]))
        if len(entries) >= wide:
            todo.append(int(struct.unpack(pointer, entries[-wide:])[0]))
        for tag, kind, values, value in found:
            length = _BYTES.get(kind, 0) * values
            if tag in _TAGS and length <= size:
                yield tag, length
            elif tag == _SUBIFDS and 0 < values <= limits.MAX_DIRECTORIES and length:
                form = f"{order}{values}{'Q' if _BYTES[kind] == 8 else 'I'}"
                if length > wide:
                    file.seek(min(int(struct.unpack(pointer, value)[0]), size))
                    value = file.read(length)
                if len(value) >= length and _BYTES[kind] > 1:
                    todo += struct.unpack(form, value[:length])

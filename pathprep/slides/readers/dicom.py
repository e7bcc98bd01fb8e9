"""What a DICOM slide's header says that OpenSlide does not tell or judge: spacing, bits, colours.

Explicit little-endian files with a preamble, which is what OpenSlide reads. Nothing is decoded.
"""

import mmap
from dataclasses import dataclass, field
from pathlib import Path

from pathprep.slides.readers import jpeg2000_header, jpeg_header

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SEQUENCES = frozenset({(0x5200, 0x9229), (0x0028, 0x9110)})  # shared functional groups, pixel measures
_ITEM, _UNDEFINED = (0xFFFE, 0xE000), 0xFFFFFFFF
_PIXELS = (0x7FE0, 0x0010)
_JPEG = "1.2.840.10008.1.2.4.50"
_JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
_FIX = "export it again from the scanner's program, or with a newer converter"
# Of a frame
_FRAME = 1 << 16


@dataclass
class Instance:
    """One DICOM file.

    Attributes:
        values: of the elements outside sequences, and of pixel measures, by (group, element).
        frame: the first bytes of its first compressed frame.
    """

    values: dict[tuple[int, int], bytes] = field(default_factory=dict)
    frame: bytes = b""

    def text(self, group: int, element: int) -> str:
        """A value of text; empty without."""
        return self.values.get((group, element), b"").decode("latin-1").strip("\0 ")

    def number(self, group: int, element: int) -> int:
        """An unsigned integer; 0 without."""
        return int.from_bytes(self.values.get((group, element), b""), "little")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the total pixel matrix."""
        return self.number(0x0048, 0x0006), self.number(0x0048, 0x0007)

    @property
    def spacing(self) -> float | None:
        """Mean of both axes, millimetres."""
        try:
            values = [float(part) for part in self.text(0x0028, 0x0030).split("\\")]
        except ValueError:
            return None
        return sum(values) / len(values) if len(values) == 2 and min(values) > 0 else None


def read(path: Path) -> Instance | None:
    """The header of a DICOM file; None if it is none, or damaged."""
    found = Instance()
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _elements(data, 132, len(data), found)
        except (IndexError, ValueError):
            return None
    return found


def _elements(data: mmap.mmap, at: int, end: int, found: Instance) -> None:
    while at + 8 <= end:
        tag = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")
        at, kind, length = _length(data, at, tag)
        if tag == _PIXELS:
            start = (
                data.find(b"\xff\xd8\xff", at, at + _FRAME),
                data.find(b"\xff\x4f\xff\x51", at, at + _FRAME),
            )
            first = min((place for place in start if place >= 0), default=-1)
            found.frame = data[first : first + _FRAME] if first >= 0 and length == _UNDEFINED else b""
            return
        if kind == b"SQ":
            stop = at + length if length != _UNDEFINED else _end(data, at)
            if tag in _SEQUENCES:
                inside, _, size = _length(data, at, _ITEM)
                _elements(data, inside, stop if size == _UNDEFINED else min(stop, inside + size), found)
            at = stop
        else:
            if length == _UNDEFINED:
                raise ValueError("an element of undefined length")
            found.values.setdefault(tag, data[at : at + length] if length < 1024 else b"")
            at += length


def _length(data: mmap.mmap, at: int, tag: tuple[int, int]) -> tuple[int, bytes, int]:
    """Where the value starts, its kind and its length."""
    if tag[0] == 0xFFFE:
        return at + 8, b"", int.from_bytes(data[at + 4 : at + 8], "little")
    kind = data[at + 4 : at + 6]
    if kind in _LONG:
        return at + 12, kind, int.from_bytes(data[at + 8 : at + 12], "little")
    return at + 8, kind, int.from_bytes(data[at + 6 : at + 8], "little")


def _end(data: mmap.mmap, at: int) -> int:
    """Where a sequence of undefined length ends, behind its delimiter."""
    depth = 1
    while depth:
        if at + 8 > len(data):
            raise ValueError("a sequence without an end")
        tag = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")
        at, kind, length = _length(data, at, tag)
        if tag == (0xFFFE, 0xE0DD):
            depth -= 1
        elif tag[0] == 0xFFFE or (kind == b"SQ" and length == _UNDEFINED):
            depth += kind == b"SQ"
            at += length if tag == _ITEM and length != _UNDEFINED else 0
        else:
            at += length
    return at


def series(path: Path) -> list[Instance]:
    """The levels of the slide that a file belongs to, largest first: of its series, in its folder."""
    first = read(path)
    if first is None:
        return []
    found = []
    for other in sorted(path.parent.iterdir()):
        each = first if other == path else read(other) if other.is_file() else None
        if each is None or each.text(0x0020, 0x000E) != first.text(0x0020, 0x000E):
            continue
        if each.text(0x0008, 0x0008).split("\\")[2:3] == ["VOLUME"]:
            found.append(each)
    return sorted(found, key=lambda each: -each.size[0])


def problem(level: Instance) -> str:
    """Why OpenSlide would show a level wrongly; empty if it would not."""
    bits = level.number(0x0028, 0x0101) or 8
    tag, syntax = level.text(0x0028, 0x0004), level.text(0x0002, 0x0010)
    if syntax in _JPEG_2000:
        bits = max([bits, *(jpeg2000_header.bits(level.frame) or [])])
        if tag.startswith("YBR_") and jpeg2000_header.mixed(level.frame) is False:
            return (
                f"PhotometricInterpretation {tag} says that its frames turn back into RGB, which their JPEG "
                f"2000 headers deny; {_FIX}"
            )
    if bits > 8:
        return f"{bits} bits per sample, 8 are read; scale it to 8 bits with the program that exported it"
    if syntax != _JPEG:
        return ""
    said = "RGB" if tag == "RGB" else "YCbCr" if tag.startswith("YBR") else tag
    try:
        colours = jpeg_header.colours(jpeg_header.parse(level.frame), said, "PhotometricInterpretation")
    except jpeg_header.Contradiction as error:
        return f"{error}; {_FIX}"
    except ValueError:
        return ""  # damaged: reading will tell
    if colours.space in (said, "grey"):
        return ""
    return (
        f"its frames hold {colours.space} ({colours.source}), and OpenSlide would believe its header's "
        f"PhotometricInterpretation {tag} and show wrong colours; {_FIX}"
    )

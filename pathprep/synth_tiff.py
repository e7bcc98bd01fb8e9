"""A TIFF container for tiles that are already JPEG, written front to back.

All tile data comes first and the chain of directories last, so nothing about the file has to be
known in advance: whether it is classic TIFF or BigTIFF is decided when its length is known (room for
the longer header is kept). Tags: TIFF 6.0, JPEG as in Technical Note 2, with each tile carrying its
own tables; BigTIFF as Aware Systems describes it.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

HEADER = 16  # BigTIFF's header; classic TIFF uses the first 8 bytes of it
CLASSIC_END = 2**32

SHORT, LONG, RATIONAL, ASCII, LONG8 = 3, 4, 5, 2, 16
_CODES = {SHORT: "H", LONG: "I", RATIONAL: "I", ASCII: "B", LONG8: "Q"}

Tag = tuple[int, int, list[int]]  # number, type, values (a rational is two values)


@dataclass(frozen=True)
class Level:
    """One square image of the pyramid: side and tile in px, resolution in micrometres per pixel."""

    side: int
    tile: int
    mpp: float
    description: str
    reduced: bool


def _text(value: str) -> list[int]:
    return [*value.encode("ascii"), 0]


class TiffFile:
    """``add`` each level with its tiles in row-major order, then ``close``; ``file`` stays open."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.levels: list[tuple[Level, list[int], list[int]]] = []
        file.write(bytes(HEADER))

    def add(self, level: Level, tiles: Iterable[bytes]) -> None:
        offsets, lengths = [], []
        position = self.file.tell()
        for data in tiles:
            self.file.write(data)
            offsets.append(position)
            lengths.append(len(data))
            position += len(data)
        expected = (-(-level.side // level.tile)) ** 2
        if len(offsets) != expected:
            raise ValueError(f"a level of {level.side} px has {expected} tiles, {len(offsets)} came")
        self.levels.append((level, offsets, lengths))

    def close(self) -> None:
        """Write the directories and the header."""
        tables = sum(16 * len(offsets) + 4096 for _, offsets, _ in self.levels)
        big = self.file.tell() + tables >= CLASSIC_END
        first = self._directories(big)
        self.file.seek(0)
        self.file.write(
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
        )
        self.file.seek(0, 2)

    def _directories(self, big: bool) -> int:
        """Write every directory after its long values; returns the offset of the first."""
        count, pointer, inline = ("<Q", "<Q", 8) if big else ("<H", "<I", 4)
        first = previous = 0
        for level, offsets, lengths in self.levels:
            entries = []
            for number, kind, values in sorted(_tags(level, offsets, lengths, LONG8 if big else LONG)):
                data = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
                if len(data) > inline:
                    data = struct.pack(pointer, self._append(data))
                items = len(values) // 2 if kind == RATIONAL else len(values)
                entries.append(
                    struct.pack("<HH" + pointer[1], number, kind, items) + data.ljust(inline, b"\0")
                )
            directory = struct.pack(count, len(entries)) + b"".join(entries)
            at = self._append(directory + bytes(inline))
            if previous:
                self.file.seek(previous)
                self.file.write(struct.pack(pointer, at))
                self.file.seek(0, 2)
            first = first or at
            previous = at + len(directory)
        return first

    def _append(self, data: bytes) -> int:
        """Write at the end, on an even offset as TIFF asks; returns that offset."""
        at = self.file.tell()
        self.file.write(bytes(at % 2) + data)
        return at + at % 2


def _tags(level: Level, offsets: list[int], lengths: list[int], offset_type: int) -> list[Tag]:
    # Four decimals of px/cm keep 0.05 um/px within an unsigned 32-bit numerator.
    resolution = Fraction(1e4 / level.mpp).limit_denominator(10_000)
    density = [resolution.numerator, resolution.denominator]
    tags: list[Tag] = [
        (254, LONG, [int(level.reduced)]),  # NewSubfileType: 1 = reduced resolution
        (256, LONG, [level.side]),
        (257, LONG, [level.side]),
        (258, SHORT, [8, 8, 8]),
        (259, SHORT, [7]),  # compression: JPEG
        (262, SHORT, [6]),  # photometric: YCbCr
        (277, SHORT, [3]),
        (282, RATIONAL, density),
        (283, RATIONAL, density),
        (284, SHORT, [1]),  # channels interleaved
        (296, SHORT, [3]),  # resolution unit: centimetre
        (305, ASCII, _text("pathprep synth")),
        (322, LONG, [level.tile]),
        (323, LONG, [level.tile]),
        (324, offset_type, offsets),
        (325, LONG, lengths),
        (530, SHORT, [2, 2]),  # chroma subsampling
    ]
    if level.description:
        tags.append((270, ASCII, _text(level.description)))
    return tags

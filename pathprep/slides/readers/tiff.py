"""Reads tiled TIFF and SVS itself, each native tile checked and decoded once; JPEG with libjpeg-turbo.

cuCIM reads JPEG TIFFs with the same decoder, to equal pixels and at the same speed, but a corrupt native
tile comes back from it without a word: as zeros, as noise, or as the half that came before the damage, and
all of these can be taken for tissue. Here a tile that libjpeg so much as warns about is an error that names
it. What it does not even warn about is left to cross_check.py. Both cuCIM and OpenSlide believe a tag that
states the wrong colours, and OpenSlide does not open big-endian classic TIFF, nor see levels in SubIFDs.
"""

import os
from pathlib import Path

import numpy as np
import simplejpeg

from pathprep.errors import UnreadableSlide, why
from pathprep.slides.readers import codecs, convert, jpeg_header
from pathprep.slides.readers.base import Pixels
from pathprep.slides.readers.directory import Directory, read_directory
from pathprep.slides.readers.page import JPEG, WHITE_IS_ZERO, Page

# Where the scanner stored no tile it saw no tissue. So has OpenSlide; cuCIM shows black in generic TIFFs
BACKGROUND = 255
# Compressions that OpenSlide does not open: JPEG 2000 under its own number, WebP under both of its
_UNOPENED = frozenset({34712, 34927, 50001})


def suits(directory: Directory) -> bool:
    """Whether this reader is the one to take the file: it is JPEG, or OpenSlide would not see all of it."""
    if refusal(directory):
        return False
    if directory.vendor == "philips" and directory.known:
        return directory.wrong_tag is not None
    jpeg = all(page.compression == JPEG for page in directory.pages)
    unopened = any(page.compression in _UNOPENED for page in directory.pages)
    return jpeg or unopened or not directory.known or directory.subifds or directory.wrong_tag is not None


def refusal(directory: Directory) -> str:
    """Why this reader does not read the file; empty if it does."""
    if not directory.ours:
        return f"its vendor is {directory.vendor}"
    for page in directory.pages:
        if page.compression == JPEG:
            if page.samples not in (1, 3) or page.planar or page.alpha != "none":
                return f"JPEG tiles of {page.samples} samples"
            if page.photometric == WHITE_IS_ZERO:
                return f"its colours are {page.tag}"
        elif reason := codecs.refusal(page):
            return reason
    if directory.vendor == "aperio" and any((page.counts == 0).any() for page in directory.pages[1:]):
        # they are filled from the level before
        return "native tiles are missing in a reduced level of an Aperio slide, which OpenSlide fills"
    return ""


class TiffReader:
    """A tiled TIFF or SVS."""

    name = "tiff"

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        directory = directory or read_directory(path)
        reason = "it is no tiled TIFF" if directory is None else refusal(directory)
        if directory is None or reason:
            hint = "use `reader` auto" if directory is None or directory.known else convert.TILED
            raise UnreadableSlide(f"{path}: the reader tiff does not read it ({reason}); {hint}")
        self.path = path
        self.vendor = directory.vendor
        self.levels = directory.levels
        self.colour, self.notes = directory.colour, directory.notes
        self.header = directory.header
        self.bounds = directory.bounds
        self._pages = directory.pages
        self._tables = [self._read_tables(level, page.tables) for level, page in enumerate(self._pages)]
        # a header that tiles start with, and what is decoded in its place: nearly all of a level share one
        self._starts: list[tuple[bytes, bytes]] = [(b"\0", b"")] * len(self._pages)
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UnreadableSlide(f"{path}: cannot be opened ({error.strerror})") from None

    def _read_tables(self, level: int, tables: bytes | None) -> bytes:
        """JPEGTables without its start and end markers."""
        if not tables:
            return b""
        if tables[:2] != b"\xff\xd8" or tables[-2:] != b"\xff\xd9":
            raise UnreadableSlide(
                f"{self.path}: the JPEG tables of level {level} are damaged; "
                "copy the slide again from its source"
            )
        return tables[2:-2]

    def reduction(self, level: int) -> int:
        """The most that ``read`` can reduce a level by: 8, 4, 2 or 1."""
        page = self._pages[level]
        fitting = (by for by in (8, 4, 2) if page.tile_width % by == page.tile_height % by == 0)
        return next(fitting, 1) if page.compression == JPEG else 1

    def read(self, level: int, x: int, y: int, width: int, height: int, by: int = 1) -> Pixels:
        """See Reader.read.

        Args:
            by: 1, or 2, 4 or 8, up to ``reduction``: pixels, and all coordinates, are of the level reduced by
                it. libjpeg gives the means of ``by`` x ``by`` pixels, in less time than all of them. Colours
                that are stored at half their size are not enlarged first: of real slides, that differs from
                the means by 0.1 to 1.1 grey levels on average.
        """
        page = self._pages[level]
        side, length = page.tile_width // by, page.tile_height // by
        out = np.empty((height, width, 3), np.uint8)
        # one for all tiles: fresh memory for each would cost as much as decoding it
        scratch = np.empty((length, side, 3), np.uint8)
        for row in range(y // length, -(-(y + height) // length)):
            top, bottom = max(y, row * length), min(y + height, (row + 1) * length)
            for column in range(x // side, -(-(x + width) // side)):
                left, right = max(x, column * side), min(x + width, (column + 1) * side)
                tile = self._tile(level, column, row, scratch)
                out[top - y : bottom - y, left - x : right - x] = (
                    BACKGROUND
                    if tile is None
                    else tile[
                        top - row * length : bottom - row * length,
                        left - column * side : right - column * side,
                    ]
                )
        return out

    def _tile(self, level: int, column: int, row: int, scratch: Pixels) -> Pixels | None:
        """One native tile, JPEG decoded into ``scratch``; None if the file holds none there."""
        page = self._pages[level]
        number = row * page.across + column
        try:
            if page.compression == JPEG:
                data = self._bytes(page, number)
                return None if data is None else self._jpeg(level, page, data, scratch)
            planes = page.samples if page.planar else 1
            parts = [
                self._bytes(page, number + plane * len(page.counts) // planes) for plane in range(planes)
            ]
            there = [part for part in parts if part is not None]
            return codecs.decode(page, there) if len(there) == planes else None
        except jpeg_header.Contradiction as error:
            raise UnreadableSlide(
                f"{self.path}: native tile {column},{row} of level {level}: {why(error)}; {convert.TILED}"
            ) from None
        except (ValueError, OSError) as error:
            raise UnreadableSlide(
                f"{self.path}: native tile {column},{row} of level {level} cannot be decoded ({why(error)}); "
                "the file is damaged there, copy it again from its source"
            ) from None

    def _bytes(self, page: Page, number: int) -> bytes | None:
        count = int(page.counts[number])
        if not count:
            return None
        data = os.pread(self._file, count, int(page.offsets[number]))
        if len(data) < count:
            raise ValueError(f"{len(data)} of {count} bytes")
        return data

    def _jpeg(self, level: int, page: Page, data: bytes, scratch: Pixels) -> Pixels:
        start, ours = self._starts[level]
        if not data.startswith(start):
            start, ours = self._start(level, page, data)
        # strict: libjpeg's warnings are errors. The least size that is asked for decides how much is reduced
        height, width, _ = scratch.shape
        pixels: Pixels = simplejpeg.decode_jpeg(
            b"".join((ours, memoryview(data)[len(start) :])),
            "RGB",
            min_height=height,
            min_width=width,
            min_factor=page.tile_width / width,
            buffer=scratch,
            strict=True,
        )
        return pixels

    def _start(self, level: int, page: Page, data: bytes) -> tuple[bytes, bytes]:
        """Check a header that was not seen before; returns it and what is decoded in its place."""
        header = jpeg_header.parse(data)
        colours = jpeg_header.colours(header, page.tag)
        # before decoding: a header may declare any size
        if (header.width, header.height, header.bits) != (page.tile_width, page.tile_height, 8):
            raise ValueError(
                f"a JPEG of {header.width}x{header.height} px, {header.bits} bits, where "
                f"{page.tile_width}x{page.tile_height} px, 8 bits are declared"
            )
        if page.colours is not None and colours.space != page.colours.space:
            raise jpeg_header.Contradiction(
                f"it holds {colours.space} ({colours.source}), the first of the level {page.colours.space} "
                f"({page.colours.source})"
            )
        start = data[: header.end], jpeg_header.spliced(data, header, colours.space, self._tables[level])
        self._starts[level] = start
        return start

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

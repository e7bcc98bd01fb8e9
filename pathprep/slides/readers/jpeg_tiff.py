"""Reads tiled JPEG TIFF and SVS with libjpeg-turbo, each native tile checked and decoded once.

cuCIM reads the same files with the same decoder, to equal pixels and at the same speed, but a corrupt
native tile comes back from it without a word: as zeros, as noise, or as the half that came before the
damage, and all of these can be taken for tissue. Here a tile that libjpeg so much as warns about is an
error that names it. What it does not even warn about is left to pathprep/damage.py.
"""

import os
from pathlib import Path

import numpy as np
import simplejpeg

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers.base import Pixels
from pathprep.slides.readers.directory import JPEG, RGB, YCBCR, Directory, read_directory

# Says that the samples are RGB as they stand (TIFF says it in its tags, JPEG in this segment)
APP14_RGB = bytes.fromhex("ffee000e41646f626500640000000000")
# Where the scanner stored no tile it saw no tissue. So has OpenSlide; cuCIM shows black in generic TIFFs
BACKGROUND = 255


def suits(directory: Directory) -> bool:
    """Whether this reader takes the file."""
    return (
        directory.vendor in ("aperio", "generic-tiff")
        and not directory.subifds
        and all(
            page.plain and page.compression == JPEG and page.photometric in (RGB, YCBCR)
            for page in directory.pages
        )
        # Aperio's gaps in reduced levels are filled from the level before, which OpenSlide does
        and not (
            directory.vendor == "aperio" and any((page.counts == 0).any() for page in directory.pages[1:])
        )
    )


class JpegTiffReader:
    """A tiled JPEG TIFF or SVS."""

    name = "tiff"

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        directory = directory or read_directory(path)
        if directory is None or directory.vendor is None or not suits(directory):
            raise UnreadableSlide(
                f"{path}: not a TIFF or SVS with 8-bit JPEG tiles, which is all that the reader tiff takes; "
                "use `reader` auto"
            )
        self.path = path
        self.vendor = directory.vendor
        self.levels = directory.levels
        self.header = directory.header
        self.bounds = directory.bounds
        self._pages = directory.pages
        self._heads = [
            (APP14_RGB if page.photometric == RGB else b"") + self._tables(level, page.tables)
            for level, page in enumerate(self._pages)
        ]
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UnreadableSlide(f"{path}: cannot be opened ({error.strerror})") from None

    def _tables(self, level: int, tables: bytes | None) -> bytes:
        """JPEGTables without its start and end markers."""
        if not tables:
            return b""
        if tables[:2] != b"\xff\xd8" or tables[-2:] != b"\xff\xd9":
            raise UnreadableSlide(
                f"{self.path}: the JPEG tables of level {level} are damaged; "
                "copy the slide again from its source"
            )
        return tables[2:-2]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        page = self._pages[level]
        side, length = page.tile_width, page.tile_height
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
        """One native tile, decoded into ``scratch``; None if the file holds none there."""
        page = self._pages[level]
        number = row * page.across + column
        count = int(page.counts[number])
        if not count:
            return None
        try:
            data = os.pread(self._file, count, int(page.offsets[number]))
            if len(data) < count:
                raise ValueError(f"{len(data)} of {count} bytes")
            if data[:2] != b"\xff\xd8":
                raise ValueError("not a JPEG")
            data = b"".join((data[:2], self._heads[level], data[2:]))
            # before decoding: a header may declare any size
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            found = f"{width}x{height} {colours}"
            declared = f"{page.tile_width}x{page.tile_height} {'RGB' if page.photometric == RGB else 'YCbCr'}"
            if found != declared:
                raise ValueError(f"a JPEG of {found} where {declared} is declared")
            # strict: libjpeg's warnings are errors
            pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", buffer=scratch, strict=True)
        except (ValueError, OSError) as error:
            raise UnreadableSlide(
                f"{self.path}: native tile {column},{row} of level {level} cannot be decoded ({error}); "
                "the file is damaged there, copy it again from its source"
            ) from None
        return pixels

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

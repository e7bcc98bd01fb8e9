"""The directory of a TIFF slide: which pages are levels, and where their native tiles lie in the file.

Read by tifffile, without decoding a pixel, before a native library sees the file: to choose the reader,
and to refuse what declares impossible sizes or is cut off.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from openslide import OpenSlide

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers import limits
from pathprep.slides.readers.base import Bounds, Level

# tifffile logs what it finds wrong; the reader that then opens the file reports it
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUFFIXES = frozenset({".svs", ".tif", ".tiff"})
JPEG, RGB, YCBCR = 7, 2, 6


@dataclass(frozen=True, eq=False)
class Page:
    """One tiled image.

    Attributes:
        plain: 8 bits, three interleaved samples.
        compression, photometric: TIFF's numbers.
        offsets, counts: (tiles,) uint64, bytes; tiles row by row; count 0: not there.
        tables: TIFF's JPEGTables, a JPEG stream of tables alone.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    plain: bool
    compression: int
    photometric: int
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    tables: bytes | None

    @property
    def across(self) -> int:
        """Native tiles along x."""
        return -(-self.width // self.tile_width)


@dataclass(frozen=True, eq=False)
class Directory:
    """The levels of a TIFF slide, largest first, as OpenSlide and cuCIM count them.

    Attributes:
        vendor: as OpenSlide names it; None if it does not know the file.
        header: what states the resolution.
        subifds: levels stand in SubIFDs, which are not listed here.
    """

    vendor: str | None
    pages: list[Page]
    header: Header
    subifds: bool

    @property
    def levels(self) -> list[Level]:
        """Sizes and downsamples; a downsample is the mean of those along x and y."""
        first = self.pages[0]
        return [
            Level(page.width, page.height, (first.width / page.width + first.height / page.height) / 2)
            for page in self.pages
        ]

    @property
    def bounds(self) -> Bounds | None:
        """The box of the native tiles that there are, which is what OpenSlide takes it for in such files."""
        page = self.pages[0]
        if self.vendor != "generic-tiff" or page.counts.all():
            return None
        there = np.flatnonzero(page.counts)
        if not len(there):
            return None
        rows, columns = there // page.across, there % page.across
        left, top = int(columns.min()) * page.tile_width, int(rows.min()) * page.tile_height
        right = min(page.width, (int(columns.max()) + 1) * page.tile_width)
        bottom = min(page.height, (int(rows.max()) + 1) * page.tile_height)
        whole = (left, top, right, bottom) == (0, 0, page.width, page.height)
        return None if whole else Bounds(left, top, right - left, bottom - top)


def read_directory(path: Path) -> Directory | None:
    """The directory of a tiled TIFF; None for another file, or for one that tifffile does not understand.

    Raises:
        UnreadableSlide: it declares impossible sizes, or its tiles are not all in the file.
    """
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        found = _parse(path)
    # Anything at all comes out of a parser that is given damaged bytes
    except Exception as error:
        if isinstance(error, UnreadableSlide):
            raise
        return None
    if found is not None:
        limits.check_levels(path, found.levels)
    return found


def _parse(path: Path) -> Directory | None:
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages.first
        if not first.is_tiled:
            return None
        vendor = OpenSlide.detect_format(str(path))
        pages: list[Page] = []
        for number, page in enumerate(tiff.pages):
            if number == limits.MAX_DIRECTORIES:
                raise UnreadableSlide(f"{path}: more than {number} images in one file; {limits.DAMAGED}")
            # Aperio's levels are its tiled pages; elsewhere, those marked as reductions of the first
            if page.is_tiled and (number == 0 or vendor == "aperio" or page.subfiletype & 1):
                pages.append(_page(path, page, len(pages)))
        first_page, *rest = pages
        pages = [first_page, *sorted(rest, key=lambda page: -page.width)]
        return Directory(
            vendor,
            pages,
            _header(path, vendor, first),
            bool(first.subifds),
        )


def _page(path: Path, page: tifffile.TiffPage, level: int) -> Page:
    # before the tables: a table of a size that no file could hold must not be asked for
    limits.check_size(path, level, page.imagewidth, page.imagelength)
    limits.check_tile_side(path, level, page.tilewidth, page.tilelength)
    offsets, counts = (np.asarray(table, np.uint64) for table in (page.dataoffsets, page.databytecounts))
    tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    limits.check_tile_table(path, level, offsets, counts, tiles * planes, page.tilewidth * page.tilelength)
    return Page(
        page.imagewidth,
        page.imagelength,
        page.tilewidth,
        page.tilelength,
        bool(page.dtype == "uint8" and page.samplesperpixel == 3 and page.planarconfig == 1),
        int(page.compression),
        int(page.photometric),
        offsets,
        counts,
        page.jpegtables,
    )


def _header(path: Path, vendor: str | None, page: tifffile.TiffPage) -> Header:
    """What states the resolution of level 0."""
    x, y, unit, xmp = (page.tags.valueof(code) for code in (282, 283, 296, 700))
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp or "")
    unit = None if unit is None else int(unit)
    return Header(
        path, vendor, page.imagewidth, page.imagelength, str(page.description), text, x=x, y=y, unit=unit
    )

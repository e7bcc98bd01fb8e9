"""The directory of a TIFF slide: which pages are levels, and where their native tiles lie in the file.

Read by tifffile, without decoding a pixel, before a native library sees the file: to choose the reader,
and to refuse what declares impossible sizes or is cut off.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from openslide import OpenSlide

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers import limits, tiff_texts
from pathprep.slides.readers.base import Bounds, Level
from pathprep.slides.readers.levels import Declared, Found, settle
from pathprep.slides.readers.page import Page, read_page

# tifffile logs what it finds wrong; the reader that then opens the file reports it
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What their levels are can be told from tags and descriptions
OURS = frozenset({"aperio", "generic-tiff", "philips"})
# TIFFs that are no plain ones: their images are not tiled, or laid out in ways that only OpenSlide knows
_NOT_TILED = frozenset({"hamamatsu"})


@dataclass(frozen=True, eq=False)
class Directory:
    """The levels of a TIFF slide, largest first.

    Attributes:
        vendor: as OpenSlide names it, or would if it opened the file.
        known: OpenSlide opens it. It does not open big-endian classic TIFF.
        pages: of the levels that are used. notes: where these are not as declared, one a level.
        header: what states the resolution.
        subifds: levels stand in SubIFDs, which OpenSlide and cuCIM do not see.
    """

    vendor: str
    known: bool
    pages: list[Page]
    levels: list[Level]
    notes: list[str]
    header: Header
    subifds: bool

    @property
    def ours(self) -> bool:
        """Whether what is read here suffices; OpenSlide knows the ways of the other vendors."""
        return self.vendor in OURS or not self.known

    @property
    def colour(self) -> str:
        """What the samples of level 0 are and who says so, in words."""
        return self.pages[0].colour

    @property
    def wrong_tag(self) -> Page | None:
        """A level whose tag states other colours than its tiles hold."""
        return next((page for page in self.pages if not page.tag_is_right), None)

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
        UnreadableSlide: it is not tiled, declares impossible sizes, its tiles are not all in the file, or its
            samples are of a kind that is not read.
    """
    with path.open("rb") as file:
        if file.read(4) not in MAGIC:
            return None
    if long := tiff_texts.too_long(path):
        raise UnreadableSlide(f"{path}: {long}; {limits.DAMAGED}")
    vendor = OpenSlide.detect_format(str(path))
    if vendor in _NOT_TILED:
        return None
    try:
        return _parse(path, vendor)
    # Anything at all comes out of a parser that is given damaged bytes
    except Exception as error:
        if isinstance(error, UnreadableSlide):
            raise
        return None


def _parse(path: Path, known: str | None) -> Directory | None:
    with tifffile.TiffFile(path) as tiff, path.open("rb") as file:
        first = tiff.pages.first
        vendor = known or _vendor(first)
        if not first.is_tiled:
            return None
        levels: list[tifffile.TiffPage] = []
        for number, page in enumerate(tiff.pages):
            if number == limits.MAX_DIRECTORIES:
                raise UnreadableSlide(f"{path}: more than {number} images in one file; {limits.DAMAGED}")
            # Aperio's levels are its tiled pages; elsewhere, those marked as reductions (4: a mask)
            if page.is_tiled and (number == 0 or vendor == "aperio" or page.subfiletype & 5 == 1):
                levels.append(page)
        if first.subifds:
            levels += [page for page in first.pages if page.is_tiled and not page.subfiletype & 4]
        _check_channels(path, tiff)
        pages = [read_page(path, page, level, file) for level, page in enumerate(levels)]
        pages = [pages[0], *sorted(pages[1:], key=lambda page: -page.width)]
        stated = _philips_spacings(first.description) if vendor == "philips" else []
        declared = [
            Declared(page.width, page.height, page.tile_width, page.tile_height, spacing)
            for page, spacing in zip(pages, _spacings(pages, stated), strict=True)
        ]
        if vendor in OURS or known is None:
            found = settle(path, declared)
        else:  # OpenSlide does it, and Slide checks what it says
            found = [Found(i, Level(d.width, d.height, 1.0), "") for i, d in enumerate(declared)]
        return Directory(
            vendor,
            known is not None,
            [pages[level.number] for level in found],
            [level.level for level in found],
            [level.note for level in found],
            header_of(path, vendor, first),
            bool(first.subifds),
        )


def _vendor(page: tifffile.TiffPage) -> str:
    """What OpenSlide would name it, were its bytes in the order that it reads."""
    if page.description.startswith("Aperio"):
        return "aperio"
    return "philips" if page.software.startswith("Philips") else "generic-tiff"


def _check_channels(path: Path, tiff: tifffile.TiffFile) -> None:
    """Channels in an image each are no RGB: the first would be taken for a grey slide."""
    first = tiff.pages.first
    if first.samplesperpixel != 1:
        return
    same = sum(
        page.samplesperpixel == 1 and page.shape == first.shape and not page.subfiletype & 5
        for page in tiff.pages
    )
    if same > 1:
        raise UnreadableSlide(
            f"{path}: {same} images of {first.imagewidth}x{first.imagelength} px with one sample each "
            "(channels or focal planes), not one of RGB; export it again as RGB"
        )


def _philips_spacings(description: str) -> list[float]:
    """Of every level, from the XML of Philips' description."""
    _, _, levels = description.partition("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE")
    pairs = re.findall(r'"DICOM_PIXEL_SPACING"[^<]{0,200}?>\s{0,200}(?:&quot;|")([0-9.eE+-]+)', levels)
    try:
        values = [float(text) for text in pairs]
    except ValueError:
        return []
    return values if all(value > 0 for value in values) else []


def _spacings(pages: list[Page], stated: list[float]) -> list[float | None]:
    """Of every level: as stated elsewhere, else by its own tags if those differ from the first's."""
    if len(stated) >= len(pages):
        return list(stated[: len(pages)])
    return [page.spacing for page in pages]


def header_of(path: Path, vendor: str | None, page: tifffile.TiffPage) -> Header:
    """What states the resolution of level 0."""
    x, y, unit, xmp = (page.tags.valueof(code) for code in (282, 283, 296, 700))
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp or "")
    unit = None if unit is None else int(unit)
    return Header(
        path, vendor, page.imagewidth, page.imagelength, str(page.description), text, x=x, y=y, unit=unit
    )

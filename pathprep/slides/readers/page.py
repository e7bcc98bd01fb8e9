"""One tiled image of a TIFF: what its samples are and where its native tiles lie, read without decoding one.

Bits, colours and transparency are judged here, from the tags and from the header of the first tile, before a
decoder cuts, mixes or drops them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import tifffile

from pathprep.errors import UnreadableSlide, why
from pathprep.slides.readers import convert, jpeg2000_header, jpeg_header, limits
from pathprep.slides.readers.jpeg_header import Colours

GREY, RGB, PALETTE, YCBCR = 1, 2, 3, 6
WHITE_IS_ZERO = 0
NONE, LZW, JPEG = 1, 5, 7
APERIO_YCBCR = 33003  # JPEG 2000 whose samples are YCbCr, which readers turn into RGB themselves
JPEG_2000 = frozenset({APERIO_YCBCR, 33004, 33005, 34712})
PHOTOMETRICS = {
    WHITE_IS_ZERO: "grey (white is zero)", GREY: "grey", RGB: "RGB", PALETTE: "palette", 4: "mask",
    5: "CMYK", YCBCR: "YCbCr", 8: "CIELab", 32803: "colour filter array", 34892: "linear raw",
}  # fmt: skip
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex float"}
_UNITS = {None: 25_400.0, 2: 25_400.0, 3: 10_000.0}
# How much of a tile is read for its header: JPEG's with tables and an ICC profile
_HEAD = 1 << 16

Alpha = Literal["none", "associated", "unassociated"]


class Readable(Protocol):
    """An open file."""

    def seek(self, offset: int, /) -> object:
        """Go to a byte."""
        ...

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        ...


@dataclass(frozen=True, eq=False)
class Page:
    """One tiled image of 8-bit samples.

    Attributes:
        samples: per pixel, with alpha. planar: each sample has its own tiles.
        alpha: what the last sample is; associated: colours are already multiplied by it.
        compression, photometric, predictor: TIFF's numbers.
        colours: of JPEG and some JPEG 2000 tiles, by their own markers; None for other compressions.
        offsets, counts: (tiles,) uint64, bytes; tiles row by row; count 0: not there.
        tables: TIFF's JPEGTables, a JPEG stream of tables alone.
        spacing: of its pixels by its resolution tags, micrometres; None without.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    samples: int
    planar: bool
    alpha: Alpha
    compression: int
    photometric: int
    predictor: int
    colours: Colours | None
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    tables: bytes | None
    spacing: float | None

    @property
    def across(self) -> int:
        """Native tiles along x."""
        return -(-self.width // self.tile_width)

    @property
    def plain(self) -> bool:
        """Three interleaved samples, without alpha."""
        return self.samples == 3 and not self.planar and self.alpha == "none"

    @property
    def tag(self) -> str:
        """The colours that the tag states, in a word."""
        if self.compression == APERIO_YCBCR:
            return "YCbCr"
        return PHOTOMETRICS.get(self.photometric, str(self.photometric))

    @property
    def tag_is_right(self) -> bool:
        """Whether who believes the tag sees the right colours."""
        return self.colours is None or self.colours.space == self.tag

    @property
    def colour(self) -> str:
        """What the samples are and who says so, in words."""
        if self.colours is None:
            words = f"{self.tag} (TIFF tag)"
        else:
            words = f"{self.colours.space} ({self.colours.source}"
            words += ")" if self.tag_is_right else f"; the TIFF tag says {self.tag})"
        return words if self.alpha == "none" else f"{words}, {self.alpha} alpha composed on white"


def read_page(path: Path, page: tifffile.TiffPage, level: int, file: Readable) -> Page:
    """Look at a tiled page of an open TIFF.

    Raises:
        UnreadableSlide: it declares impossible sizes, its tiles are not all in the file, or its samples are
            not of 8 bits, or of a kind that would be guessed.
    """
    # before the tables: a table of a size that no file could hold must not be asked for
    limits.check_size(path, level, page.imagewidth, page.imagelength)
    limits.check_tile_side(path, level, page.tilewidth, page.tilelength)
    photometric = int(page.photometric)
    if photometric not in (WHITE_IS_ZERO, GREY, RGB, PALETTE, YCBCR):
        found = f"{PHOTOMETRICS.get(photometric, photometric)} (PhotometricInterpretation)"
        raise UnreadableSlide(f"{path}: its colours are {found}; {convert.COLOURS}")
    _check_bits(path, page)
    if photometric == YCBCR and page.compression not in (JPEG, *JPEG_2000) and 530 not in page.tags:
        # without the tag chroma is halved by TIFF's default, and those who leave it out do not halve it
        raise UnreadableSlide(
            f"{path}: its colours are YCbCr, and it does not say how chroma is sampled (YCbCrSubSampling); "
            f"{convert.COLOURS}"
        )
    alpha = _alpha(path, page)
    offsets, counts = (np.asarray(table, np.uint64) for table in (page.dataoffsets, page.databytecounts))
    tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    limits.check_tile_table(path, level, offsets, counts, tiles * planes, page.tilewidth * page.tilelength)
    start = _start(file, offsets, counts)
    colours = None
    if page.compression == JPEG and start:
        colours = _jpeg_colours(path, level, start, photometric)
    elif page.compression in JPEG_2000 and start:
        bits = jpeg2000_header.bits(start)
        if page.compression == APERIO_YCBCR and jpeg2000_header.mixed(start):
            colours = Colours("RGB", "JPEG 2000 header")
        if bits is not None and max(bits) > 8:
            raise UnreadableSlide(
                f"{path}: {max(bits)} bits per sample (its JPEG 2000 tiles); {convert.bits(max(bits))}"
            )
    return Page(
        page.imagewidth,
        page.imagelength,
        page.tilewidth,
        page.tilelength,
        page.samplesperpixel,
        page.planarconfig == 2,
        alpha,
        int(page.compression),
        photometric,
        int(page.predictor),
        colours,
        offsets,
        counts,
        page.jpegtables,
        _spacing(*(page.tags.valueof(code) for code in (282, 283, 296))),
    )


def _start(file: Readable, offsets: npt.NDArray[np.uint64], counts: npt.NDArray[np.uint64]) -> bytes:
    """The first bytes of the first tile that there is."""
    there = np.flatnonzero(counts)
    if not len(there):
        return b""
    file.seek(int(offsets[there[0]]))
    return file.read(min(_HEAD, int(counts[there[0]])))


def _check_bits(path: Path, page: tifffile.TiffPage) -> None:
    stated = page.tags.valueof(258)  # BitsPerSample; without it, 1
    bits = (1,) if stated is None else tuple(np.atleast_1d(stated).tolist())
    formats = tuple(np.atleast_1d(page.tags.valueof(339) or 1).tolist())
    if set(bits) != {8}:
        found = f"{bits[0] if len(set(bits)) == 1 else bits} bits per sample"
        if 3 in formats:
            found += ", floating-point"
        raise UnreadableSlide(
            f"{path}: {found} (BitsPerSample), 8 are read; {convert.bits(max(bits), 3 in formats)}"
        )
    if set(formats) - {1, 4}:
        kind = _FORMATS.get(formats[0], str(formats[0]))
        raise UnreadableSlide(
            f"{path}: {kind} samples (SampleFormat), unsigned ones are read; {convert.TILED}"
        )


def _alpha(path: Path, page: tifffile.TiffPage) -> Alpha:
    """What the sample after the colours is."""
    colours = 1 if page.photometric in (WHITE_IS_ZERO, GREY, PALETTE) else 3
    extra = page.samplesperpixel - colours
    stated = tuple(np.atleast_1d(page.tags.valueof(338) or ()).tolist())  # ExtraSamples
    if extra == 0:
        return "none"
    if extra == 1 and stated == (1,):
        return "associated"
    if extra == 1 and stated == (2,):
        return "unassociated"
    tag = PHOTOMETRICS.get(int(page.photometric), "?")
    found = f"{page.samplesperpixel} samples per pixel under the tag {tag}"
    if extra == 1:
        found += ", and whether the last is transparency is not said (ExtraSamples)"
    raise UnreadableSlide(f"{path}: {found}; it would be guessed: {convert.FLAT}")


def _jpeg_colours(path: Path, level: int, start: bytes, photometric: int) -> Colours | None:
    """Colours of the first tile; None where its header is damaged, which reading it will say."""
    try:
        header = jpeg_header.parse(start)
    except ValueError:
        return None
    if header.bits != 8:
        raise UnreadableSlide(
            f"{path}: {header.bits} bits per sample (its JPEG tiles), 8 are read; {convert.bits(header.bits)}"
        )
    try:
        return jpeg_header.colours(header, PHOTOMETRICS.get(photometric, str(photometric)))
    except jpeg_header.Contradiction as error:
        raise UnreadableSlide(f"{path}: level {level}: {why(error)}; {convert.TILED}") from None


def _spacing(x: Any, y: Any, unit: Any) -> float | None:
    """Mean of the two axes, of XResolution, YResolution and ResolutionUnit."""
    try:
        return _UNITS[unit] * float(x[1] / x[0] + y[1] / y[0]) / 2
    except (TypeError, ZeroDivisionError, IndexError, KeyError):
        return None

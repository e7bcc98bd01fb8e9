"""Reads plain images, such as PNG, JPEG and TIFF in strips: whole, into memory, by Pillow's decoders.

What they are turned to RGB by, and refused for, is pathprep.images.pictures'. They have one level.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from pathprep.errors import UnreadableSlide, why
from pathprep.images import pictures
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers import convert, directory
from pathprep.slides.readers.base import Bounds, Level, Pixels
from pathprep.storage import regular

MAGICS = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
}  # fmt: skip
MOST_PIXELS = 1 << 27  # 11,585 x 11,585; 0.4 GB, and as much again while it is decoded


def kind(start: bytes) -> str:
    """The format that a file which is no TIFF begins as; "" for others."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in MAGICS.items() if start.startswith(magic)), "")


class PictureReader:
    """A plain image, decoded."""

    name = "picture"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bounds: Bounds | None = None
        try:
            data = regular.read(path)
            self._pixels = pictures.decode(data, _check)
        except (ValueError, OSError) as error:
            said = why(error)
            raise UnreadableSlide(
                f"{path}: cannot be read as a plain image ({said}); {_way_out(path, said)}"
            ) from None
        height, width, _ = self._pixels.shape
        self.levels, self.notes = [Level(width, height, 1.0)], [""]
        self.header, self.colour = _described(path, data, width, height)
        self.vendor = str(self.header.vendor)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        return self._pixels[y : y + height, x : x + width].copy()

    def close(self) -> None:
        """Release the pixels."""
        self._pixels = self._pixels[:0]


def _check(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{width:,} x {height:,} px, of plain images at most {MOST_PIXELS:,} pixels are read"
        )


def _way_out(path: Path, said: str) -> str:
    """What to do of an image that is not read, by what is said of it."""
    bits = re.search(r"of (\d+) bits a sample(, fractions)?", said)
    if bits:
        return convert.bits(int(bits[1]), bits[2] is not None)
    if "expected 8-bit RGB" in said:  # inks, or one bit
        return convert.COLOURS
    if "of plain images at most" in said:
        return convert.tiled(path.name)
    if "holds several images" in said:
        return "save the one that is meant alone"
    return "copy it again from its source"


def _described(path: Path, data: bytes, width: int, height: int) -> tuple[Header, str]:
    """What states the resolution, and what the samples were."""
    if data[:4] in directory.MAGIC:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            header = directory.header_of(path, "generic-tiff", tiff.pages.first)
            return header, f"{tiff.pages.first.photometric.name.lower()} (TIFF tag)"
    # it was decoded; Pillow warns of sizes that are below ours
    with (
        warnings.catch_warnings(action="ignore"),
        Image.open(io.BytesIO(data), formats=pictures.FORMATS) as image,
    ):
        x, y, unit = _density(image)
        name = str(image.format)
        where = f"{name}'s resolution"
        header = Header(path, name.lower(), width, height, x=x, y=y, unit=unit, where=where)
        return header, f"{image.mode} ({name})"


def _density(image: Image.Image) -> tuple[Any, Any, int | None]:
    """Pixels along x and y in a unit, as TIFF's tags have it: 2 for inches, 3 for centimetres."""
    if "jfif_density" in image.info:
        unit = {1: 2, 2: 3}.get(image.info.get("jfif_unit", 0))
        return (None, None, None) if unit is None else (*image.info["jfif_density"], unit)
    if "dpi" in image.info:  # of PNG and BMP, from pixels per metre
        x, y = image.info["dpi"]
        return float(x), float(y), 2
    return None, None, None

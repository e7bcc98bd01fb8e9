"""Image files as tiles: pixels, and the file's own bytes where they can be stored as they are."""

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pathprep.slides.readers.base import Pixels
from pathprep.tiles import jpeg
from pathprep.tilesets import samples

SIDES = (16, 4096)  # pixels; what a dataset's tiles may have
MODES = ("RGB", "RGBA", "RGBa", "P", "PA", "L", "LA", "La")
NAMES = {
    "1": "black or white (1 bit)",
    "CMYK": "CMYK, inks of a printer",
}
BASELINE, FRAMES = 0xC0, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Picture(NamedTuple):
    """``pixels`` (H, H, 3) uint8 RGB; ``jpeg``: the file's bytes, if they are a baseline colour JPEG."""

    pixels: Pixels
    jpeg: bytes | None


def decode(data: bytes) -> Picture:
    """Decode an image of 8 bits: JPEG, PNG, TIFF, BMP, GIF, WebP, JPEG 2000.

    Grey and palette images become RGB. What is transparent becomes white, as glass is, by as much as it is.

    Raises:
        ValueError: it is damaged, not of 8 bits per sample, of several images, not square, or of a side
            outside SIDES.
    """
    if not data:
        raise ValueError("the file is empty")
    if is_plain_jpeg(data):
        pixels = jpeg.decode(data)
        check(pixels)
        return Picture(pixels, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual tags; what matters is an error
            with Image.open(io.BytesIO(data)) as image:
                samples.check(image, data)
                if image.mode not in MODES:
                    raise ValueError(f"pixels are {NAMES.get(image.mode, image.mode)}; expected 8-bit RGB")
                if getattr(image, "n_frames", 1) > 1:
                    raise ValueError("holds several images; expected one")
                pixels = _on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError("not an image that can be read (JPEG, PNG, TIFF and the like, of 8 bits)") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    check(pixels)
    return Picture(pixels, None)


def _on_white(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8: what is transparent in the image lies on white.

    Raises:
        ValueError: a picture with an alpha of 0 everywhere: it was not meant to be one.
    """
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.array(image.convert("RGBA"))
    colour, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
    if not alpha.any() and (colour != colour[0, 0]).any():
        raise ValueError("holds a picture, but is transparent everywhere; save it without transparency")
    # rounded; 255 stays as it is
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def check(pixels: Pixels) -> None:
    """Refuse what no dataset's tile can be.

    Raises:
        ValueError: not square, or of a side outside SIDES.
    """
    height, width = pixels.shape[:2]
    if height != width:
        raise ValueError(f"{width} x {height} px; tiles are square: crop it first")
    if not SIDES[0] <= width <= SIDES[1]:
        raise ValueError(f"{width} px a side; tiles have {SIDES[0]} to {SIDES[1]}")


def is_plain_jpeg(data: bytes) -> bool:
    """Whether every reader decodes it alike and in hardware: baseline, 8 bits, three colours, not turned."""
    place = 2
    if data[:2] != b"\xff\xd8":
        return False
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == 0xE1 and data[place + 4 : place + 8] == b"Exif" and _is_turned(data):
            return False
        if marker in FRAMES:
            return marker == BASELINE and data[place + 4] == 8 and data[place + 9] == 3
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _is_turned(data: bytes) -> bool:
    """Whether Exif asks for the image to be turned: some readers do it, others do not."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return bool(image.getexif().get(0x0112, 1) != 1)
    except (OSError, SyntaxError, ValueError):
        return True  # let Pillow judge the whole file

"""Image files as tiles: pixels, and the file's own bytes where they can be stored as they are."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from pathprep.images import jpeg, jpeg_metadata, limits, pictures
from pathprep.slides.readers.base import Pixels

SIDES = (16, 4096)  # pixels; what a dataset's tiles may have
MOST_BYTES = 8 * SIDES[1] ** 2  # of a file: twice what the largest takes with four samples, not compressed
JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif")
BASELINE, FRAMES = 0xC0, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_named_jpeg(file: str) -> bool:
    """Whether a file is a JPEG by its ending."""
    return file.lower().endswith(JPEGS)


class Picture(NamedTuple):
    """``pixels`` (H, H, 3) uint8 RGB; ``jpeg``: the file's bytes, if they are a baseline colour JPEG and
    hold the same picture; ``scale``: pixels of the file that a pixel stands for, above 1 if it was reduced.
    """

    pixels: Pixels
    jpeg: bytes | None
    scale: float = 1.0


def decode(data: bytes, keep_metadata: bool = False, crop: bool = False) -> Picture:
    """Decode a tile; see pathprep.images.pictures.

    Args:
        data: the file.
        keep_metadata: ``jpeg`` is the file to the byte; else it is without what its picture does not need
            (pathprep.images.jpeg_metadata), which decodes alike.
        crop: of an image that is not square its central square; one above the largest side is reduced to it.

    Raises:
        ValueError: it cannot be decoded, is not square without ``crop``, or of a side outside SIDES.
    """
    wanted = check_crop if crop else check
    if is_plain_jpeg(data):
        if not keep_metadata:
            data = jpeg_metadata.dropped(data)
        found = Picture(jpeg.decode(data, wanted), data)
    else:
        found = Picture(pictures.decode(data, wanted), None)
    return central(found.pixels) if crop and not is_tile(found.pixels) else found


def is_tile(pixels: Pixels) -> bool:
    """Whether an image is square and no larger than a tile may be."""
    return bool(pixels.shape[0] == pixels.shape[1] <= SIDES[1])


def central(pixels: Pixels) -> Picture:
    """The central square of an image (H, W, 3), reduced to the largest side of tiles if it is above that."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side <= SIDES[1]:
        return Picture(square, None)
    size = (SIDES[1], SIDES[1])
    small = np.asarray(Image.fromarray(square).resize(size, Image.Resampling.BICUBIC))
    return Picture(small, None, side / SIDES[1])


def check(width: int, height: int) -> None:
    """Refuse what no dataset's tile can be.

    Raises:
        ValueError: not square, or of a side outside SIDES.
    """
    if height != width:
        raise ValueError(f"{width} x {height} px; tiles are square: crop it first, or `crop`")
    if not SIDES[0] <= width <= SIDES[1]:
        raise ValueError(f"{width} px a side; tiles have {SIDES[0]} to {SIDES[1]}")


def check_crop(width: int, height: int) -> None:
    """Refuse what has no central square for a tile.

    Raises:
        ValueError: a side below SIDES, or more pixels than are read.
    """
    limits.check(width, height)
    if min(width, height) < SIDES[0]:
        raise ValueError(f"{width} x {height} px; tiles have {SIDES[0]} to {SIDES[1]}")


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
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return bool(image.getexif().get(0x0112, 1) != 1)
    except Exception:  # Pillow raises what its readers happen to
        return True  # let it judge the whole file

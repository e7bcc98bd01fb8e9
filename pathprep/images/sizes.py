"""Sizes in an image file beside the one that Pillow shows, for which decoders take memory all the same."""

import re
import struct
from collections.abc import Callable

from PIL import Image, TiffImagePlugin

from pathprep.images import jpeg
from pathprep.images.samples import SIZ

TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF tags
_SIZES = re.compile(re.escape(SIZ) + rb".{4}(.{16})", re.DOTALL)
MOST_TILE = 1 << 24  # pixels of one native tile of a TIFF: 4096 x 4096


def check_first(data: bytes, check: Callable[[int, int], None]) -> None:
    """What has to be looked at before Pillow opens the file.

    Raises:
        ValueError: the picture is too large.
    """
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        # its canvas is made when it is opened
        check(*(int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)))
    if data[:2] == b"\xff\xd8":
        jpeg.check_passes(data)


def check(image: Image.Image, data: bytes) -> None:
    """Refuse sizes that do not fit the picture's.

    Args:
        image: opened, not read.
        data: the file.

    Raises:
        ValueError: says which.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, length = (int(image.tag_v2.get(tag, 1)) for tag in (TILE_WIDTH, TILE_LENGTH))
        if width * length > MOST_TILE:
            raise ValueError(
                f"is stored in tiles of {width:,} x {length:,} px, at most 4096 x 4096; save it anew"
            )
    if image.format == "JPEG2000":
        for found in _SIZES.finditer(data):  # all: what stands before the codestream may look like it
            right, bottom, left, top = struct.unpack(">4I", found[1])
            said, true = image.size, (right - left, bottom - top)
            if said != true:
                raise ValueError(f"says {said[0]:,} x {said[1]:,} px, but holds {true[0]:,} x {true[1]:,}")

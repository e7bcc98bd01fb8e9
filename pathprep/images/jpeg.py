"""JPEG coding of tiles with libjpeg-turbo, which releases the GIL and gives equal bytes for equal pixels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import simplejpeg

from pathprep.images import jpeg_metadata, limits

Pixels = npt.NDArray[np.uint8]

_SCAN = bytes((0xFF, jpeg_metadata.SCAN))


def encode(tile: Pixels, quality: int, subsampling: str) -> bytes:
    """Encode one tile.

    Args:
        tile: (H, W, 3) uint8 RGB, C-contiguous.
        quality: 1 to 100.
        subsampling: ``420`` halves the colour resolution, as slide scanners do; ``444`` keeps it
            (about half as large again).
    """
    data: bytes = simplejpeg.encode_jpeg(tile, quality, "RGB", subsampling)
    return data


def decode(data: bytes, check: Callable[[int, int], None] = limits.check) -> Pixels:
    """Decode to (H, W, 3) uint8 RGB.

    Args:
        data: the file.
        check: raises a ValueError if a width and height are not wanted; asked before memory is taken.

    Raises:
        ValueError: not a JPEG, damaged, or too large.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        check(width, height)
        check_passes(data)
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(limits.reason(error)) from None
    return pixels


def check_passes(data: bytes) -> None:
    """Refuse a JPEG of so many passes that decoding takes minutes.

    Raises:
        ValueError: see jpeg_metadata.segments.
    """
    if data.count(_SCAN) > jpeg_metadata.SCANS:  # a thumbnail has some of its own, so count exactly
        for _ in jpeg_metadata.segments(data):
            pass

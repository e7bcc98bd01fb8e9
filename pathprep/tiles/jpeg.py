"""JPEG coding of tiles with libjpeg-turbo, which releases the GIL and gives equal bytes for equal pixels."""

import simplejpeg

from pathprep.slides.readers.base import Pixels


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


def decode(data: bytes) -> Pixels:
    """Decode to (H, W, 3) uint8 RGB.

    Raises:
        ValueError: not a JPEG, or truncated.
    """
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    return pixels

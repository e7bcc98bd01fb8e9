"""Decodes native TIFF tiles that are not JPEG: none, LZW, deflate, PackBits, Zstandard, WebP, JPEG 2000.

Strict: a tile that does not give exactly its pixels is an error. Transparency is composed on white.
"""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np

from pathprep.slides.readers.base import Pixels
from pathprep.slides.readers.page import GREY, NONE, RGB, WHITE_IS_ZERO, Page

_UNPACK: dict[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.zlib_decode,
    32773: imagecodecs.packbits_decode,
    32946: imagecodecs.zlib_decode,
    50000: imagecodecs.zstd_decode,
}
# Their decoders give pixels. Of 33003, only where the codestream itself says how to turn them into RGB
_PICTURES: dict[int, Callable[..., Any]] = {
    33003: imagecodecs.jpeg2k_decode,
    33005: imagecodecs.jpeg2k_decode,
    34712: imagecodecs.jpeg2k_decode,
    34927: imagecodecs.webp_decode,
    50001: imagecodecs.webp_decode,
}
_DIFFERENCES = 2


def refusal(page: Page) -> str:
    """Why the tiles of a page are not decoded here; empty if they are."""
    if page.compression in _PICTURES:
        if page.tag != "RGB" and page.tag_is_right:
            return f"its colours are {page.tag}"
        return f"its tiles are of {page.samples} samples" if not page.plain else ""
    if page.photometric not in (WHITE_IS_ZERO, GREY, RGB):
        return f"its colours are {page.tag}"
    if page.compression != NONE and page.compression not in _UNPACK:
        return f"its compression is {page.compression}"
    if page.predictor not in (0, 1, _DIFFERENCES):
        return f"its predictor is {page.predictor}"
    return ""


def decode(page: Page, parts: list[bytes]) -> Pixels:
    """One native tile, (tile height, tile width, 3) uint8.

    Args:
        parts: its bytes, one for each sample if the page is planar, else one.

    Raises:
        ValueError: they are damaged.
    """
    if page.compression in _PICTURES:
        pixels = np.asarray(_picture(page, parts[0]))
        if pixels.dtype != np.uint8 or pixels.shape != (page.tile_height, page.tile_width, 3):
            raise ValueError(f"a picture of {pixels.shape} {pixels.dtype}")
        return pixels
    samples = [_samples(page, part) for part in parts]
    pixels = samples[0] if len(samples) == 1 else np.concatenate(samples, axis=2)
    colours = pixels if page.alpha == "none" else pixels[:, :, :-1]
    if page.photometric == WHITE_IS_ZERO:
        colours = 255 - colours
    if page.alpha != "none":
        colours, alpha = colours.astype(np.uint16), pixels[:, :, -1:].astype(np.uint16)
        if page.alpha == "associated":  # colours above alpha are none
            colours = np.minimum(colours + (255 - alpha), 255).astype(np.uint8)
        else:
            colours = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (page.tile_height, page.tile_width, 3)))


def _picture(page: Page, data: bytes) -> Any:
    try:
        return _PICTURES[page.compression](data)
    # each codec has its own class of error
    except Exception as error:
        raise ValueError(str(error)) from None


def _samples(page: Page, data: bytes) -> Pixels:
    """(tile height, tile width, samples of this part) uint8."""
    depth = 1 if page.planar else page.samples
    expected = page.tile_height * page.tile_width * depth
    if page.compression != NONE:
        try:
            # one more, to notice what is too long
            data = bytes(_UNPACK[page.compression](data, out=expected + 1))
        except Exception as error:
            raise ValueError(str(error)) from None
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes for {expected} samples")
    pixels: Pixels = np.frombuffer(data, np.uint8).reshape(page.tile_height, page.tile_width, depth)
    if page.predictor == _DIFFERENCES and page.compression != NONE:
        pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
    return pixels

"""Stored images to pixels: what is no JPEG is judged as `pathprep` judges it."""

import io

import numpy as np
import pytest
from helpers.tilesets import saved, tile
from imagecodecs import png_encode
from PIL import Image

from pathprep.errors import DatasetError
from pathtrain.images import decode


def test_transparency_is_white_and_sixteen_bits_are_refused() -> None:
    pixels = tile(0)
    assert np.array_equal(decode(saved(pixels, "PNG"), "a.png"), pixels)
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:8] = 0
    data = io.BytesIO()
    Image.fromarray(np.dstack([pixels * (alpha[..., None] > 0), alpha])).save(data, "PNG")
    found = decode(data.getvalue(), "a.png")
    assert (found[:8] == 255).all()
    assert np.array_equal(found[8:], pixels[8:])
    with pytest.raises(DatasetError, match=r"a\.png: cannot be decoded \(pixels are of 16 bits a sample"):
        decode(bytes(png_encode(pixels.astype(np.uint16) * 16)), "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: cannot be decoded"):
        decode(b"no image", "a.png")

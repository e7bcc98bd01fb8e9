"""Image files that people give, not slides: to RGB of 8 bits, or a reason by name why not."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pathprep.images import limits, samples, sizes
from pathprep.images.jpeg import Pixels
from pathprep.storage import regular

# Those that are documented. Pillow knows more, and for one of them it starts another program (EPS)
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")

MODES = ("RGB", "RGBA", "RGBa", "P", "PA", "L", "LA", "La")
NAMES = {"1": "black or white (1 bit)", "CMYK": "CMYK, inks of a printer"}


def decode(data: bytes, check: Callable[[int, int], None] = limits.check) -> Pixels:
    """(H, W, 3) uint8 RGB of an image of 8 bits: JPEG, PNG, TIFF, BMP, GIF, WebP, JPEG 2000.

    Grey and palette images become RGB. What is transparent becomes white, as glass is, by as much as it is.
    An image that says that it is turned is turned back.

    Args:
        data: the file.
        check: raises a ValueError if a width and height are not wanted; asked before memory is taken.

    Raises:
        ValueError: it is damaged, too large, not of 8 bits per sample, of inks, of one bit, or of several
            images.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual tags; what matters is an error
            sizes.check_first(data, check)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check(*image.size)
                samples.check(image, data)
                sizes.check(image, data)
                if image.mode not in MODES:
                    raise ValueError(f"pixels are {NAMES.get(image.mode, image.mode)}; expected 8-bit RGB")
                if getattr(image, "is_animated", False):
                    raise ValueError("holds several images; expected one")
                return _on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError("not an image that can be read (JPEG, PNG, TIFF and the like, of 8 bits)") from None
    except Image.DecompressionBombError:  # Pillow's own limit is above ours
        raise ValueError("its header asks for more pixels than are read: crop it, or it is damaged") from None
    except Exception as error:
        raise ValueError(limits.reason(error)) from None


def is_picture(path: Path) -> bool:
    """Whether a file begins as one of FORMATS does; it may be damaged."""
    try:
        with regular.open_regular(path) as file, Image.open(file, formats=FORMATS):
            return True
    except Exception:  # Pillow raises what its readers happen to
        return False


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

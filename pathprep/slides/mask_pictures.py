"""Pictures as masks: judged by their numbers, not by how bright they look.

Any channel that is not 0 is tissue: class numbers in one channel, colours, numbers of a palette whatever
their colours, 1 to 32 bits. A mask painted on a transparent layer counts where it is opaque. Of pyramids as
ASAP and PANDA have them, the smallest level that is fine enough is read. JPEG blurs numbers: it is read where
it is black and white beyond doubt, and refused elsewhere.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from pathprep.errors import MaskError, explain_os_error
from pathprep.slides.readers import tiff_texts
from pathprep.slides.tissue import Mask

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LOSSY_FORMATS = {"JPEG", "MPO", "WEBP", "JPEG2000"}
# TIFF compressions that may change numbers: JPEG old and new, JPEG 2000, JPEG XR, WebP, JPEG XL
LOSSY_TIFF = {6, 7, 33003, 33004, 33005, 34712, 22610, 34934, 50001, 50002}
# Where numbers were blurred: black and white are no further from their ends, but at edges
DARK, LIGHT, EDGES = 48, 208, 0.05
# Share of the opaque part that has no colour, below which it is taken for antialiasing
STRAY = 0.01
ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
PIL_LIMIT = 2  # times the pixels that Pillow warns of; more it refuses

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A mask as its file has it, perhaps reduced.

    Attributes:
        tissue: (h, w). width, height: of the file's largest level.
        lossy: it was blurred, and black and white were told apart at half.
        swapped: of a palette, number 0 has a colour, and another that it uses is black.
    """

    tissue: Mask
    width: int
    height: int
    lossy: bool = False
    swapped: bool = False


class _Unfit(ValueError):
    """A picture that can be read, but is no mask."""


def read_picture(path: Path, fine: tuple[int, int]) -> Picture:
    """Read a mask.

    Args:
        fine: (h, w) that a level of a pyramid must have at least, if any has.

    Raises:
        MaskError: unreadable, too large, or its numbers tell nothing.
    """
    try:
        with path.open("rb") as file:
            mark = file.read(4)
        return _tiff(path, fine) if mark in TIFF_MARKS else _plain(path)
    except _Unfit as error:
        raise MaskError(f"{path}: {error}") from None
    # a damaged PNG is an OSError, a SyntaxError or a ValueError
    except (OSError, SyntaxError, ValueError, imagecodecs.PngError) as error:
        if isinstance(error, OSError) and error.strerror is not None:  # of the system, not of Pillow
            error.filename = str(path)
            raise MaskError(explain_os_error(error, reading=True)) from None
        raise MaskError(
            f"{path}: not a readable picture ({error}); a mask is a PNG, a TIFF or a GeoJSON"
        ) from None


def _plain(path: Path) -> Picture:
    try:
        with warnings.catch_warnings():
            # Pillow refuses twice as many pixels as it warns of; between the two, a mask takes 0.2 GB
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                count = getattr(image, "n_frames", 1)
                if count > 1:
                    raise _Unfit(f"holds {count} pictures; save the mask alone")
                lossy = image.format in LOSSY_FORMATS
                values, alpha = _deep_png(path) if _is_deep_png(path) else _of_image(image)
                swapped = alpha is None and _is_swapped(image)
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from None
    height, width = values.shape[:2]
    return Picture(_tissue(values, alpha, lossy), width, height, lossy, swapped)


def _is_swapped(image: Image.Image) -> bool:
    """Whether black is a number above 0 of a palette, as where a program has numbered the colours itself."""
    if image.mode != "P":
        return False
    colours = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    black = [not colours[number].any() for number in used if number < len(colours)]
    return bool(len(black) and used[0] == 0 and not black[0] and any(black))


def _too_large(what: str) -> _Unfit:
    return _Unfit(f"too large for a mask ({what}); save it smaller, a pixel per 4 micrometres is enough")


def _of_image(image: Image.Image) -> tuple[Numbers, Numbers | None]:
    """Numbers (h, w, channels) of a picture, those of a palette as they are, and its opacity (h, w)."""
    key = image.info.get("transparency")
    values = np.asarray(image)
    if image.mode in ALPHA:
        return values[..., :-1], values[..., -1]
    values = values.reshape(*values.shape[:2], -1)
    if key is None:
        return values, None
    if values.dtype == bool:  # of 1 bit: the key is 1 or 255 for white
        key = bool(key)
    if isinstance(key, bytes):  # opacity of each number of a palette
        opacity = np.full(256, 255, np.uint8)
        opacity[: len(key)] = np.frombuffer(key, np.uint8)
        return values, opacity[values[..., 0]]
    return values, np.any(values != np.asarray(key), axis=-1).astype(np.uint8)  # this colour is transparent


def _is_deep_png(path: Path) -> bool:
    """Whether a PNG has 16 bits in several channels, of which Pillow drops the lower 8."""
    with path.open("rb") as file:
        head = file.read(26)
    return head.startswith(b"\x89PNG") and head[24] == 16 and head[25] in (2, 4, 6)


def _deep_png(path: Path) -> tuple[Numbers, Numbers | None]:
    values = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return (values[..., :-1], values[..., -1]) if values.shape[-1] in (2, 4) else (values, None)


def _tiff(path: Path, fine: tuple[int, int]) -> Picture:
    if long := tiff_texts.too_long(path):
        raise _Unfit(f"{long}; save the mask without it")
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            levels = [level for level in series.levels if {"Y", "X"} <= set(level.axes)]
            if not levels:
                raise ValueError("no picture in it")
            sizes = [(_length(level, "Y"), _length(level, "X")) for level in levels]
            fit = [i for i, size in enumerate(sizes) if size[0] >= fine[0] and size[1] >= fine[1]]
            level, (height, width) = levels[fit[-1] if fit else 0], sizes[0]
            limit = PIL_LIMIT * (Image.MAX_IMAGE_PIXELS or 1 << 40)
            if np.prod(level.shape, dtype=np.float64) > limit:
                shape = "x".join(map(str, level.shape))
                raise _too_large(f"{shape} numbers, and no smaller level")
            page = level.keyframe
            values, alpha = _channels(level.asarray(), level.axes, page)
            if page.photometric == 0 and page.bitspersample == 1 and "tifffile" not in page.software:
                # as fax programs write black and white, white is 0; tifffile says so of True and False too
                values = values == 0
            lossy = page.compression in LOSSY_TIFF
    except ValueError:
        raise
    except Exception as error:  # a damaged TIFF raises what it likes
        raise ValueError(f"damaged: {error}") from None
    return Picture(_tissue(values, alpha, lossy), width, height, lossy)


def _length(level: Any, axis: str) -> int:
    return int(level.shape[level.axes.index(axis)])


def _channels(values: Numbers, axes: str, page: Any) -> tuple[Numbers, Numbers | None]:
    """As (h, w, channels), and the opacity if one of a pixel's samples is that."""
    values = np.moveaxis(values, (axes.index("Y"), axes.index("X")), (0, 1))
    rest = [axis for axis in axes if axis not in "YX"]
    alpha = None
    if "S" in rest and page.extrasamples:
        samples = np.moveaxis(values, 2 + rest.index("S"), -1)
        alpha = samples[..., -1].reshape(*samples.shape[:2], -1).max(axis=-1)
        values = samples[..., :-1]
    return values.reshape(*values.shape[:2], -1), alpha


def _tissue(values: Numbers, alpha: Numbers | None, lossy: bool) -> Mask:
    if not values.size:
        raise ValueError("it has no pixel")
    if lossy and (alpha is None or (alpha == alpha.max()).all()):
        return _black_and_white(values)
    if lossy and alpha is not None:
        return np.asarray(alpha >= 128)  # what is transparent has any colour
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        if not np.array_equal(values[known], np.rint(values[known])):
            part = values[known & (values != np.rint(values))][0]
            raise _Unfit(
                f"holds shares such as {part:g}; decide from which on it is tissue, and save 0 and 1"
            )
        values = np.where(known, values, 0)
    coloured: Mask = np.any(values != 0, axis=-1)
    if alpha is None or (alpha == alpha.max()).all():
        return coloured
    opaque: Mask = alpha > 0
    black = float((opaque & ~coloured).sum() / max(1, opaque.sum()))
    if STRAY < black < 1:
        raise _Unfit(
            f"of what is opaque, {black:.0%} is 0 and the rest is not, so that it is not plain whether what "
            "is opaque or what has a colour is tissue; save it without transparency"
        )
    return opaque


def _black_and_white(values: Numbers) -> Mask:
    bright = values.max(axis=-1)
    between = float(((bright > DARK) & (bright < LIGHT)).mean())
    if values.dtype != np.uint8 or between > EDGES or bright.max() < LIGHT:
        raise _Unfit(
            "JPEG (or another compression that blurs) changes the numbers of a mask, and this one is not "
            "plainly black and white; save it as PNG, or as TIFF with LZW or deflate"
        )
    return np.asarray(bright >= 128)

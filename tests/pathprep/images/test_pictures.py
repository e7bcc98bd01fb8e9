"""Image files of every kind that people give: the right pixels, or a reason by name."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.tilesets import saved, tile
from imagecodecs import png_encode
from PIL import Image

from pathprep.errors import UsageError
from pathprep.images.pictures import decode
from pathprep.sharding.fit_target import FitOptions, fit_picture

RGB = tile(0)
SIDE = len(RGB)
ALPHA = np.zeros((SIDE, SIDE), np.uint8)
ALPHA[:, SIDE // 4 :] = 255
ALPHA[:, SIDE // 2 : SIDE // 2 + 4] = 128
RGBA = np.dstack([np.where(ALPHA[..., None] > 0, RGB, 0), ALPHA])
WHITE = np.rint((RGB * (ALPHA[..., None] / 255)) + 255 * (1 - ALPHA[..., None] / 255))
GREY = RGB[..., 1]


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, pixels, **options)
    return data.getvalue()


def image(pixels: np.ndarray, kind: str, mode: str = "", **options: Any) -> bytes:
    made, data = Image.fromarray(pixels), io.BytesIO()
    (made.convert(mode) if mode else made).save(data, kind, **options)
    return data.getvalue()


def premultiplied() -> np.ndarray:
    colour = np.rint(RGBA[..., :3] * (ALPHA[..., None] / 255)).astype(np.uint8)
    return np.dstack([colour, ALPHA])


def keyed(mode: str) -> tuple[bytes, np.ndarray]:
    """A PNG whose transparent colour is that of its first pixel."""
    picture = Image.fromarray(RGB).convert(mode)
    key = picture.getpixel((0, 0))
    same = (np.array(picture).reshape(SIDE, SIDE, -1) == np.array(key)).all(axis=2)
    shown = np.array(picture.convert("RGB"))
    shown[same] = 255
    data = io.BytesIO()
    picture.save(data, "PNG", transparency=key)
    return data.getvalue(), shown


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_plain_colour_keeps_its_pixels(kind: str) -> None:
    assert np.array_equal(decode(saved(RGB, kind)), RGB)


def test_lossless_webp_and_jpeg_2000_keep_their_pixels() -> None:
    assert np.array_equal(decode(image(RGB, "WEBP", lossless=True)), RGB)
    assert np.array_equal(decode(image(RGB, "JPEG2000", irreversible=False)), RGB)
    assert np.array_equal(decode(image(RGB, "JPEG2000", irreversible=False, no_jp2=True)), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey_and_palette_become_colour(kind: str) -> None:
    assert np.array_equal(decode(image(GREY, kind)), np.dstack([GREY] * 3))
    palette = Image.fromarray(RGB).quantize(32)
    data = io.BytesIO()
    palette.save(data, kind)
    assert np.array_equal(decode(data.getvalue()), np.array(palette.convert("RGB")))


ALPHAS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: image(RGBA, "PNG"),
    "WebP": lambda: image(RGBA, "WEBP", lossless=True, exact=True),
    "JPEG 2000": lambda: image(RGBA, "JPEG2000", irreversible=False),
    "TIFF, unassociated": lambda: tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]),
    "TIFF, associated": lambda: tiff(premultiplied(), photometric="rgb", extrasamples=["assocalpha"]),
    "TIFF, planes": lambda: tiff(
        np.moveaxis(RGBA, 2, 0).copy(),
        photometric="rgb",
        planarconfig="separate",
        extrasamples=["unassalpha"],
    ),
}


@pytest.mark.parametrize("kind", ALPHAS)
def test_what_is_transparent_lies_on_white(kind: str) -> None:
    found = decode(ALPHAS[kind]()).astype(int)
    off = np.abs(found - WHITE).max(axis=2)
    assert off.max() <= (2 if "associated" in kind else 1)
    assert (found[ALPHA == 0] == 255).all()
    assert (found[ALPHA == 255] == RGB[ALPHA == 255]).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour_lies_on_white(mode: str) -> None:
    data, shown = keyed(mode)
    assert np.array_equal(decode(data), shown)


def test_grey_with_alpha_and_gif_lie_on_white() -> None:
    grey = decode(image(np.dstack([GREY, ALPHA]), "PNG"))
    assert (grey[ALPHA == 0] == 255).all()
    assert np.array_equal(grey[ALPHA == 255][:, 0], GREY[ALPHA == 255])
    picture = Image.fromarray(RGB).quantize(32)
    picture.putpixel((0, 0), 31)
    data = io.BytesIO()
    picture.save(data, "GIF", transparency=picture.getpixel((0, 0)))
    assert decode(data.getvalue())[0, 0].tolist() == [255, 255, 255]


def test_a_tile_outside_of_what_was_scanned_is_white_and_a_picture_without_opacity_is_refused() -> None:
    assert (decode(image(np.zeros((SIDE, SIDE, 4), np.uint8), "PNG")) == 255).all()
    with pytest.raises(ValueError, match="transparent everywhere; save it without"):
        decode(image(np.dstack([RGB, ALPHA * 0]), "PNG"))


WIDE = RGB.astype(np.uint16) * 16
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "TIFF of 16 bits": (lambda: tiff(WIDE, photometric="rgb"), "16 bits a sample; expected 8-bit RGB"),
    "TIFF, big-endian": (lambda: tiff(WIDE, photometric="rgb", byteorder=">"), "16 bits a sample"),
    "TIFF, packed": (lambda: tiff(WIDE, photometric="rgb", compression="deflate"), "16 bits a sample"),
    "TIFF, planes": (
        lambda: tiff(np.moveaxis(WIDE, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        "16 bits a sample",
    ),
    "TIFF with alpha": (
        lambda: tiff(np.dstack([WIDE, WIDE[..., 0]]), photometric="rgb", extrasamples=["unassalpha"]),
        "16 bits a sample",
    ),
    "TIFF, grey": (lambda: tiff(WIDE[..., 0], photometric="minisblack"), "16 bits a sample"),
    "TIFF of floats": (lambda: tiff(RGB[..., 0] / np.float32(255)), "32 bits a sample, fractions"),
    "TIFF, signed": (lambda: tiff(RGB[..., 0].astype(np.int8)), "8 bits a sample, signed"),
    "PNG of 16 bits": (lambda: png_encode(WIDE), "16 bits a sample"),
    "PNG with alpha": (lambda: png_encode(np.dstack([WIDE, WIDE[..., 0]])), "16 bits a sample"),
    "PNG, grey": (lambda: png_encode(WIDE[..., 0].copy()), "16 bits a sample"),
    "JPEG 2000 of 16 bits": (lambda: wide_jpeg2000(16), "16 bits a sample"),
    "JPEG 2000 of 12 bits": (lambda: wide_jpeg2000(12), "12 bits a sample"),
    "one bit": (lambda: image(GREY, "PNG", "1"), r"black or white \(1 bit\)"),
    "CMYK TIFF": (lambda: image(RGB, "TIFF", "CMYK"), "pixels are CMYK"),
    "CMYK JPEG": (lambda: image(RGB, "JPEG", "CMYK"), "pixels are CMYK"),
    "Lab": (lambda: image(RGB, "TIFF", "LAB"), "pixels are LAB"),
    "fourth channel": (
        lambda: tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]),
        "a channel beside its colours that is not said to be alpha",
    ),
    "animated GIF": (
        lambda: image(RGB, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        "holds several images",
    ),
    "animated WebP": (
        lambda: image(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        "holds several images",
    ),
    "several pages": (
        lambda: image(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB)]),
        "holds several images",
    ),
}  # fmt: skip


def wide_jpeg2000(bits: int) -> bytes:
    from imagecodecs import jpeg2k_encode

    return bytes(jpeg2k_encode(WIDE, codecformat="jp2", bitspersample=bits, reversible=True))


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=reason):
        decode(make())


def test_a_stain_target_is_judged_alike(tmp_path: Path) -> None:
    (tmp_path / "target.png").write_bytes(REFUSED["PNG of 16 bits"][0]())
    with pytest.raises(UsageError, match=r"target\.png: not a readable picture \(pixels are of 16 bits"):
        fit_picture(tmp_path / "target.png", FitOptions())

"""Pictures as masks: every kind of number, transparency, pyramids, files that are damaged or too large."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from pathprep.errors import MaskError
from pathprep.slides import masks
from pathprep.slides.masks import Ground, load_mask, place_mask

SIZE = (100, 80)  # of the slide
SHAPE = (40, 50)  # of the overview


def png(width: int, height: int, content: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


WHOLE = zlib.compress((b"\0" + b"\xff" * 100) * 80)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            png(60_000, 48_000, b""),
            r"too large for a mask \(Image size \(2880000000 pixels\).* save it smaller",
        ),
        (png(2**31 - 1, 2**31 - 1, WHOLE), "too large for a mask"),
        (png(10_000, 8_000, WHOLE), "not a readable picture"),
        (png(0, 0, WHOLE), "not a readable picture"),
        (png(*SIZE, WHOLE)[:60], "not a readable picture"),
        (png(*SIZE, b"no stream"), "not a readable picture"),
        (png(*SIZE, zlib.compress(b"\0" * 20)), "not a readable picture"),
        (b"text", "not a readable picture"),
        (b"", "not a readable picture"),
    ],
)
def test_damaged_pictures(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MaskError, match=rf"a\.png: {message}"):
        load_mask(tmp_path / "a.png", *SIZE, SHAPE)


def test_a_picture_that_pillow_only_warns_of_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(*SIZE, WHOLE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    assert load_mask(tmp_path / "a.png", *SIZE, SHAPE).all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(MaskError, match="too large"):
        load_mask(tmp_path / "a.png", *SIZE, SHAPE)


def test_png_masks(tmp_path: Path) -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10:30, 20:40] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    loaded = masks.load_mask(tmp_path / "m.png", 600, 500, (100, 120))
    np.testing.assert_array_equal(loaded, np.kron(mask, np.ones((2, 2))) > 0)


INSIDE = np.zeros((80, 100), bool)
INSIDE[16:64, 10:60] = True  # 30 %
ONE = INSIDE.astype(np.uint8)
OUT = np.zeros_like(ONE)
PAINTED = np.where(INSIDE, 255, 0).astype(np.uint8)
WHITE = np.full_like(ONE, 255)


def palette(numbers: Any, first: tuple[int, int, int], **options: Any) -> Callable[[Path], None]:
    image = Image.fromarray(numbers, "P")
    image.putpalette([*first, 0, 128, 0] + [0] * 762)
    return lambda path: image.save(path, **options)


def pil(*channels: Any, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    values = channels[0] if len(channels) == 1 else np.dstack(channels)
    return lambda path: Image.fromarray(values, mode).save(path, **options)


def deep_png(*channels: Any) -> Callable[[Path], None]:
    values = np.dstack(channels).astype(np.uint16)
    return lambda path: path.write_bytes(imagecodecs.png_encode(values)) and None


def tif(values: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, values, **options)


def pyramid(path: Path) -> None:
    """As ASAP writes it: RGB, class in red, each level half the last, LZW or deflate."""
    colours = np.kron(np.dstack([ONE, OUT, OUT]), np.ones((16, 16, 1), np.uint8))
    with tifffile.TiffWriter(path) as tiff:
        for level in range(4):
            tiff.write(
                colours[:: 2**level, :: 2**level],
                tile=(64, 64),
                compression="zlib",
                photometric="rgb",
                subfiletype=int(level > 0),
                metadata=None,
            )


GOOD = {
    "one.png": pil(ONE),
    "red.png": pil(ONE, OUT, OUT),
    "blue.png": pil(OUT, OUT, ONE * 4),
    "bits.png": lambda path: Image.fromarray(INSIDE).save(path),
    "white-ground.png": palette(ONE, (255, 255, 255)),
    "palette-clear.png": palette(ONE, (255, 255, 255), transparency=0),
    "palette-last-clear.png": palette(np.where(INSIDE, 0, 255).astype(np.uint8), (9, 9, 9), transparency=255),
    "16.png": pil(ONE.astype(np.uint16)),
    "16-rgb.png": deep_png(ONE, OUT, OUT),
    "16-alpha.png": deep_png(OUT, OUT, OUT, PAINTED),
    "layer-white.png": pil(WHITE, WHITE, WHITE, PAINTED),
    "layer-black.png": pil(OUT, OUT, OUT, PAINTED),
    "layer-faint.png": pil(ONE, OUT, OUT, ONE * 40),
    "grey-layer.png": pil(WHITE, PAINTED),
    "opaque.png": pil(PAINTED, OUT, OUT, WHITE),
    "clear.png": pil(PAINTED, OUT, OUT, OUT),  # nothing is opaque: then the numbers count
    "colour-key.png": pil(np.where(INSIDE, 0, 7).astype(np.uint8), transparency=7),
    "one.bmp": pil(ONE),
    "rgb.bmp": pil(OUT, ONE, OUT),
    "one.gif": palette(ONE, (255, 255, 255)),
    "black-and-white.jpg": pil(PAINTED, quality=80),
    "one.tif": tif(ONE),
    "lzw.tif": tif(ONE, compression="lzw", tile=(32, 32)),
    "32.tif": tif(ONE.astype(np.uint32) * 70_000),
    "big.tif": tif(ONE, bigtiff=True, byteorder=">"),
    "float.tif": tif(np.where(INSIDE, 3.0, np.nan).astype(np.float32)),
    "signed.tif": tif(-ONE.astype(np.int16)),
    "bits.tif": tif(INSIDE, photometric="minisblack"),
    "fax.tif": tif(~INSIDE, photometric="miniswhite", software=False),
    "tifffile-bits.tif": tif(INSIDE),  # it calls True black, and means the number
    "bit-key.png": lambda path: Image.fromarray(~INSIDE).save(path, transparency=1),
    "layer.webp": pil(WHITE, WHITE, WHITE, PAINTED, quality=80),
    "inverted-lut.tif": tif(PAINTED, photometric="miniswhite"),  # as ImageJ saves: the number counts
    "palette.tif": tif(ONE, photometric="palette", colormap=np.full((3, 256), 65535, np.uint16)),
    "layer.tif": tif(np.dstack([OUT, OUT, OUT, PAINTED]), photometric="rgb", extrasamples=["unassalpha"]),
    "planes.tif": tif(np.stack([OUT, ONE, OUT]), photometric="rgb", planarconfig="separate"),
    "stack.tif": tif(np.stack([ONE, OUT]), imagej=True),
    "ome.tif": tif(np.stack([OUT, ONE]), ome=True, metadata={"axes": "CYX"}),
    "pyramid.tif": pyramid,
}


@pytest.mark.parametrize("name", GOOD)
def test_any_number_but_0_is_tissue(tmp_path: Path, name: str) -> None:
    GOOD[name](tmp_path / name)
    drawn = load_mask(tmp_path / name, 400, 320, (80, 100))
    difference = drawn ^ INSIDE
    if name.endswith(".jpg"):
        assert difference.mean() < 0.01
        assert "(JPEG) blurs" in place_mask(tmp_path / name, Ground(400, 320, (80, 100))).notes[0]
    else:
        np.testing.assert_array_equal(drawn, INSIDE)


def test_a_palette_whose_black_is_not_0_is_said(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([PAINTED, OUT, OUT])).quantize(4).save(tmp_path / "own-numbers.png")
    palette(ONE, (0, 0, 0))(tmp_path / "numbers.png")
    ground = Ground(400, 320, (80, 100))
    assert "number 0 of its palette has a colour" in place_mask(tmp_path / "own-numbers.png", ground).notes[0]
    assert place_mask(tmp_path / "numbers.png", ground).notes == ()


BAD = {
    "shares.tif": (tif((ONE * 0.3).astype(np.float32)), r"holds shares such as 0\.3; decide"),
    "labels.jpg": (pil(ONE * 5), "not plainly black and white; save it as PNG"),
    "photo.jpg": (pil(np.tile(np.arange(100, dtype=np.uint8) * 2, (80, 1))), "not plainly black and white"),
    "labels.tif": (tif(PAINTED // 2, compression="jpeg"), "not plainly black and white"),
    "unclear.png": (
        pil(PAINTED, OUT, OUT, np.where(np.arange(100) < 80, WHITE, OUT)),
        "62% is 0 and the rest is not",
    ),
    "frames.gif": (
        lambda path: Image.fromarray(ONE).save(path, save_all=True, append_images=[Image.fromarray(PAINTED)]),
        "holds 2 pictures",
    ),
    "array.png": (lambda path: path.write_bytes(b"\x93NUMPY\1\0") and None, "a NumPy array; save the areas"),
    "a.xml": (lambda path: path.write_text('<?xml version="1.0"?><ASAP_Annotations>') and None, "of ASAP"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mask(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(MaskError, match=f"{name}: .*{message}"):
        load_mask(tmp_path / name, 400, 320, (80, 100))


def test_of_a_pyramid_no_more_is_read_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid(tmp_path / "m.tif")
    read = []
    there = tifffile.TiffPageSeries.asarray
    monkeypatch.setattr(
        tifffile.TiffPageSeries, "asarray", lambda self, **how: read.append(self.shape) or there(self, **how)
    )
    load_mask(tmp_path / "m.tif", 6400, 5120, (300, 375))
    assert [shape[:2] for shape in read] == [(320, 400)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MaskError, match="too large for a mask .*, and no smaller level"):
        load_mask(tmp_path / "m.tif", 6400, 5120, (300, 375))


@pytest.mark.parametrize("cut", [8, 60, 200, 2000])
def test_a_damaged_tiff(tmp_path: Path, cut: int) -> None:
    pyramid(tmp_path / "m.tif")
    (tmp_path / "m.tif").write_bytes((tmp_path / "m.tif").read_bytes()[:cut])
    with pytest.raises(MaskError, match=r"m\.tif: not a readable picture"):
        load_mask(tmp_path / "m.tif", 6400, 5120, (300, 375))


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (OUT, "all of it is 0: no tissue"),
        (WHITE, "100% of it is not 0, which is tissue; if tissue is 0 in it, invert it"),
        (ONE, None),
    ],
)
def test_masks_of_one_value_are_said(tmp_path: Path, values: Any, note: str | None) -> None:
    Image.fromarray(values).save(tmp_path / "m.png")
    assert place_mask(tmp_path / "m.png", Ground(400, 320, (80, 100))).notes == ((note,) if note else ())


@pytest.mark.realdata
def test_a_real_pyramid(data: Path) -> None:
    path = data / "formats" / "real" / "mask-pyramid.tif"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    whole = tifffile.imread(path, level=0) > 0
    drawn = load_mask(path, 3072, 3968, (496, 384))
    assert abs(drawn.mean() - whole.mean()) < 0.002
    np.testing.assert_array_equal(load_mask(path, 3072, 3968, whole.shape), whole)

"""The JPEG's own markers decide its colours, whatever the tag says; what contradicts itself is named."""

import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import simplejpeg
import tifffile
from helpers.slides import tissue
from helpers.tiff_kinds import jpeg

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers import jpeg_header
from pathprep.slides.slide import Slide

SIDE = 128
PIXELS = tissue(SIDE, SIDE, seed=4)
ADOBE = jpeg_header.APP14_RGB
JFIF = bytes.fromhex("ffe000104a46494600010100000100010000")


def made(colours: str, *, markers: str = "", ids: bytes | None = None, subsampling: str = "444") -> bytes:
    """A JPEG of the picture with none but the given markers, and its components renamed."""
    data = imagecodecs.jpeg8_encode(
        PIXELS, level=95, colorspace="RGB", outcolorspace=colours, subsampling=subsampling
    )
    header = jpeg_header.parse(data)
    kept = b"".join(data[a:b] for marker, a, b in header.segments if marker not in (0xE0, 0xEE))
    last = header.segments[-1][2]
    rest = kept + data[last:]
    if ids is not None:
        for at in (rest.index(b"\xff\xc0") + 10, rest.index(b"\xff\xda") + 5):
            step = 3 if rest[at - 1 : at] == b"\x03" and at < rest.index(b"\xff\xda") else 2
            for number, name in enumerate(ids):
                place = at + number * step
                rest = rest[:place] + bytes([name]) + rest[place + 1 :]
    before = {"": b"", "jfif": JFIF, "adobe": ADOBE, "both": JFIF + ADOBE, "adobe-ycc": ADOBE[:-1] + b"\x01"}
    return b"\xff\xd8" + before[markers] + rest


def write(path: Path, tile: bytes, tag: str) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([tile]), shape=PIXELS.shape, dtype=np.uint8, tile=(SIDE, SIDE), photometric=tag,
            compression="jpeg", compressionargs={"outcolorspace": tag}, metadata=None,
            **({"subsampling": (1, 1)} if tag == "ycbcr" else {}),
        )  # fmt: skip
    return path


@pytest.mark.parametrize("tag", ["rgb", "ycbcr"])
@pytest.mark.parametrize(
    ("colours", "how", "says"),
    [
        ("YCBCR", {"markers": "jfif"}, r"YCbCr \(JFIF marker"),
        ("YCBCR", {"markers": "jfif", "subsampling": "420"}, r"YCbCr \(JFIF marker"),
        ("YCBCR", {"markers": "adobe-ycc"}, r"YCbCr \(Adobe marker"),
        ("RGB", {"markers": "adobe", "ids": b"\1\2\3"}, r"RGB \(Adobe marker"),
        ("RGB", {"markers": "adobe", "ids": b"RGB", "subsampling": "420"}, r"RGB \(Adobe marker"),
        ("RGB", {"ids": b"RGB"}, r"RGB \(component names"),
    ],
)
def test_markers_decide(tmp_path: Path, tag: str, colours: str, how: dict, says: str) -> None:
    path = write(tmp_path / "a.tif", made(colours, **how), tag)
    with Slide(path) as slide:
        assert slide.reader == "tiff"
        off = np.abs(slide.read(0, 0, 0, SIDE, SIDE).astype(int) - PIXELS).mean()
    assert off < (12 if how.get("subsampling") else 4)
    assert re.match(says, slide.colour)
    wrong = (colours == "RGB") != (tag == "rgb")
    assert ("the TIFF tag says" in slide.colour) == wrong


@pytest.mark.parametrize("colours", ["RGB", "YCBCR"])
def test_without_markers_the_tag_decides(tmp_path: Path, colours: str) -> None:
    path = write(tmp_path / "a.tif", made(colours, ids=b"\0\1\2"), colours.lower())
    with Slide(path) as slide:
        assert "TIFF tag" in slide.colour
        assert np.abs(slide.read(0, 0, 0, SIDE, SIDE).astype(int) - PIXELS).mean() < 4


@pytest.mark.parametrize("ids", [b"\0\1\2", b"\1\2\3"])
def test_smaller_chroma_is_ycbcr_without_markers_and_under_a_tag_of_rgb(tmp_path: Path, ids: bytes) -> None:
    path = write(tmp_path / "a.tif", made("YCBCR", ids=ids, subsampling="420"), "rgb")
    with Slide(path) as slide:
        assert slide.colour == "YCbCr (smaller chroma; the TIFF tag says RGB)"
        assert np.abs(slide.read(0, 0, 0, SIDE, SIDE).astype(int) - PIXELS).mean() < 12


@pytest.mark.parametrize(
    ("tag", "how"),
    [
        ("ycbcr", {"markers": "both", "ids": b"\1\2\3"}),
        ("ycbcr", {"markers": "adobe", "ids": b"\1\2\3", "subsampling": "420"}),
        ("rgb", {"markers": "jfif", "ids": b"RGB"}),
    ],
)
def test_what_contradicts_itself_is_named_not_called_damaged(tmp_path: Path, tag: str, how: dict) -> None:
    path = write(tmp_path / "a.tif", made("YCBCR", **how), tag)
    with pytest.raises(UnreadableSlide, match="contradicts itself.*vips copy") as refused:
        Slide(path)
    assert "damaged" not in str(refused.value)


def test_jfif_and_adobe_that_agree_with_the_tag_are_rgb(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", made("RGB", markers="both", ids=b"\1\2\3"), "rgb")
    with Slide(path) as slide:
        assert np.abs(slide.read(0, 0, 0, SIDE, SIDE).astype(int) - PIXELS).mean() < 4


def test_a_tile_of_other_colours_than_the_first_is_an_error(tmp_path: Path) -> None:
    tiles = [jpeg(PIXELS, "444"), jpeg(PIXELS, "adobe-rgb")]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter(tiles), shape=(SIDE, 2 * SIDE, 3), dtype=np.uint8, tile=(SIDE, SIDE), photometric="ycbcr",
            subsampling=(1, 1), compression="jpeg", metadata=None,
        )  # fmt: skip
    with Slide(path) as slide, pytest.raises(UnreadableSlide, match=r"tile 1,0 .*holds RGB .*first .*YCbCr"):
        slide.read(0, 0, 0, 2 * SIDE, SIDE)


def test_twelve_bits_under_a_tag_of_eight_are_refused(tmp_path: Path) -> None:
    tile = bytearray(jpeg(PIXELS, "444"))
    tile[tile.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnreadableSlide, match=r"12 bits per sample \(its JPEG tiles\), 8 are read; scale it"):
        Slide(write(tmp_path / "a.tif", bytes(tile), "ycbcr"))


def test_a_header_is_what_libjpeg_finds() -> None:
    for subsampling in ("420", "422", "444"):
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(PIXELS[:, :100]), 90, "RGB", subsampling)
        header = jpeg_header.parse(data)
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        assert (header.height, header.width) == (height, width)
        assert jpeg_header.spliced(data, header, "YCbCr", b"") + data[header.end :] == data


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 21, 100, 600])
def test_a_header_that_is_cut_off_is_no_jpeg(cut: int) -> None:
    with pytest.raises(ValueError, match="JPEG"):
        jpeg_header.parse(jpeg(PIXELS, "444")[:cut])

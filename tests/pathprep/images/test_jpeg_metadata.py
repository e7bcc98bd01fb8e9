"""Metadata of JPEGs goes, and the picture stays to the bit."""

import io
import random

import numpy as np
import pytest
import simplejpeg
from helpers.jpegs import PARTS, SECRET, plain, segment, told
from helpers.tilesets import tile
from PIL import Image

from pathprep.images import jpeg
from pathprep.images.jpeg_metadata import dropped

RGB = tile(0, 64)
KINDS = {
    "420": {"subsampling": 2},
    "444": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "rgb": {"keep_rgb": True},
}


def pixels(data: bytes) -> list[np.ndarray]:
    """As the project's own reader has them, and as Pillow has them."""
    return [simplejpeg.decode_jpeg(data, "RGB"), np.array(Image.open(io.BytesIO(data)).convert("RGB"))]


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_picture_stays(kind: str) -> None:
    data = told(RGB, **KINDS[kind])
    bare = dropped(data)
    assert SECRET in data
    assert SECRET[:8] not in bare
    for word in (b"Exif", b"xmpmeta", b"ICC_PROFILE", b"Photoshop", b"MPF", b"JFXX", b"trailer"):
        assert word in data
        assert word not in bare
    for before, after in zip(pixels(data), pixels(bare), strict=True):
        assert np.array_equal(before, after)
    with Image.open(io.BytesIO(bare)) as image:
        assert not image.getexif()
        assert not {"comment", "icc_profile", "photoshop", "xmp"} & image.info.keys()
    assert dropped(bare) == bare


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_metadata_keeps_its_bytes(kind: str) -> None:
    data = plain(RGB, **KINDS[kind])
    assert dropped(data) is data


def test_parts_in_any_order_and_number_leave_the_colours() -> None:
    chance = random.Random(0)
    marks = [
        segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]) + more)
        for transform in (0, 1)
        for more in (b"", SECRET)
    ]
    marks += [segment(0xEE, b"Adobe\0\x64"), segment(0xE0, b"JFIF\0\x01"), b"\xff", *PARTS.values()]
    # without Pillow's own JFIF, so that the parts alone tell the colours
    for start in (plain(RGB), plain(RGB, keep_rgb=True)):
        rest = start[2:] if start[2:4] != b"\xff\xe0" else start[20:]
        compared = 0
        for _ in range(300):
            parts = b"".join(chance.choices(marks, k=chance.randint(0, 6)))
            data = start[:2] + parts + rest
            bare = dropped(data)
            assert SECRET not in bare
            try:
                before = simplejpeg.decode_jpeg(data, "RGB")
            except ValueError:  # of a profile in several parts that do not fit
                continue
            assert np.array_equal(before, simplejpeg.decode_jpeg(bare, "RGB"))
            compared += 1
        assert compared > 200


def test_a_cut_or_changed_jpeg_gives_a_value_error_or_a_jpeg() -> None:
    data, chance = told(RGB), random.Random(1)
    for _ in range(2000):
        damaged = bytearray(data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data)
        for _ in range(chance.randint(0, 3) if damaged else 0):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            bare = dropped(bytes(damaged))
        except ValueError:
            continue
        assert bare[:2] == b"\xff\xd8"
        assert bare[-2:] == b"\xff\xd9"


def test_a_jpeg_of_many_passes_is_refused_before_it_is_decoded() -> None:
    # each pass costs as much as the whole picture, and takes a few bytes in the file
    data = plain(tile(0, 64), progressive=True)
    scan = data.rindex(b"\xff\xda")
    bomb = data[:scan] + data[scan:-2] * 1000 + data[-2:]
    with pytest.raises(ValueError, match="more than 100 passes"):
        jpeg.decode(bomb)

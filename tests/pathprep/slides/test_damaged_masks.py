"""Masks that are damaged, or that would take more memory than a mask is worth."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pathprep.errors import MaskError
from pathprep.slides.tissue import load_mask

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


def geojson(ring: str) -> bytes:
    return b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [%s]}}]}' % ring.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"5",
        b'{"features": [null]}',
        geojson("[[NaN, 0], [1, 1], [5, 5]]"),
        geojson("[[1e400, 0], [1, 1], [5, 5]]"),
        geojson("[[1e300, 0], [1, 1], [5, 5]]"),
        geojson("[[1], [1], [5]]"),
        geojson("[[0, 0], [1, 1]]"),
    ],
)
def test_damaged_polygons(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.geojson").write_bytes(content)
    with pytest.raises(MaskError, match=r"a\.geojson: not a GeoJSON FeatureCollection of polygons"):
        load_mask(tmp_path / "a.geojson", *SIZE, SHAPE)


def test_whole_masks_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(*SIZE, WHOLE))
    assert load_mask(tmp_path / "a.png", *SIZE, SHAPE).all()
    (tmp_path / "a.geojson").write_bytes(geojson("[[0, 0, 7], [50, 0, 7], [50, 80, 7], [0, 80, 7]]"))
    assert np.isclose(load_mask(tmp_path / "a.geojson", *SIZE, SHAPE).mean(), 0.5, atol=0.05)

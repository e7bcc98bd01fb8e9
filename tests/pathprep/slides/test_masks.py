"""Masks and outlines: GeoJSON in all its forms, pictures, and files that are damaged or far too large."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pathprep.errors import MaskError
from pathprep.slides import masks
from pathprep.slides.geojson import area, read_geojson, to_geojson
from pathprep.slides.masks import load_mask
from pathprep.slides.outlines import contours

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
        geojson(f"[[1{'0' * 400}, 0], [1, 1], [5, 5]]"),
        geojson("[]"),
        b'{"type": "Feature"}',
        b'{"geometry": {"type": "Polygon"}}',
        b'"features"',
    ],
)
def test_damaged_polygons(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.geojson").write_bytes(content)
    with pytest.raises(MaskError, match=r"a\.geojson: not GeoJSON polygons \("):
        load_mask(tmp_path / "a.geojson", *SIZE, SHAPE)


def test_whole_masks_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(*SIZE, WHOLE))
    assert load_mask(tmp_path / "a.png", *SIZE, SHAPE).all()
    (tmp_path / "a.geojson").write_bytes(geojson("[[0, 0, 7], [50, 0, 7], [50, 80, 7], [0, 80, 7]]"))
    assert np.isclose(load_mask(tmp_path / "a.geojson", *SIZE, SHAPE).mean(), 0.5, atol=0.05)


def box(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


OUTER, HOLE, FAR_OFF = box(0, 0, 40), box(10, 10, 20), box(60, 60, 10)
WITH_HOLE: dict[str, Any] = {"type": "Polygon", "coordinates": [OUTER, HOLE]}
BOTH: dict[str, Any] = {"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [FAR_OFF]]}
POINT: dict[str, Any] = {"type": "Point", "coordinates": [1, 2]}
LINE: dict[str, Any] = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}


def qupath(geometry: Any, name: str | None = None) -> dict[str, Any]:
    """A feature as QuPath 0.5 exports an annotation that is locked."""
    classified = {"classification": {"name": name, "color": [200, 0, 0]}} if name else {}
    properties = {"objectType": "annotation", "isLocked": True, **classified}
    return {"type": "Feature", "id": "6d1c", "geometry": geometry, "properties": properties}


@pytest.mark.parametrize(
    ("content", "polygons", "others"),
    [
        ({"type": "FeatureCollection", "features": [qupath(BOTH), qupath(POINT), qupath(LINE)]}, 2, 2),
        ([qupath(WITH_HOLE), qupath({"type": "Polygon", "coordinates": [FAR_OFF]}), qupath(None)], 2, 0),
        (qupath(BOTH, "Tumor"), 2, 0),
        (BOTH, 2, 0),
        (
            {
                "type": "GeometryCollection",
                "geometries": [WITH_HOLE, {"type": "Polygon", "coordinates": [FAR_OFF]}, POINT],
            },
            2,
            1,
        ),
        (
            {
                "type": "Feature",
                "properties": None,
                "geometry": {"type": "GeometryCollection", "geometries": [BOTH]},
            },
            2,
            0,
        ),
        ({"type": "Polygon", "coordinates": []}, 0, 0),
    ],
)
def test_every_form_of_geojson(tmp_path: Path, content: Any, polygons: int, others: int) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    drawing = read_geojson(path)
    rings = [[ring.tolist() for ring in polygon.rings] for polygon in drawing.polygons]
    assert rings == [[OUTER, HOLE], [FAR_OFF]][:polygons]
    assert drawing.others.total() - drawing.others["null"] == others
    if polygons:
        drawn = load_mask(path, *SIZE, (80, 100))
        assert (drawn[5, 5], drawn[20, 20], drawn[65, 65], drawn[50, 50]) == (True, False, True, False)


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        ({"name": " Tumor ", "color": [1, 2, 3]}, "Tumor"),
        ({"names": ["Tumor", "Positive"]}, "Tumor: Positive"),
        ("Stroma", "Stroma"),
        (None, ""),
    ],
)
def test_classes_of_qupath(tmp_path: Path, classification: Any, label: str) -> None:
    feature = {"geometry": WITH_HOLE, "properties": {"classification": classification}}
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    assert [polygon.label() for polygon in read_geojson(tmp_path / "a.geojson").polygons] == [label]


@pytest.mark.parametrize("classification", [{}, 5, {"names": 5}])
def test_a_class_without_a_name(tmp_path: Path, classification: Any) -> None:
    feature = {"geometry": WITH_HOLE, "properties": {"classification": classification}}
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    with pytest.raises(ValueError, match="a classification without a name"):
        read_geojson(tmp_path / "a.geojson").polygons[0].label()


def test_area_of_a_ring_closed_or_not() -> None:
    ring = np.array(box(3, 4, 5))
    assert area(ring) == area(ring[:-1]) == area(ring[::-1]) == 25


def test_contours_round_trip_through_geojson(tmp_path: Path) -> None:
    mask = np.zeros((100, 120), bool)
    mask[10:60, 20:90] = True
    mask[25:45, 40:60] = False
    mask[80:95, 5:30] = True
    width, height = 1200, 1000
    polygons = contours(mask, width, height)
    assert sorted(len(rings) for rings in polygons) == [1, 2]
    path = tmp_path / "mask.geojson"
    path.write_bytes(to_geojson(polygons, None))
    content = json.loads(path.read_bytes())
    assert content["type"] == "FeatureCollection"
    assert {f["properties"]["objectType"] for f in content["features"]} == {"annotation"}
    for feature in content["features"]:
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
    back = masks.load_mask(path, width, height, mask.shape)
    assert (back & mask).sum() / (back | mask).sum() > 0.95


def test_png_masks(tmp_path: Path) -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10:30, 20:40] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    loaded = masks.load_mask(tmp_path / "m.png", 600, 500, (100, 120))
    np.testing.assert_array_equal(loaded, np.kron(mask, np.ones((2, 2))) > 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.png", b"no picture", "not a readable picture"),
        ("m.geojson", b"{}", "not GeoJSON polygons .a part of it has no 'type'"),
        ("m.geojson", b'{"features": []}', "holds no Polygon or MultiPolygon; export"),
        (
            "m.geojson",
            b'{"type": "Point", "coordinates": [1, 2]}',
            "holds no Polygon or MultiPolygon, only 1 Point; export",
        ),
        (
            "m.geojson",
            b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[1, 2]]]}}]}',
            "fewer than three points",
        ),
        (
            "m.geojson",
            b'{"features": [{"geometry": {"type": "Polygon",'
            b' "coordinates": [[[9e5, 9e5], [9.1e5, 9e5], [9e5, 9.1e5]]]}}]}',
            "outside the slide",
        ),
    ],
)
def test_bad_masks_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskError, match=rf"{name}: .*{message}"):
        masks.load_mask(tmp_path / name, 600, 500, (100, 120))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("L", (60, 60), 1).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="another shape"):
        masks.load_mask(tmp_path / "m.png", 600, 500, (100, 120))

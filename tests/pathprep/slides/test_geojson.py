"""GeoJSON: its many forms read, what is none of them named, and what is written read back."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.drawings import box, collection, polygon, qupath

from pathprep.slides.geojson import area, parse_geojson, read_geojson, to_geojson
from pathprep.slides.masks import load_mask
from pathprep.slides.readers.base import Bounds


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
        geojson("[[0, 0], [9, 0], [9, 9]], [[20, 20], [29, 20], [29, 29]]"),  # two areas in one Polygon
        geojson('[["1", "2"], ["3", "4"], ["5", "6"]]'),
        geojson('[{"x": 1, "y": 2}]'),
        geojson("[[null, 0], [1, 1], [5, 5]]"),
        geojson("[[[0, 0], [1, 1], [5, 5]]]"),  # nested as a MultiPolygon's
        b'{"type": "MultiPolygon", "coordinates": [[[0, 0], [1, 1], [5, 5]]]}',  # as a Polygon's
        b'{"type": "Polygon", "coordinates": [[0, 0], [1, 1], [5, 5]]}',
        b'{"type": "Circle", "coordinates": [5, 5], "radius": 3}',
        b'{"type": "FeatureCollection", "features": {"0": {}}}',
        b'{"type": "FeatureCollection", "features": [7]}',
        b'{"type": "GeometryCollection", "geometries": "none"}',
        b'{"type": "Feature", "geometry": 5}',
        b'{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": 5}',
        b'{"type": "FeatureCollection", "features": []}{"type": "FeatureCollection", "features": []}',
        b"\x1f\x8bno gzip",
        gzip.compress(b'{"type": "Point", "coordinates": [1, 2]}', mtime=0)[:-20],
    ],
)
def test_damaged_polygons(content: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_geojson(content)


OUTER, HOLE, FAR_OFF = box(0, 0, 40), box(10, 10, 20), box(60, 60, 10)
WITH_HOLE: dict[str, Any] = {"type": "Polygon", "coordinates": [OUTER, HOLE]}
BOTH: dict[str, Any] = {"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [FAR_OFF]]}
POINT: dict[str, Any] = {"type": "Point", "coordinates": [1, 2]}
LINE: dict[str, Any] = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}


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
        ({"type": "FeatureCollection", "features": None}, 0, 0),
        ([], 0, 0),
        (collection(collection(qupath(WITH_HOLE)), [qupath(polygon(FAR_OFF))]), 2, 0),
        (collection(qupath({"type": "GeometryCollection", "geometries": [WITH_HOLE, LINE]}), POINT), 1, 2),
        ({"features": [{"geometry": WITH_HOLE}]}, 1, 0),
        (collection(qupath({**WITH_HOLE, "isEllipse": False, "plane": {"c": -1, "z": 0, "t": 0}})), 1, 0),
        (collection(qupath(WITH_HOLE), crs=None, lastModified="2024-01-01"), 1, 0),
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
        drawn = load_mask(path, 100, 80, (80, 100))
        assert (drawn[5, 5], drawn[20, 20], drawn[65, 65], drawn[50, 50]) == (
            True,
            False,
            polygons == 2,
            False,
        )


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        ({"name": " Tumor ", "color": [1, 2, 3]}, "Tumor"),
        ({"names": ["Tumor", "Positive"]}, "Tumor: Positive"),
        ("Stroma", "Stroma"),
        ('{ "name": "Ignore*", "color": [ 1, 2, 3 ] }', "Ignore*"),  # as geopandas saves it
        ("{odd", "{odd"),
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


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("Ignore*", "ignored"),
        ("Artefact*", "ignored"),
        ("Tumor: Ignore*", "ignored"),
        ("Region*", "region"),
        ("Tumor", "area"),
        ("Positive *not*", "ignored"),
        ("*", "ignored"),
        (None, "area"),
    ],
)
def test_what_classes_are_drawn_for(name: str | None, use: str) -> None:
    drawing = parse_geojson(json.dumps(qupath(WITH_HOLE, name)).encode())
    assert [each.use() for each in drawing.polygons] == [use]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations/>',
            r"ASAP \(XML\); save the areas as GeoJSON",
        ),
        (b'\xef\xbb\xbf<Annotations MicronsPerPixel="0.25">', "ImageScope"),
        ('<?xml version="1.0"?><annotations>'.encode("utf-16"), "NDP.view"),
        (b"<svg xmlns=", "SVG"),
        (b"<html>", "XML or HTML"),
        (b"PK\x03\x04\0\0", "ZIP archive; unpack it"),
        (b"\x93NUMPY\1\0", "NumPy"),
        (b'{"images": [], "annotations": [], "categories": []}', "COCO"),
        (b'{"version": "5", "shapes": [], "imagePath": "a.png"}', "LabelMe"),
        (b'{"type": "Topology", "objects": {}, "arcs": []}', "TopoJSON"),
        (b'{"annotation": {"elements": []}}', "Digital Slide Archive"),
        (b'{"boxes": [1]}', r"has no 'type', only \['boxes'\]"),
    ],
)
def test_other_programs_forms_are_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_geojson(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gzip"])
def test_encodings(encoding: str) -> None:
    text = json.dumps(qupath(WITH_HOLE, "Größe"), ensure_ascii=False)
    data = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    assert parse_geojson(data).polygons[0].label() == "Größe"


DEGREES = polygon([[-71.1, 42.3], [-71.0, 42.3], [-71.0, 42.4]])
CRS84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (collection(qupath(DEGREES)), (40_000, 30_000), "no coordinate is above 71.1, as in degrees"),
        (collection(qupath(DEGREES), crs=CRS84), (300, 200), "is urn:ogc:def:crs:OGC:1.3:CRS84"),
        (collection(qupath(polygon(box(0.1, 0.2, 0.5)))), (4000, 3000), "or shares of a picture"),
        (collection(qupath(DEGREES)), (300, 200), ""),
        (collection(qupath(polygon(box(0, 0, 400))), crs=CRS84), (40_000, 30_000), ""),  # no degrees
    ],
)
def test_coordinates_that_are_no_pixels(content: Any, size: tuple[int, int], message: str) -> None:
    drawing = parse_geojson(json.dumps(content).encode())
    if message:
        with pytest.raises(ValueError, match=message):
            drawing.check_pixels(*size)
    else:
        drawing.check_pixels(*size)


def test_what_is_written_says_its_origin() -> None:
    rings = [[np.array(box(500, 400, 100))]]
    whole, part = (parse_geojson(to_geojson(rings, b)) for b in (None, Bounds(300, 200, 1000, 900)))
    assert whole.stated is not None
    assert (whole.stated.origin, whole.polygons[0].rings[0][0].tolist()) == ("slide", [500, 400])
    assert part.stated is not None
    assert (part.stated.origin, part.stated.corner) == ("bounds", (300, 200))
    assert part.polygons[0].rings[0][0].tolist() == [200, 200]


@pytest.mark.parametrize(
    "member", [5, {}, {"origin": "left"}, {"origin": "bounds"}, {"origin": "bounds", "corner": [1]}]
)
def test_a_statement_that_is_none(member: Any) -> None:
    with pytest.raises(ValueError, match="member 'pathprep' states no origin"):
        parse_geojson(json.dumps(collection(pathprep=member)).encode())

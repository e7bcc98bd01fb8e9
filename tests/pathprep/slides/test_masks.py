"""Masks in their place: origins, what is left out and said, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.drawings import box, collection, polygon, qupath
from PIL import Image

from pathprep.errors import MaskError
from pathprep.slides.geojson import to_geojson
from pathprep.slides.masks import Ground, doubts, load_mask, place_mask
from pathprep.slides.readers.base import Bounds

SIZE, SHAPE = (600, 500), (100, 120)
BOUNDS = Bounds(100, 50, 400, 300)
ON_BOUNDS = Ground(*SIZE, SHAPE, BOUNDS)
TUMOR = polygon(box(0, 0, 300))


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.png", b"no picture", "not a readable picture"),
        ("m.geojson", b"{}", "not GeoJSON polygons .a part of it has no 'type'"),
        ("m.geojson", b'{"features": []}', "holds no Polygon or MultiPolygon; export"),
        ("m.geojson", b'{"features": null}', "holds no Polygon or MultiPolygon; export"),
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
            json.dumps(polygon(box(9e5, 9e5, 1e4))).encode(),
            r"outside the slide \(600x500\)",
        ),
        (
            "m.json",
            json.dumps(collection(qupath(TUMOR, "Ignore*"), qupath(TUMOR, "Region*"))).encode(),
            r"all its areas are .* to be ignored, or regions \(1 Ignore\*, 1 Region\*\)",
        ),
        ("m.geojson", b"<?xml version='1.0'?><Annotations>", "ImageScope"),
        ("m.png", b'{"type": "Polygon", "coordinates": 5}', "not GeoJSON polygons"),  # whatever its name
    ],
)
def test_bad_masks_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskError, match=rf"{name}: .*{message}"):
        load_mask(tmp_path / name, *SIZE, SHAPE)


@pytest.mark.parametrize(
    ("size", "turned"), [((60, 60), ""), ((50, 60), ", but has it when turned by 90 degrees")]
)
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, size: tuple[int, int], turned: str) -> None:
    Image.new("L", size, 1).save(tmp_path / "m.png")
    with pytest.raises(
        MaskError, match=rf"another shape than the slide \(600x500\){turned}; a mask must cover"
    ):
        load_mask(tmp_path / "m.png", *SIZE, SHAPE)


def test_what_is_drawn_to_be_ignored_is_cut_out_and_said(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.geojson",
        collection(
            qupath(polygon(box(100, 100, 100)), "Ignore*"),  # first in the file, yet over the others
            qupath(TUMOR, "Tumor"),
            qupath(polygon(box(0, 0, 600, 500)), "Region*"),
            qupath(polygon(box(500, 400, 300)), "Stroma"),
            qupath({"type": "Point", "coordinates": [1, 2]}),
            qupath({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
        ),
    )
    placed = place_mask(path, Ground(*SIZE, SHAPE))
    assert placed.tissue.sum() * 25 == 300 * 300 - 100 * 100 + 100 * 100
    assert not placed.tissue[20:40, 20:40].any()
    assert placed.notes == (
        "areas drawn to be ignored are no tissue: 1 Ignore*",
        "points and lines have no area and are left out: 1 LineString, 1 Point",
        "1 of 3 polygons reach beyond the slide, by 200 px at most: cut off there",
    )


def test_all_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "m.geojson", collection(qupath(TUMOR, "Tumor"), qupath(TUMOR, "Ignore*")))
    placed = place_mask(path, Ground(*SIZE, SHAPE))
    assert not placed.tissue.any()
    assert placed.notes[-1] == "all of it is drawn to be ignored: no tissue is left"


def corner(mask: np.ndarray) -> tuple[int, int]:
    """Level-0 x, y of a mask's first row and column."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()) * 5, int(rows.min()) * 5


def test_geojson_that_does_not_say_its_origin(tmp_path: Path) -> None:
    path = write(tmp_path / "m.geojson", collection(qupath(polygon(box(20, 30, 100)))))
    with pytest.raises(
        MaskError, match="does not say which origin .* bounds begin at 100,50; give `mask_origin`"
    ):
        place_mask(path, ON_BOUNDS)
    for asked, expected in (("bounds", (120, 80)), ("slide", (20, 30))):
        placed = place_mask(path, Ground(*SIZE, SHAPE, BOUNDS, asked))
        assert (placed.origin, placed.source, corner(placed.tissue)) == (asked, "mask_origin", expected)
    # where both are the same, there is no question
    for bounds in (None, Bounds(0, 0, 400, 300)):
        placed = place_mask(path, Ground(*SIZE, SHAPE, bounds))
        assert (placed.origin, placed.source) == ("slide", "the slide has one origin")


def test_what_this_project_writes_is_taken_back_in_its_place(tmp_path: Path) -> None:
    rings = [[np.array(box(120, 80, 100))]]
    path = tmp_path / "m.geojson"
    for bounds, origin in ((BOUNDS, "bounds"), (None, "slide")):
        path.write_bytes(to_geojson(rings, bounds))
        placed = place_mask(path, Ground(*SIZE, SHAPE, BOUNDS, "slide"))
        assert (placed.origin, placed.source, corner(placed.tissue)) == (
            origin,
            "stated in the file",
            (120, 80),
        )
    path.write_bytes(to_geojson(rings, BOUNDS))
    for bounds in (None, Bounds(90, 50, 400, 300)):
        with pytest.raises(
            MaskError, match="counts from bounds at 100,50, but this slide's are at .* of another"
        ):
            place_mask(path, Ground(*SIZE, SHAPE, bounds))


@pytest.mark.parametrize(
    ("size", "asked", "origin", "source"),
    [
        ((120, 100), "auto", "slide", "its shape"),
        ((200, 150), "auto", "bounds", "its shape"),
        ((200, 150), "bounds", "bounds", "mask_origin"),
        ((120, 100), "slide", "slide", "mask_origin"),
    ],
)
def test_a_pictures_shape_tells_what_it_covers(
    tmp_path: Path, size: tuple[int, int], asked: Any, origin: str, source: str
) -> None:
    Image.new("L", size, 1).save(tmp_path / "m.png")
    placed = place_mask(tmp_path / "m.png", Ground(*SIZE, SHAPE, BOUNDS, asked))
    assert (placed.origin, placed.source) == (origin, source)
    expected = np.zeros(SHAPE, bool)
    expected[(slice(10, 70), slice(20, 100)) if origin == "bounds" else slice(None)] = True
    np.testing.assert_array_equal(placed.tissue, expected)


@pytest.mark.parametrize(
    ("size", "asked", "message"),
    [
        ((60, 60), "auto", r"another shape than the slide \(600x500\) or the bounds \(400x300\)"),
        ((200, 150), "slide", "whole slide or its bounds, and `mask_origin` slide says which"),
    ],
)
def test_a_picture_that_covers_neither(
    tmp_path: Path, size: tuple[int, int], asked: Any, message: str
) -> None:
    Image.new("L", size, 1).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match=message):
        place_mask(tmp_path / "m.png", Ground(*SIZE, SHAPE, BOUNDS, asked))


def test_a_picture_whose_shape_does_not_tell(tmp_path: Path) -> None:
    bounds = Bounds(60, 50, 480, 400)  # of the slide's shape
    for size, origin in (((240, 200), None), (SIZE, "slide"), ((480, 400), "bounds")):
        Image.new("L", size, 1).save(tmp_path / "m.png")
        if origin:  # of the very size of one of them
            assert place_mask(tmp_path / "m.png", Ground(*SIZE, SHAPE, bounds)).origin == origin
            continue
        with pytest.raises(MaskError, match=r"shape of the slide \(600x500\) and of its bounds \(480x400\)"):
            place_mask(tmp_path / "m.png", Ground(*SIZE, SHAPE, bounds))
        assert place_mask(tmp_path / "m.png", Ground(*SIZE, SHAPE, bounds, "bounds")).origin == "bounds"


def test_doubts_about_a_mask() -> None:
    found = np.zeros(SHAPE, bool)
    found[20:60, 30:80] = True
    assert doubts(found, found) == ""
    assert doubts(np.roll(found, 10, 0), found) == ""
    assert "0% looks like tissue, of the rest 100%: is it the wrong way round" in doubts(~found, found)
    assert "is it the wrong way round, or of another slide or origin" in doubts(np.roll(found, 60, 1), found)
    for nothing in (np.zeros(SHAPE, bool), np.ones(SHAPE, bool)):
        assert doubts(nothing, found) == doubts(found, nothing) == ""

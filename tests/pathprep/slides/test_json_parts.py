"""GeoJSON a part at a time: as json reads it, bounded, and refused in words where it is none."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.drawings import box, collection, polygon, qupath

from pathprep.errors import MaskError
from pathprep.slides import json_parts
from pathprep.slides.geojson import parse_geojson
from pathprep.slides.masks import load_mask

VALUES: list[Any] = [
    {},
    [],
    5,
    "text",
    None,
    {"features": []},
    {"a": {"features": [1]}, "features": [1, [2], {"b": "]}"}], "c": [3]},
    {"features": {"a": 1}},
    {"type": "FeatureCollection", "features": [{"x": 'é\u2028"\\'}]},
    [1, {"features": [2]}, "[,]"],
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_parts_are_those_of_json(value: Any, indent: int | None) -> None:
    taken: list[Any] = []
    text = f" \n{json.dumps(value, indent=indent, ensure_ascii=False)}\t"
    rest = json_parts.parse(text, "features", taken.append)
    if isinstance(value, list):
        assert (rest, taken) == ([], value)
    elif isinstance(value, dict) and isinstance(value.get("features"), list):
        assert (rest, taken) == (value | {"features": []}, value["features"])
    else:
        assert (rest, taken) == (value, [])


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[", "[1", "[1,", "[1,]", "[1 2]", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}',
     '{"features":[1', '{"features":[1,]}', '{"features":[1]', '{"features":[1]]', "{} {}", "[] x", "nul",
     '{"features" [1]}', "{1: 2}", ",", "'a'", "{a:1}"],
)  # fmt: skip
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        json.loads(text)
    with pytest.raises(ValueError, match="."):
        json_parts.parse(text, "features", lambda _: None)


AREA = json.dumps(polygon(box(10, 10, 50)))
FEATURE = json.dumps(qupath(polygon(box(10, 10, 50)), "Tumor"))
BAD = json.dumps(qupath(polygon([["1", "2"], ["3", "4"], ["5", "6"]])))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f'{{"type": "FeatureCollection", "features": [{FEATURE}], "features": []}}', "'features' twice"),
        (f'{{"type": "Feature", "geometry": {AREA}, "geometry": null}}', "'geometry' twice"),
        ('{"type": "Polygon", "coordinates": [], "coordinates": [[1]]}', "'coordinates' twice"),
        (
            f'{{"type": "FeatureCollection", "features": [{FEATURE}, {BAD}]}}',
            "its part 2: a point of a Polygon",
        ),
        ("[" * 100_000, "nested too deeply"),
        ('{"type": "FeatureCollection", "features": ' + '{"features": [' * 50_000, "nested too deeply"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 2], [3, 1]]]}', "not x, y in pixels"),
        ('{"type": "Polygon", "coordinates": [[[-1e308, 1], [2, 2], [3, 1]]]}', "not x, y in pixels"),
    ],
)
def test_what_is_no_drawing_is_said_in_a_line(tmp_path: Path, data: str, message: str) -> None:
    path = tmp_path / "drawn.geojson"
    path.write_text(data)
    with pytest.raises(MaskError, match=message) as caught:
        load_mask(path, 1000, 1000, (20, 20))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_latin_1_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    path.write_bytes(
        json.dumps(qupath(polygon(box(10, 10, 50)), "Größe"), ensure_ascii=False).encode("latin-1")
    )
    with pytest.raises(MaskError, match="is no UTF-8; save it as UTF-8"):
        load_mask(path, 1000, 1000, (20, 20))


def test_other_members_may_stand_twice() -> None:
    """Measurements of one name, of several channels, are exported so."""
    text = FEATURE.replace('"isLocked": true', '"isLocked": true, "isLocked": true')
    assert len(parse_geojson(text.encode()).polygons) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_too_large_is_said_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(json_parts, "LARGEST", 1 << 20)
    path = tmp_path / "drawn.geojson"
    if packed:
        path.write_bytes(gzip.compress(b" " * (2 << 20)))
    else:
        with path.open("wb") as file:
            file.write(b"{")
            file.truncate(2 << 20)
    with pytest.raises(
        MaskError, match="more than 1 MB, unpacked; save what is needed of it, without measurem"
    ):
        load_mask(path, 1000, 1000, (20, 20))


@pytest.mark.parametrize("ending", ["geojson", "png"])
def test_a_pipe_is_no_mask(tmp_path: Path, ending: str) -> None:
    """Opening it would wait for ever for one who writes."""
    path = tmp_path / f"drawn.{ending}"
    os.mkfifo(path)
    with pytest.raises(MaskError, match="not a file"):
        load_mask(path, 1000, 1000, (20, 20))


def test_a_loop_of_links_is_no_mask(tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    path.symlink_to(path)
    with pytest.raises(MaskError, match=r"drawn\.geojson: .*a link that leads back to itself: remove it"):
        load_mask(path, 1000, 1000, (20, 20))


def test_measurements_are_not_kept() -> None:
    feature = qupath(polygon(box(10, 10, 50)), "Tumor")
    feature["properties"]["measurements"] = {"Nucleus: Area µm^2": 31.5}
    [found] = parse_geojson(json.dumps(collection(feature)).encode()).polygons
    assert found.label() == "Tumor"
    assert list(found.properties) == ["classification"]

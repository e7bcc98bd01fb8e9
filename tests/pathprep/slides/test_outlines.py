"""Areas and outlines: to polygons and back, and polygons filled as a point-by-point test says."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers.drawings import box

from pathprep.slides import filled
from pathprep.slides.filled import fill
from pathprep.slides.geojson import to_geojson
from pathprep.slides.masks import load_mask
from pathprep.slides.outlines import contours


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
    back = load_mask(path, width, height, mask.shape)
    assert (back & mask).sum() / (back | mask).sum() > 0.95


def rings(*parts: list[list[float]]) -> list[npt.NDArray[np.float64]]:
    return [np.array(part, np.float64) for part in parts]


BOW = [[0, 0], [10, 10], [10, 0], [0, 10]]


@pytest.mark.parametrize(
    ("drawn", "area"),
    [
        (rings(box(2, 3, 6)), 36),
        (rings(box(2, 3, 6), box(3, 4, 2)), 32),
        (
            rings(box(2, 3, 6), box(5, 5, 10)),
            36 - 9 - 3,
        ),  # a hole that reaches out takes no more than it covers
        (rings(box(-5, -5, 100)), 15 * 20),
        (rings(box(30, 0, 5)), 0),
        (rings(BOW), 50),
        (rings(box(4.6, 4.6, 0.2)), 1),  # smaller than a pixel: the one that it lies in
        (rings([[1, 1], [9, 1], [1, 1]]), 0),  # no area
        (rings([[0, 0], [5, 0], [5, 5], [10, 5], [10, 10], [5, 10], [5, 5], [0, 5]]), 50),  # touches itself
    ],
)
@pytest.mark.parametrize("crossings", [1 << 20, 3])
def test_filled(
    monkeypatch: pytest.MonkeyPatch, drawn: list[npt.NDArray[np.float64]], area: int, crossings: int
) -> None:
    monkeypatch.setattr(filled, "CROSSINGS", crossings)
    mask = np.zeros((15, 20), bool)
    fill(mask, drawn)
    assert abs(int(mask.sum()) - area) <= (6 if drawn[0].tolist() == BOW else 0)

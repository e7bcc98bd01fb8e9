"""Thousands of drawn GeoJSON files, whole and damaged: the right area, or an error that names the file.

The area is compared with a test of each pixel's centre against each ring, edge by edge, in float64.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pathprep.errors import MaskError
from pathprep.slides.masks import load_mask

WIDTH, HEIGHT = 700, 350  # of the slide: too small for degrees to be suspected
SHAPE = (14, 28)
EACH = 160  # files a seed

Rings = list[list[list[float]]]


def inside(ring: list[list[float]]) -> npt.NDArray[np.bool_]:
    """Pixels of SHAPE whose centre an odd number of edges lies to the left of."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    odd = np.zeros(SHAPE, bool)
    points = [(px * SHAPE[1] / WIDTH, py * SHAPE[0] / HEIGHT) for px, py, *_ in ring]
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        if ay != by:
            odd ^= ((ay <= y) != (by <= y)) & (ax + (y - ay) * (bx - ax) / (by - ay) <= x)
    return odd


def expected(polygons: list[tuple[Rings, str]]) -> npt.NDArray[np.bool_] | None:
    """The tissue of polygons with their classes; None if there is no area, or none on the slide."""
    tissue, ignored = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    areas = 0
    for rings, name in polygons:
        if name == "Region*":
            continue
        areas += name != "Ignore*"
        drawn = inside(rings[0])
        if not drawn.any():
            (left, top), (right, bottom) = np.min(rings[0], 0)[:2], np.max(rings[0], 0)[:2]
            x, y = (left + right) / 2 / WIDTH * SHAPE[1], (top + bottom) / 2 / HEIGHT * SHAPE[0]
            reaches = left < WIDTH and top < HEIGHT and right > 0 and bottom > 0
            if reaches and 0 <= x < SHAPE[1] and 0 <= y < SHAPE[0]:
                drawn[int(y), int(x)] = True
        else:
            for hole in rings[1:]:
                drawn &= ~inside(hole)
        target = ignored if name == "Ignore*" else tissue
        target |= drawn
    return tissue & ~ignored if areas and tissue.any() else None


class Draw:
    """Files of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def ring(self, centre: Any, radius: float) -> list[list[float]]:
        """A star, a crossing scribble, or a box; closed or not, sometimes with a third coordinate."""
        count = int(self.rng.integers(3, 10))
        angles = self.rng.uniform(0, 2 * np.pi, count)
        if self.rng.random() < 0.7:
            angles.sort()
        spread = radius * self.rng.uniform(0.2, 1, count)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * spread[:, None]
        ring = [[round(float(v), int(self.rng.integers(1, 12))) for v in point] for point in points]
        if self.rng.random() < 0.5:
            ring.append(list(ring[0]))
        if self.rng.random() < 0.1:
            ring = [[*point, 0.0] for point in ring]
        return ring

    def polygon(self) -> tuple[Rings, str]:
        centre = self.rng.uniform((-100, -100), (WIDTH + 100, HEIGHT + 100))
        radius = float(self.one_of(3, 20, 100, 250))
        rings = [self.ring(centre, radius)]
        for _ in range(int(self.rng.integers(0, 3))):
            hole = self.ring(np.array(self.one_of(*rings[0])[:2]), radius / 2)  # around a corner
            apart = (
                np.max(hole, 0)[:2] < np.min(rings[0], 0)[:2],
                np.min(hole, 0)[:2] > np.max(rings[0], 0)[:2],
            )
            if not np.any(apart):  # which is refused
                rings.append(hole)
        return rings, str(self.one_of("", "", "Tumor", "Stroma", "Ignore*", "Region*"))

    def features(self, polygons: list[tuple[Rings, str]]) -> list[Any]:
        """Features of one polygon or of several of a class, some in collections."""
        features: list[Any] = []
        left = list(polygons)
        while left:
            name = left[0][1]
            group = [each for each in left if each[1] == name][: int(self.rng.integers(1, 3))]
            left = [each for each in left if not any(each is other for other in group)]
            single = [{"type": "Polygon", "coordinates": rings} for rings, _ in group]
            geometry: Any = {"type": "MultiPolygon", "coordinates": [rings for rings, _ in group]}
            if len(group) == 1:
                geometry = self.one_of(geometry, single[0])
            if self.rng.random() < 0.3:
                point = {"type": "Point", "coordinates": [1, 2]}
                geometry = {"type": "GeometryCollection", "geometries": [*single, point]}
            properties: Any = self.one_of({}, {"objectType": "annotation"})
            if name:
                properties = {
                    **properties,
                    "classification": self.one_of({"name": name}, name, {"names": [name]}),
                }
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
        if self.rng.random() < 0.2:
            features.insert(0, {"type": "Feature", "geometry": None, "properties": None})
        return features

    def wrapped(self, features: list[Any]) -> Any:
        whole: Any = {"type": "FeatureCollection", "features": features}
        if self.rng.random() < 0.2:
            whole = {"type": "FeatureCollection", "features": [whole, []]}
        if len(features) == 1 and self.rng.random() < 0.5:
            return features[0]
        return self.one_of(whole, whole, features, {"features": features})


def parts(item: Any, kind: str) -> list[Any]:
    """All objects of a type under an item."""
    if isinstance(item, list):
        return [found for part in item for found in parts(part, kind)]
    if not isinstance(item, dict):
        return []
    own = [item] if item.get("type") == kind else []
    return own + [found for value in item.values() for found in parts(value, kind)]


def points(item: Any) -> list[Any]:
    """Rings of all polygons under an item."""
    rings = [ring for part in parts(item, "Polygon") for ring in part["coordinates"]]
    return rings + [r for part in parts(item, "MultiPolygon") for rings in part["coordinates"] for r in rings]


def spoil_point(draw: Draw, whole: Any) -> None:
    ring = draw.one_of(*points(whole))
    value = draw.one_of("7", None, {}, [1], 1e300, float("nan"), float("inf"), 10**400)
    ring[int(draw.rng.integers(len(ring)))][int(draw.rng.integers(2))] = value


def shorten_point(draw: Draw, whole: Any) -> None:
    ring = draw.one_of(*points(whole))
    ring[int(draw.rng.integers(len(ring)))] = draw.one_of([], [5], 5, None, "5,5", {"x": 1, "y": 2})


def shorten_ring(draw: Draw, whole: Any) -> None:
    del draw.one_of(*points(whole))[int(draw.rng.integers(3)) :]


def nest(draw: Draw, whole: Any) -> None:
    part = draw.one_of(*parts(whole, "Polygon"), *parts(whole, "MultiPolygon"))
    part["coordinates"] = [part["coordinates"]] if draw.rng.random() < 0.5 else part["coordinates"][0]


def misname(draw: Draw, whole: Any) -> None:
    part = draw.one_of(*parts(whole, "Polygon"), *parts(whole, "MultiPolygon"))
    part["type"] = draw.one_of("polygon", "Circle", 5, ["Polygon"], "Topology", "")


def swap_type(draw: Draw, whole: Any) -> None:
    part = draw.one_of(*parts(whole, "Polygon"), *parts(whole, "MultiPolygon"))
    part["type"] = "MultiPolygon" if part["type"] == "Polygon" else "Polygon"


def lose(draw: Draw, whole: Any) -> None:
    part = draw.one_of(*parts(whole, "Polygon"), *parts(whole, "MultiPolygon"))
    del part[draw.one_of("coordinates", "type")]


def lose_geometry(draw: Draw, whole: Any) -> None:
    part = draw.one_of(*parts(whole, "Feature"))
    if draw.rng.random() < 0.5:
        del part["geometry"]
    else:
        part["geometry"] = draw.one_of(5, "Polygon", {}, {"coordinates": []})


SPOIL: list[Callable[[Draw, Any], None]] = [
    spoil_point,
    shorten_point,
    shorten_ring,
    nest,
    misname,
    swap_type,
    lose,
    lose_geometry,
]


@pytest.mark.parametrize("seed", range(8))
def test_whole_files(tmp_path: Path, seed: int) -> None:
    draw, path = Draw(seed), tmp_path / "drawn.geojson"
    found = 0
    for number in range(EACH):
        polygons = [draw.polygon() for _ in range(int(draw.rng.integers(1, 5)))]
        path.write_text(json.dumps(draw.wrapped(draw.features(polygons))))
        tissue = expected(polygons)
        if tissue is None:
            with pytest.raises(MaskError, match="drawn.geojson: "):
                load_mask(path, WIDTH, HEIGHT, SHAPE)
            continue
        found += 1
        np.testing.assert_array_equal(load_mask(path, WIDTH, HEIGHT, SHAPE), tissue, err_msg=f"file {number}")
    assert found > EACH / 2


@pytest.mark.parametrize("spoil", SPOIL, ids=lambda each: each.__name__)
def test_damaged_files(tmp_path: Path, spoil: Callable[[Draw, Any], None]) -> None:
    draw, path = Draw(99), tmp_path / "drawn.geojson"
    for number in range(EACH):
        polygons = [draw.polygon() for _ in range(int(draw.rng.integers(1, 5)))]
        whole = draw.wrapped(copy.deepcopy(draw.features(polygons)))
        spoil(draw, whole)
        path.write_text(json.dumps(whole))
        with pytest.raises(MaskError, match="drawn.geojson: not GeoJSON polygons"):
            pytest.fail(f"file {number} was taken: {load_mask(path, WIDTH, HEIGHT, SHAPE).sum()}")


def test_files_cut_short(tmp_path: Path) -> None:
    draw, path = Draw(7), tmp_path / "drawn.geojson"
    for _ in range(EACH):
        data = json.dumps(draw.wrapped(draw.features([draw.polygon()]))).encode()
        path.write_bytes(data[: int(draw.rng.integers(len(data)))])
        with pytest.raises(MaskError, match="drawn.geojson: not GeoJSON polygons"):
            load_mask(path, WIDTH, HEIGHT, SHAPE)

"""Scores as GeoJSON that QuPath (0.4 and later) opens: a tile object a row, or areas of one class.

Each feature has the tile as its geometry, ``objectType`` "tile", every number among ``measurements`` (an
object, as QuPath has it since 0.4), the class as ``classification``, and the colour of the first score as its
own. QuPath shows slides cropped to their bounds, so coordinates count from there (its reports 820 and 1278).
JSON has no NaN: what a tile has no value for is left out. https://github.com/qupath/qupath/pull/1099
"""

import json
from typing import Any

import numpy as np

from pathprep.scores.colours import Map, class_colours, tile_colours
from pathprep.scores.columns import Classes
from pathprep.scores.merge import merged
from pathprep.scores.placed import Placed
from pathprep.slides.geojson import MEMBER
from pathprep.slides.readers.base import Bounds
from pathprep.storage.printable import printable


def tiles(
    scores: Placed, names: list[str], bounds: Bounds | None, colours: Map, ends: tuple[float, float]
) -> tuple[bytes, int]:
    """A tile object a row, and how many there are.

    Args:
        names: columns; the first gives the colour, the first of classes the classification.
        bounds: of the slide.
        colours, ends: the map of the first column, and what its ends mean.
    """
    rows = scores.rows
    first = rows.columns[names[0]]
    own = tile_colours(first, colours, *ends).tolist()
    numbers = {
        printable(name): column.tolist()
        for name in names
        if not isinstance(column := rows.columns[name], Classes)
    }
    classes = _classes(scores, names)
    right = np.minimum(rows.x + rows.side, scores.width).tolist()
    bottom = np.minimum(rows.y + rows.side, scores.height).tolist()
    left, top = _corner(bounds)
    features = []
    for row, (x, y, x1, y1) in enumerate(zip(rows.x.tolist(), rows.y.tolist(), right, bottom, strict=True)):
        measurements = {name: values[row] for name, values in numbers.items() if values[row] == values[row]}
        properties: dict[str, Any] = {"objectType": "tile"}
        if classes is not None and classes.codes[row] >= 0:
            properties["classification"] = _classification(classes, int(classes.codes[row]))
        if isinstance(first, Classes) or first[row] == first[row]:
            properties["color"] = own[row]
        if measurements:
            properties["measurements"] = measurements
        box = x - left, y - top, x1 - left, y1 - top
        features.append(_feature([_box(*box)], properties))
    return _collection(features, bounds), len(features)


def areas(scores: Placed, name: str, bounds: Bounds | None) -> tuple[bytes, int]:
    """An annotation for each connected area of tiles of one class, and how many there are.

    Raises:
        UsageError: tiles overlap, or do not lie in one grid.
    """
    classes = scores.rows.columns[name]
    assert isinstance(classes, Classes)
    corner = np.asarray(_corner(bounds))
    features = []
    for code, polygon in merged(scores, classes):
        rings = [(ring - corner).tolist() for ring in polygon]
        made = {"objectType": "annotation", "classification": _classification(classes, code)}
        features.append(_feature(rings, made))
    return _collection(features, bounds), len(features)


def _classes(scores: Placed, names: list[str]) -> Classes | None:
    found = (scores.rows.columns[name] for name in names)
    return next((each for each in found if isinstance(each, Classes)), None)


def _classification(classes: Classes, code: int) -> dict[str, Any]:
    colour = class_colours(len(classes.names))[code].tolist()
    return {"name": printable(classes.names[code]), "color": colour}


def _corner(bounds: Bounds | None) -> tuple[int, int]:
    return (0, 0) if bounds is None else (bounds.x, bounds.y)


def _box(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    """A closed ring: JTS, which QuPath reads with, takes no other."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def _feature(rings: list[Any], properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _collection(features: list[dict[str, Any]], bounds: Bounds | None) -> bytes:
    origin: dict[str, Any] = {"origin": "slide"}
    if bounds is not None:
        origin = {"origin": "bounds", "corner": [bounds.x, bounds.y]}
    made = {"type": "FeatureCollection", MEMBER: origin, "features": features}
    return (json.dumps(made, allow_nan=False, separators=(",", ":")) + "\n").encode()

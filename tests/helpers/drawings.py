"""GeoJSON as programs write it, for tests of masks and labels."""

from typing import Any


def box(x: float, y: float, side: float, down: float | None = None) -> list[list[float]]:
    """A closed ring: a square, or ``side`` across and ``down`` down."""
    bottom = y + (side if down is None else down)
    return [[x, y], [x + side, y], [x + side, bottom], [x, bottom], [x, y]]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    """A Polygon: outline, holes."""
    return {"type": "Polygon", "coordinates": list(rings)}


def qupath(geometry: Any, name: str | None = None) -> dict[str, Any]:
    """A feature as QuPath 0.5 exports an annotation that is locked."""
    classified = {"classification": {"name": name, "color": [200, 0, 0]}} if name else {}
    properties = {"objectType": "annotation", "isLocked": True, **classified}
    return {"type": "Feature", "id": "6d1c", "geometry": geometry, "properties": properties}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    """A FeatureCollection."""
    return {"type": "FeatureCollection", **members, "features": list(features)}

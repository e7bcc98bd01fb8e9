"""GeoJSON of drawn areas: its many forms read into polygons, and written as QuPath opens it.

Read are FeatureCollections, also in each other, lists of features, single features, GeometryCollections and
bare geometries, perhaps gzipped. What is no such thing is refused: nothing is left out without a count.
Coordinates are level-0 pixels. They count from the slide's corner, or from that of its bounds; a file that
this project wrote says which, in the member ``pathprep`` of the collection, which other programs skip.
"""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pathprep.params.origin import Origin
from pathprep.slides import foreign_forms
from pathprep.slides.readers.base import Bounds

Ring = npt.NDArray[np.float64]

FAR = 1e9  # no coordinate of a slide is beyond (nor is NaN below)
UNPACKED = 1 << 30  # bytes: larger than any drawing, smaller than memory
# Degrees of longitude and latitude: no coordinates of a slide of which they would be but a corner
DEGREES, CORNER = np.array([180.0, 90.0]), 4
AREAS = ("Polygon", "MultiPolygon")
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
MEMBER = "pathprep"
# QuPath's class for a part to work on: it is drawn around areas, and is neither one nor to be cut out of them
REGION = "Region*"

# area: what was drawn as such. ignored: drawn to be left out. region: see REGION
Use = Literal["area", "ignored", "region"]


@dataclass(frozen=True)
class Polygon:
    """A polygon of a GeoJSON file.

    Attributes:
        rings: (n, 2) of x, y in level-0 pixels each; first the outline, then holes.
        properties: of its feature, as they are in the file.
    """

    rings: list[Ring]
    properties: dict[str, Any]

    def label(self) -> str:
        """Name of the class that QuPath gave it; empty without one.

        Raises:
            ValueError: a classification of another form.
        """
        classification = self.properties.get("classification")
        if classification is None:
            return ""
        if isinstance(classification, str):
            try:  # GDAL and geopandas write what is nested as text
                nested = json.loads(classification) if classification.lstrip().startswith("{") else None
            except ValueError:
                nested = None
            if nested is None:
                return classification.strip()
            classification = nested
        names = classification.get("names") if isinstance(classification, dict) else None  # in newer versions
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return ": ".join(names)
        if isinstance(classification, dict) and isinstance(classification.get("name"), str):
            return str(classification["name"]).strip()
        raise ValueError(f"a classification without a name, {classification!r}")

    def use(self) -> Use:
        """What it was drawn for. In QuPath, classes whose name ends in ``*`` are to be ignored."""
        try:
            parts = [part.strip() for part in self.label().split(":")]
        except ValueError:
            return "area"  # without a name it says nothing
        if not any(part.endswith("*") for part in parts):
            return "area"
        return "region" if REGION in parts else "ignored"

    @property
    def size(self) -> float:
        """Area without the holes, square pixels."""
        return area(self.rings[0]) - sum(map(area, self.rings[1:]))


@dataclass(frozen=True)
class Stated:
    """The origin that a file states; ``corner``: of the bounds, level-0 pixels, where that is it."""

    origin: Origin
    corner: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Drawing:
    """What a GeoJSON file holds.

    Attributes:
        polygons: in the file's order.
        others: geometries that are no areas, by type; ``null`` counts features without a geometry.
        stated: the origin of its coordinates; None if it does not say.
        crs: the coordinate system of the earth that it names; "" if none.
    """

    polygons: list[Polygon]
    others: Counter[str] = field(default_factory=Counter)
    stated: Stated | None = None
    crs: str = ""

    def left_out(self) -> str:
        """What is no area, in words: 2 Point, 1 LineString; "" if there is nothing."""
        return ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.others.items()) if kind != "null")

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse coordinates that are degrees, or shares of the picture.

        Args:
            width, height: of the slide, level-0 pixels.

        Raises:
            ValueError: they are.
        """
        if not self.polygons:
            return
        points = np.abs(np.concatenate([ring for polygon in self.polygons for ring in polygon.rings]))
        low = bool((points <= DEGREES).all())
        if low and (self.crs or (np.array([width, height]) > DEGREES * CORNER).all()):
            named = f" (its coordinate system is {self.crs})" if self.crs else ""
            raise ValueError(
                f"no coordinate is above {points.max():g}{named}, as in degrees or shares of a picture; "
                f"the slide has {width}x{height} level-0 pixels, which coordinates must be in"
            )


def read_geojson(path: Path) -> Drawing:
    """Read a file of GeoJSON, as ``parse_geojson`` does.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_geojson(path.read_bytes())


def parse_geojson(data: bytes) -> Drawing:
    """Take GeoJSON in any of its forms; see the module.

    Raises:
        ValueError: it is not GeoJSON, or a point is not x, y in pixels; the text does not name the file.
    """
    data = _unpacked(data)
    other = foreign_forms.recognised(data)
    if other:
        raise ValueError(other)
    try:
        content = json.loads(data)
        if isinstance(content, dict) and not content.keys() & {
            "features",
            "geometry",
            "geometries",
            "coordinates",
        }:
            other = foreign_forms.recognised_json(content)
            if other:
                raise ValueError(other)
        reader = _Reader()
        reader.take(content, {})
        stated, crs = _stated(content), _crs(content)
    except (TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return Drawing(reader.polygons, reader.others, stated, crs)


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            content = file.read(UNPACKED + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"damaged gzip: {error}") from None
    if len(content) > UNPACKED:
        raise ValueError(f"more than {UNPACKED:,} bytes when unpacked")
    return content


class _Reader:
    """Collects the polygons under a GeoJSON object."""

    def __init__(self) -> None:
        self.polygons: list[Polygon] = []
        self.others: Counter[str] = Counter()

    def take(self, item: Any, properties: dict[str, Any]) -> None:
        if isinstance(item, list):
            for part in item:
                self.take(part, properties)
            return
        if not isinstance(item, dict):
            raise ValueError(f"{_short(item)} where a feature or a geometry should be")
        kind = item.get("type")
        if kind == "FeatureCollection" or (kind is None and "features" in item):
            self._parts(item, "features", properties)
        elif kind == "Feature" or (kind is None and "geometry" in item):
            if "geometry" not in item:
                raise ValueError("a Feature has no 'geometry'")
            own = item.get("properties") or {}
            if not isinstance(own, dict):
                raise ValueError(f"properties of a Feature are {_short(own)}")
            if item["geometry"] is None:
                self.others["null"] += 1
            else:
                self.take(item["geometry"], own)
        elif kind == "GeometryCollection" or (kind is None and "geometries" in item):
            self._parts(item, "geometries", properties)
        elif kind in AREAS:
            self._polygons(item, str(kind), properties)
        elif kind in NO_AREAS:
            self.others[str(kind)] += 1
        elif kind is None:
            raise ValueError(f"a part of it has no 'type', only {_short(sorted(map(str, item)))}")
        else:
            raise ValueError(f"{_short(kind)} is no type of GeoJSON")

    def _parts(self, item: dict[str, Any], name: str, properties: dict[str, Any]) -> None:
        parts = item.get(name)
        if parts is not None and not isinstance(parts, list):
            raise ValueError(f"{name} are {_short(parts)}, no list")
        self.take(parts or [], properties)

    def _polygons(self, item: dict[str, Any], kind: str, properties: dict[str, Any]) -> None:
        if "coordinates" not in item:
            raise ValueError(f"a {kind} has no 'coordinates'")
        coordinates = item["coordinates"]
        for rings in [coordinates] if kind == "Polygon" else coordinates:
            if rings:
                outline, *holes = (_ring(ring, kind) for ring in rings)
                if any(_apart(hole, outline) for hole in holes):
                    raise ValueError("a hole outside its outline; several areas are a MultiPolygon")
                self.polygons.append(Polygon([outline, *holes], properties))


def _ring(points: Any, kind: str) -> Ring:
    if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
        raise ValueError(f"a {kind} whose coordinates are not nested as a {kind}'s are")
    try:
        ring = np.array([point[:2] for point in points])  # a point may carry a third coordinate
    except ValueError:
        ring = np.array([])
    if ring.ndim != 2 or ring.shape[1] != 2 or ring.dtype.kind not in "iuf":
        raise ValueError(f"a point of a {kind} that is not x, y in pixels")
    if not (np.abs(ring := ring.astype(np.float64)) < FAR).all():
        raise ValueError(f"a point of a {kind} that is not x, y in pixels")
    if len(ring) < 3:
        raise ValueError("a ring of fewer than three points")
    return ring


def _apart(ring: Ring, other: Ring) -> bool:
    """Whether the boxes of two rings have nothing in common."""
    return bool((ring.max(axis=0) < other.min(axis=0)).any() or (ring.min(axis=0) > other.max(axis=0)).any())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _stated(content: Any) -> Stated | None:
    member = content.get(MEMBER) if isinstance(content, dict) else None
    if member is None:
        return None
    if isinstance(member, dict) and member.get("origin") == "slide":
        return Stated("slide")
    if isinstance(member, dict) and member.get("origin") == "bounds":
        corner = member.get("corner")
        if isinstance(corner, list) and len(corner) == 2 and all(type(v) in (int, float) for v in corner):
            return Stated("bounds", (float(corner[0]), float(corner[1])))
    raise ValueError(f"the member {MEMBER!r} states no origin: {_short(member)}; take it out")


def _crs(content: Any) -> str:
    crs = content.get("crs") if isinstance(content, dict) else None
    if crs is None:
        return ""
    named = crs.get("properties") if isinstance(crs, dict) else None
    return str(named["name"]) if isinstance(named, dict) and "name" in named else _short(crs)


def to_geojson(polygons: Sequence[Sequence[Ring]], bounds: Bounds | None) -> bytes:
    """A FeatureCollection that QuPath opens in its place: one annotation of class Tissue per piece.

    Args:
        polygons: [outline, hole, ...] each; rings (n, 2) of x, y in level-0 pixels of the whole slide.
        bounds: of the slide. QuPath shows no more than them, so coordinates are written from their corner.
    """
    corner = (0, 0) if bounds is None else (bounds.x, bounds.y)
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [np.round(ring - corner, 1).tolist() for ring in polygon],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tissue", "color": [60, 180, 75]},
            },
        }
        for polygon in polygons
    ]
    origin: dict[str, Any] = {"origin": "slide"}
    if bounds is not None:
        origin = {"origin": "bounds", "corner": list(corner)}
    return (json.dumps({"type": "FeatureCollection", MEMBER: origin, "features": features}) + "\n").encode()


def area(ring: Ring) -> float:
    """Area inside a ring (n, 2), closed or not, by the shoelace formula."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2

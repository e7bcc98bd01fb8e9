"""GeoJSON of drawn areas: its many forms read into polygons, and written as QuPath opens it.

Read are FeatureCollections, also in each other, lists of features, single features, GeometryCollections and
bare geometries, perhaps gzipped. What is no such thing is refused: nothing is left out without a count.
Coordinates are level-0 pixels. They count from the slide's corner, or from that of its bounds; a file that
this project wrote says which, in the member ``pathprep`` of the collection, which other programs skip.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pathprep.params.origin import Origin
from pathprep.slides import foreign_forms, json_parts
from pathprep.slides.readers.base import Bounds

Ring = npt.NDArray[np.float64]

FAR = 1e9  # no coordinate of a slide is beyond (nor is NaN below)
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
        properties: of its feature, as they are in the file; its classification alone.
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
        furthest = np.zeros(2)
        for polygon in self.polygons:
            for ring in polygon.rings:
                np.maximum(furthest, np.abs(ring).max(axis=0), out=furthest)
        low = bool((furthest <= DEGREES).all())
        if low and (self.crs or (np.array([width, height]) > DEGREES * CORNER).all()):
            named = f" (its coordinate system is {self.crs})" if self.crs else ""
            raise ValueError(
                f"no coordinate is above {furthest.max():g}{named}, as in degrees or shares of a picture; "
                f"the slide has {width}x{height} level-0 pixels, which coordinates must be in"
            )


def read_geojson(path: Path) -> Drawing:
    """Read a file of GeoJSON, as ``parse_geojson`` does.

    Raises:
        OSError: the file cannot be read.
    """
    return _parsed(json_parts.read_bytes(path))


def parse_geojson(data: bytes) -> Drawing:
    """Take GeoJSON in any of its forms; see the module.

    Raises:
        ValueError: it is not GeoJSON, or a point is not x, y in pixels; the text does not name the file.
    """
    return _parsed(json_parts.unpacked(data))


def _parsed(data: bytes) -> Drawing:
    other = foreign_forms.recognised(data)
    if other:
        raise ValueError(other)
    text = json_parts.decoded(data)
    del data  # both would be held while the text is parsed
    reader = _Reader()
    try:
        content = json_parts.parse(text, "features", reader.take_part)
        if isinstance(content, dict) and not content.keys() & {
            "features",
            "geometry",
            "geometries",
            "coordinates",
        }:
            other = foreign_forms.recognised_json(content)
            if other:
                raise ValueError(other)
        if (
            reader.parts
            and isinstance(content, dict)
            and content.get("type") not in (None, "FeatureCollection")
        ):
            reader = _Reader()  # what has features beside its type is of that type
        reader.take(content, {})
        stated, crs = _stated(content), _crs(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(str(error)) from None
    return Drawing(reader.polygons, reader.others, stated, crs)


class _Reader:
    """Collects the polygons under a GeoJSON object."""

    def __init__(self) -> None:
        self.polygons: list[Polygon] = []
        self.others: Counter[str] = Counter()
        self.parts = 0

    def take_part(self, item: Any) -> None:
        """Take one of the features."""
        self.parts += 1
        try:
            self.take(item, {})
        except ValueError as error:
            raise ValueError(f"its part {self.parts:,}: {error}") from None

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
                # its measurements may be many, and are not needed
                self.take(item["geometry"], {key: own[key] for key in ("classification",) if key in own})
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
                if holes and _apart(holes, outline):
                    raise ValueError("a hole outside its outline; several areas are a MultiPolygon")
                self.polygons.append(Polygon([outline, *holes], properties))


def _ring(points: Any, kind: str) -> Ring:
    if not isinstance(points, list) or set(map(type, points)) - {list}:
        raise ValueError(f"a {kind} whose coordinates are not nested as a {kind}'s are")
    ring = _numbers(points)
    if ring is None:
        ring = _numbers([point[:2] for point in points])  # a point may carry a third coordinate
    if ring is None or not (np.abs(ring) < FAR).all():
        raise ValueError(f"a point of a {kind} that is not x, y in pixels")
    if len(ring) < 3:
        raise ValueError("a ring of fewer than three points")
    return ring


def _numbers(points: list[Any]) -> Ring | None:
    """(n, 2) if they are pairs of numbers, else None."""
    try:
        ring = np.array(points)
    except ValueError:
        return None
    pairs = ring.ndim == 2 and ring.shape[1] == 2 and ring.dtype.kind in "iuf"
    return ring.astype(np.float64) if pairs else None


def _apart(holes: list[Ring], outline: Ring) -> bool:
    """Whether the box of a hole has nothing in common with that of the outline."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    return any((hole.max(axis=0) < low).any() or (hole.min(axis=0) > high).any() for hole in holes)


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

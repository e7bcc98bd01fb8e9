"""Masks and outlines of slides: read from GeoJSON or a picture, drawn as contours, written for QuPath.

GeoJSON is in level-0 pixels, as QuPath exports it.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import measure

from pathprep.errors import MaskError
from pathprep.slides.tissue import Mask

Ring = npt.NDArray[np.float64]

FAR = 1e9  # no coordinate of a slide is beyond (nor is NaN below)


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
            return classification.strip()
        try:
            if "names" in classification:  # of subclasses, in newer versions
                return ": ".join(classification["names"])
            return str(classification["name"]).strip()
        except (KeyError, TypeError):
            raise ValueError(f"a classification without a name, {classification!r}") from None


@dataclass(frozen=True)
class Drawing:
    """What a GeoJSON file holds: polygons, in its order, and how many points and lines."""

    polygons: list[Polygon]
    others: int


def read_geojson(path: Path) -> Drawing:
    """Read a file of GeoJSON, as ``parse_geojson`` does.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_geojson(path.read_bytes())


def parse_geojson(data: bytes) -> Drawing:
    """Take a FeatureCollection, a list of features, one feature, a GeometryCollection or a bare geometry.

    Raises:
        ValueError: it is not GeoJSON, or a point is not x, y in pixels; the text does not name the file.
    """
    polygons: list[Polygon] = []
    others = 0
    try:
        for geometry, properties in _geometries(json.loads(data), {}):
            kind, coordinates = geometry["type"], geometry["coordinates"]
            if kind not in ("Polygon", "MultiPolygon"):
                others += 1
                continue
            for rings in [coordinates] if kind == "Polygon" else coordinates:
                if rings:
                    polygons.append(Polygon([_ring(ring) for ring in rings], properties))
    except KeyError as error:
        raise ValueError(f"a part of it has no {error}") from None
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return Drawing(polygons, others)


def _geometries(item: Any, properties: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every geometry under a GeoJSON object, with the properties of its feature."""
    if isinstance(item, list):
        for part in item:
            yield from _geometries(part, properties)
    elif "features" in item or "geometries" in item:
        yield from _geometries(item.get("features", item.get("geometries")), properties)
    elif "geometry" in item:
        if item["geometry"] is not None:
            yield from _geometries(item["geometry"], item.get("properties") or {})
    else:
        yield item, properties


def _ring(points: Any) -> Ring:
    ring = np.array([point[:2] for point in points], np.float64)  # a point may carry a third coordinate
    if ring.ndim != 2 or ring.shape[1] != 2 or not (np.abs(ring) < FAR).all():
        raise ValueError("a point that is not x, y in pixels")
    return ring


def to_geojson(polygons: list[list[Ring]]) -> bytes:
    """A FeatureCollection that QuPath opens: one annotation of class Tissue per piece, level-0 pixels."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [np.round(ring, 1).tolist() for ring in polygon]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tissue", "color": [60, 180, 75]},
            },
        }
        for polygon in polygons
    ]
    return (json.dumps({"type": "FeatureCollection", "features": features}) + "\n").encode()


def contours(mask: Mask, width: int, height: int) -> list[list[Ring]]:
    """Outlines: a polygon per piece, [outer ring, hole, ...]; rings (n, 2) of x, y in level-0 pixels."""
    scale = np.array([width / mask.shape[1], height / mask.shape[0]])
    labels, _ = ndimage.label(mask)
    polygons = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        piece = np.pad(labels[box] == number, 1)
        rings = []
        for line in measure.find_contours(piece.astype(np.float32), 0.5):
            ring = measure.approximate_polygon(line, 0.5)[:, ::-1]
            # minus the padding; a pixel's centre is at .5
            rings.append((ring - 0.5 + [box[1].start, box[0].start]) * scale)
        outer = int(np.argmax([area(ring) for ring in rings]))
        holes = [ring for i, ring in enumerate(rings) if i != outer and len(ring) > 3]
        polygons.append([rings[outer], *holes])
    return polygons


def area(ring: Ring) -> float:
    """Area inside a ring (n, 2), closed or not, by the shoelace formula."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def load_mask(path: Path, width: int, height: int, shape: tuple[int, int]) -> Mask:
    """The user's own mask, brought to the overview's shape.

    Args:
        path: GeoJSON polygons in level-0 pixels, or a PNG over the whole slide (non-zero is tissue).
        width, height: of the slide, level-0 pixels.
        shape: (h, w) of the overview.

    Raises:
        MaskError: unreadable, without polygons, or of another shape than the slide.
    """
    if path.suffix.lower() in {".geojson", ".json"}:
        return _mask_from_geojson(path, width, height, shape)
    try:
        with warnings.catch_warnings():
            # Pillow refuses twice as many pixels as it warns of; between the two, a mask takes 0.2 GB
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                picture = image.convert("L")
    except Image.DecompressionBombError as error:
        raise MaskError(
            f"{path}: too large for a mask ({error}); save it smaller, a pixel per 4 micrometres is enough"
        ) from None
    # a damaged PNG is an OSError, a SyntaxError or a ValueError
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f"{path}: not a readable picture ({error}); a mask is a PNG or a GeoJSON") from None
    if abs(picture.width * height - picture.height * width) > 0.02 * picture.height * width:
        raise MaskError(
            f"{path}: {picture.width}x{picture.height} has another shape than the slide ({width}x{height}); "
            "a mask must cover the whole slide"
        )
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.NEAREST)) > 0


def _mask_from_geojson(path: Path, width: int, height: int, shape: tuple[int, int]) -> Mask:
    try:
        drawing = read_geojson(path)
        if any(len(ring) < 3 for polygon in drawing.polygons for ring in polygon.rings):
            raise ValueError("a ring of fewer than three points")
    except (OSError, ValueError) as error:
        raise MaskError(f"{path}: not GeoJSON polygons ({error})") from None
    if not drawing.polygons:
        only = f", only {drawing.others:,} points or lines" if drawing.others else ""
        raise MaskError(
            f"{path}: holds no Polygon or MultiPolygon{only}; export the annotations as GeoJSON again"
        )
    scale = np.array([shape[1] / width, shape[0] / height])
    total = np.zeros(shape, bool)
    for polygon in drawing.polygons:
        canvas = Image.new("1", (shape[1], shape[0]))
        draw = ImageDraw.Draw(canvas)
        for number, ring in enumerate(polygon.rings):
            draw.polygon([tuple(point) for point in ring * scale - 0.5], fill=int(number == 0))
        total |= np.asarray(canvas)
    if not total.any():
        raise MaskError(
            f"{path}: its polygons lie outside the slide ({width}x{height}); coordinates are level-0 pixels"
        )
    return total

"""Outlines that were drawn, as pixels: of ImageScope's XML, and of QuPath's GeoJSON.

ImageScope   what is drawn later lies on top, as eva paints MoNuSAC's; a vertex at 3, 5 is the centre of
             pixel 3, 5; a region with NegativeROA cuts out of its layer
GeoJSON      smaller objects lie on top of larger ones, as tiles are labelled; 3, 5 is the pixel's corner;
             the parts of a MultiPolygon are one object, and holes are background
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from skimage.draw import polygon

from pathprep.errors import DatasetError
from pathprep.slides import json_parts
from pathprep.slides.geojson import Polygon, Ring, read_geojson
from pathprep.words import counted
from pathtrain.data.segmented.truth import Said

log = logging.getLogger(__name__)

ENDINGS = (".xml", ".xml.gz", ".geojson", ".geojson.gz", ".json")
OBJECT = "object"  # what objects are called that nobody named
IGNORE = "ignored"
ELLIPSE, ARROWS = "2", ("3", "4")  # ImageScope's types of regions
UNNAMED = ("", "description", "text")  # what ImageScope calls an attribute that nobody named


@dataclass(frozen=True)
class Shape:
    """A drawn object.

    Attributes:
        label: its class; OBJECT without one.
        parts: [outline, hole, ...] each, rings (n, 2) of x, y with pixel centres at whole numbers.
        negative: it cuts out of what has its label.
    """

    label: str
    parts: list[list[Ring]] = field(repr=False)
    negative: bool = False


def read_shapes(path: Path) -> list[Shape]:
    """The objects of a file, what is to lie on top last.

    Raises:
        DatasetError: it is damaged, or of another program.
    """
    return _imagescope(path) if ".xml" in path.name.lower() else _geojson(path)


def paint(shapes: list[Shape], height: int, width: int, path: Path) -> Said:
    """Pixels of an image, of objects that may overlap.

    Raises:
        DatasetError: the objects are outside of the image, or there is more than one object to a pixel.
    """
    values, instances = np.zeros((height, width), np.int32), np.zeros((height, width), np.int32)
    labels = sorted({shape.label for shape in shapes})
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    outside = small = 0
    for number, shape in enumerate(shapes, start=1):
        rows, columns = _pixels(shape, height, width)
        if not len(rows):
            outside += all(_beyond(part[0], height, width) for part in shape.parts)
            small += 1
        elif shape.negative:
            cut = values[rows, columns] == numbers[shape.label]
            values[rows[cut], columns[cut]] = instances[rows[cut], columns[cut]] = 0
        else:
            values[rows, columns], instances[rows, columns] = numbers[shape.label], number
    if outside > len(shapes) / 2:
        raise DatasetError(
            f"{path}: {outside:,} of {len(shapes):,} objects lie outside of the image, {width}x{height} px: "
            "of another image, or of the slide that it was cut from; move them to its corner"
        )
    if small:
        log.info("%s: %d of %d objects hold no pixel of the image", path, small, len(shapes))
    return Said(values, {number: label for label, number in numbers.items()}, instances)


def _beyond(ring: Ring, height: int, width: int) -> bool:
    low, high = ring.min(axis=0), ring.max(axis=0)
    return bool((high < 0).any() or low[0] > width - 1 or low[1] > height - 1)


def _pixels(shape: Shape, height: int, width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    found = []
    for outline, *holes in shape.parts:
        rows, columns = polygon(outline[:, 1], outline[:, 0], (height, width))
        if holes and len(rows):
            keep = np.ones((int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1), bool)
            top, left = rows.min(), columns.min()
            for hole in holes:
                keep[polygon(hole[:, 1] - top, hole[:, 0] - left, keep.shape)] = False
            inside = keep[rows - top, columns - left]
            rows, columns = rows[inside], columns[inside]
        found.append((rows, columns))
    rows, columns = (np.concatenate([each[axis] for each in found]) for axis in (0, 1))
    return rows, columns


def _imagescope(path: Path) -> list[Shape]:
    try:
        root = ElementTree.fromstring(json_parts.read_bytes(path))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: no XML that can be read ({error}); export it again") from None
    if root.tag != "Annotations":
        named = {"ASAP_Annotations": "of ASAP", "annotations": "of NDP.view"}.get(root.tag, f"<{root.tag}>")
        raise DatasetError(
            f"{path}: annotations {named}; expected ImageScope's <Annotations>: save them so, or as GeoJSON"
        )
    shapes = []
    left_out = 0
    for layer in root.iter("Annotation"):
        label = _layer(layer)
        for region in layer.iter("Region"):
            ring = _vertices(region, path)
            if region.get("Type") in ARROWS or len(ring) < (2 if region.get("Type") == ELLIPSE else 3):
                left_out += 1
            else:
                if region.get("Type") == ELLIPSE and len(ring) == 2:
                    ring = _ellipse(ring)
                shapes.append(Shape(label, [[ring]], region.get("NegativeROA") == "1"))
    if left_out:
        log.info(
            "%s: %s left out: arrows, rulers, or fewer than three points", path, counted(left_out, "region")
        )
    return shapes


def _layer(layer: ElementTree.Element) -> str:
    """What a layer is called: MoNuSAC has the class as its attribute's name, others as the layer's own."""
    attributes = layer.findall("Attributes/Attribute")
    names = [
        *(each.get("Name") or "" for each in attributes),
        *(each.get("Value") or "" for each in attributes),
    ]
    for name in (*names, layer.get("Name") or ""):
        if name.strip().lower() not in UNNAMED:
            return name.strip()
    return OBJECT


def _vertices(region: ElementTree.Element, path: Path) -> Ring:
    points = [(each.get("X"), each.get("Y")) for each in region.iter("Vertex")]
    try:
        found = np.array(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        found = np.full((1, 2), np.nan)
    if not np.isfinite(found).all():
        raise DatasetError(f"{path}: region {region.get('Id')} has a vertex without X and Y; export it again")
    return found


def _ellipse(corners: Ring) -> Ring:
    """Its outline: ImageScope writes the corners of its box."""
    centre, radii = corners.mean(axis=0), np.abs(np.diff(corners, axis=0)[0]) / 2
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.asarray(centre + radii * np.stack([np.cos(turn), np.sin(turn)], axis=1))


def _geojson(path: Path) -> list[Shape]:
    try:
        drawing = read_geojson(path)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not GeoJSON ({error})") from None
    if drawing.left_out():
        log.info("%s: left out, as no areas: %s", path, drawing.left_out())
    objects: list[list[Polygon]] = []
    for each in drawing.polygons:
        # the parts of a MultiPolygon share their feature's properties, the very object
        if objects and objects[-1][0].properties is each.properties:
            objects[-1].append(each)
        else:
            objects.append([each])
    used = [each for each in objects if each[0].use() != "region"]
    try:
        labels = [IGNORE if each[0].use() == "ignored" else each[0].label() for each in used]
    except ValueError as error:
        raise DatasetError(f"{path}: {error}; name the class in QuPath") from None
    bare = labels.count("")
    if bare and bare < len(labels):
        log.info("%s: %d of %d areas have no class and are left out", path, bare, len(labels))
    found = [
        (label or OBJECT, each)
        for label, each in zip(labels, used, strict=True)
        if label or bare == len(labels)
    ]
    found.sort(key=lambda pair: -sum(part.size for part in pair[1]))
    return [Shape(label, [[ring - 0.5 for ring in part.rings] for part in each]) for label, each in found]


def as_said(path: Path, height: int, width: int) -> Said:
    """The pixels that the objects of a file hold.

    Raises:
        DatasetError: as ``read_shapes`` and ``paint``.
    """
    return paint(read_shapes(path), height, width, path)

"""Labels of tiles from drawn annotations: <slide>.geojson, as QuPath exports it.

A tile has the class of the polygon that holds its centre; of several, the smallest, and of equally large ones
the last. Features without a class, points and lines hold no tile, and a tile in an area of a class to be
ignored (Ignore*) has no label. Coordinates are level-0 pixels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.errors import UsageError, explain_os_error
from pathprep.params.origin import AskedOrigin
from pathprep.slides.geojson import Drawing, Polygon, read_geojson
from pathprep.slides.masks import settle_origin
from pathprep.slides.own_names import SlideNames
from pathtrain.data.whole_tiles import DatasetTiles

Floats = npt.NDArray[np.float64]
log = logging.getLogger(__name__)

UNREAD = (".xml", ".json", ".ndpa", ".zip", ".svg")  # endings of drawings that are not read
# Formats with bounds, of which the first version of datasets kept no record
BOUNDED = ("mirax", "leica", "ventana", "hamamatsu")


@dataclass(frozen=True)
class Area:
    """A drawn polygon with its holes.

    Attributes:
        label: name of its class; "" if what it holds is to be ignored.
        rings: (V, 2) float64 each, x and y in level-0 pixels of the slide; the first is the outline.
        size: area without the holes, square pixels.
    """

    label: str
    rings: list[Floats]
    size: float

    def holds(self, points: Floats) -> npt.NDArray[np.bool_]:
        """(P,) which of the points (P, 2) lie inside; a point in a hole does not."""
        inside = np.zeros(len(points), dtype=bool)
        low, high = self.rings[0].min(axis=0), self.rings[0].max(axis=0)
        near = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
        if not len(near):
            return inside
        inside[near] = points_in_poly(points[near], self.rings[0])
        for hole in self.rings[1:]:
            inside[near] &= ~points_in_poly(points[near], hole)
        return inside


@dataclass(frozen=True)
class Drawn:
    """A file of annotations and what it holds."""

    path: Path
    drawing: Drawing


def read_drawings(folder: Path, known: SlideNames) -> dict[str, Drawn]:
    """Slide -> its annotations.

    Args:
        known: the datasets' slides. A name that is none of theirs stands as it is.

    Raises:
        UsageError: no file, two of one slide, one that cannot be read, or of a slide in another form only.
    """
    there = {path: path.name.lower() for path in sorted(folder.iterdir()) if path.is_file()}
    drawings: dict[str, Drawn] = {}
    for path, lower in there.items():
        if not lower.endswith((".geojson", ".geojson.gz")):
            continue
        name = path.name[: lower.index(".geojson")]
        slide = known.find(name, str(path)) or name
        if slide in drawings:
            raise UsageError(f"{path}: of the same slide as {drawings[slide].path}; keep one per slide")
        drawings[slide] = Drawn(path, _read(path))
    others = [path for path, lower in there.items() if lower.endswith(UNREAD)]
    unread = [path for path in others if (known.find(path.stem, str(path)) or "") in known - drawings.keys()]
    if unread:
        raise UsageError(
            f"{unread[0]}: drawings are read as GeoJSON from <slide>.geojson ({len(unread)} such files); "
            "save or rename it so, or move it away"
        )
    if not drawings:
        raise UsageError(f"{folder}: holds no .geojson file; export annotations as <slide>.geojson")
    return drawings


def labels_of(tiles: DatasetTiles, drawings: dict[str, Drawn], origin: AskedOrigin) -> list[str]:
    """The label of each tile, "" without one.

    Raises:
        UsageError: a drawing's classes or coordinates are not what they should be, or its origin is unknown.
    """
    areas = {
        slide: _areas(drawn.path, drawn.drawing, tiles.dataset.marker(slide), origin)
        for slide, drawn in drawings.items()
        if slide in tiles.slides
    }
    names = np.full(len(tiles), "", dtype=object)
    for number, slide in enumerate(tiles.slides):
        start, end = tiles.starts[number], tiles.starts[number + 1]
        centres = tiles.coords[start:end] + tiles.side[start:end, None] / 2
        order = np.argsort(centres[:, 0], kind="stable")  # each area looks at those below and above it only
        centres = centres[order]
        # Largest first, so that smaller ones inside it overwrite; sorted() keeps the file's order of equals.
        # What is to be ignored comes last
        for area in sorted(areas.get(slide, ()), key=lambda area: (not area.label, -area.size)):
            ends = area.rings[0][:, 0]
            near = slice(
                np.searchsorted(centres[:, 0], ends.min()),
                np.searchsorted(centres[:, 0], ends.max(), side="right"),
            )
            names[start:end][order[near][area.holds(centres[near])]] = area.label
    return [str(name) for name in names]


def _read(path: Path) -> Drawing:
    try:
        return read_geojson(path)
    except OSError as error:
        error.filename = str(path)
        raise UsageError(explain_os_error(error, reading=True)) from None
    except ValueError as error:
        raise UsageError(f"{path}: not GeoJSON annotations ({error})") from None


def _areas(path: Path, drawing: Drawing, marker: Marker, origin: AskedOrigin) -> list[Area]:
    """Classified polygons of a file, in level-0 pixels of the whole slide.

    Args:
        marker: of the slide.

    Raises:
        UsageError: their classes or coordinates are not what they should be, or the origin is not known.
    """
    bounds = None
    try:
        if isinstance(marker, SlideMarker):
            bounds = marker.bounds
            drawing.check_pixels(marker.width, marker.height)
            known = (drawing.stated and drawing.stated.origin == "slide") or origin == "slide"
            if marker.facts is None and marker.vendor in BOUNDED and not known:
                raise ValueError(
                    f"is of a slide of {marker.vendor}, of whose bounds this dataset, of an earlier "
                    "version, has no record; make the dataset anew, or give `label_origin` slide if "
                    "coordinates count from the corner of the whole slide"
                )
        _, _, corner = settle_origin(drawing.stated, bounds, origin, "label_origin")
        named = [(_label(polygon), polygon) for polygon in drawing.polygons]
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    if drawing.left_out():
        log.info("%s: points and lines hold no tile: %s", path, drawing.left_out())
    return [
        Area(label, [ring + corner for ring in polygon.rings], polygon.size)
        for label, polygon in named
        if label is not None
    ]


def _label(polygon: Polygon) -> str | None:
    """The class of an area, "" if it is to be ignored; None if it has none."""
    use = polygon.use()
    return "" if use == "ignored" else (polygon.label() or None) if use == "area" else None

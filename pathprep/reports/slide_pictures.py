"""A slide's picture for the page: thumbnail, tissue contour and kept tiles, in few bytes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import STATUSES
from pathprep.errors import DatasetError
from pathprep.page.environment import jpeg_uri
from pathprep.reports.measure import Measured
from pathprep.slides.geojson import parse_geojson
from pathprep.storage.base import Storage

# A card is about 360 CSS pixels wide; more would let 200 slides outgrow what browsers open quickly
THUMBNAIL = 512
# Contours are rounded to this many steps along the longer side: half a thumbnail's pixel
STEPS = 1024
# Above, neighbouring tiles of a row are drawn as one piece; a square each would take 13 bytes a tile
SINGLE_SQUARES = 2000


@dataclass(frozen=True)
class Picture:
    """What the template draws over each other.

    Attributes:
        thumbnail: data URI, or "" and why in ``missing``.
        contour: SVG path in units of ``contour_unit`` level-0 pixels; "" if there is none.
        cells: stain status -> SVG path in grid cells.
        width, height: pixels of level 0 that they lie on; at least one each, whatever the marker says.
    """

    thumbnail: str
    missing: str
    contour: str
    contour_unit: float
    cells: dict[str, str]
    width: int
    height: int


def picture(dataset: Dataset, slide: Measured) -> Picture:
    """Draw a committed slide."""
    marker, preview = slide.marker, f"previews/{slide.name}"
    assert isinstance(marker, SlideMarker)
    width, height = max(1, marker.width), max(1, marker.height)
    unit = max(width, height) / STEPS
    thumbnail, missing = "", ""
    try:
        thumbnail = jpeg_uri(_reduced(dataset.storage, f"{preview}.jpg"))
    except OSError as error:
        missing = f"The preview cannot be read: {error.strerror or 'not a picture'}."
    contour = _contour(dataset.storage, f"{preview}.geojson", unit)
    return Picture(thumbnail, missing, contour, unit, _cells(dataset, slide), width, height)


def _reduced(storage: Storage, name: str) -> Image.Image:
    with storage.stream(name) as file, Image.open(file) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return image.convert("RGB")


def _contour(storage: Storage, name: str, unit: float) -> str:
    try:
        drawing = parse_geojson(storage.read(name) or b"")
        corner = drawing.stated.corner if drawing.stated else (0.0, 0.0)
        return "".join(_ring(ring + corner, unit) for polygon in drawing.polygons for ring in polygon.rings)
    except (OSError, ValueError):
        return ""  # the page says that there is no contour


def _ring(ring: npt.NDArray[np.float64], unit: float) -> str:
    """Relative steps between rounded points, those in a straight line left out."""
    points = np.rint(ring / unit).astype(np.int64)
    points = points[np.r_[True, np.any(np.diff(points, axis=0), axis=1)]]
    if len(points) < 4:  # closed: less than a triangle is not seen
        return ""
    steps = np.diff(points, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    points = points[np.r_[True, turns, True]]
    steps = np.diff(points, axis=0)
    x, y = points[0].tolist()
    return f"M{x} {y}l" + " ".join(f"{dx} {dy}" for dx, dy in steps[:-1].tolist()) + "z"


def _cells(dataset: Dataset, slide: Measured) -> dict[str, str]:
    if slide.problem or not slide.marker.tiles:
        return {}
    try:
        table = dataset.table(slide.name, ["column", "row", "stain_status"])
    except DatasetError:
        return {}  # the slide is flagged as damaged
    status = np.array(table["stain_status"].to_pylist(), dtype=object)
    cells = np.stack([table["row"].to_numpy(), table["column"].to_numpy()], 1).astype(np.int64)
    paths = {}
    for name in STATUSES:
        chosen = cells[status == name]
        if len(chosen):
            paths[name] = _squares(chosen[np.lexsort(chosen.T[::-1])], len(cells) <= SINGLE_SQUARES)
    return paths


def _squares(cells: npt.NDArray[np.int64], single: bool) -> str:
    """Cells (row, column), sorted, as squares, or as one rectangle per run in a row."""
    if single:
        return "".join(f"M{x} {y}h1v1h-1z" for y, x in cells.tolist())
    breaks = np.any(np.diff(cells, axis=0) != (0, 1), axis=1)
    first = cells[np.r_[True, breaks]]
    last = cells[np.r_[breaks, True]]
    lengths = last[:, 1] - first[:, 1] + 1
    return "".join(
        f"M{x} {y}h{n}v1h-{n}z" for (y, x), n in zip(first.tolist(), lengths.tolist(), strict=True)
    )

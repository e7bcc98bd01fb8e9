"""The user's own tissue masks: GeoJSON or a picture, brought to a slide's overview in its place.

This project counts from the corner of the whole slide, as OpenSlide does. QuPath opens MRXS, SCN, VMS and
BIF cropped to the bounds (the part that was scanned) and counts from there. So a mask has an origin, which
the file says, its shape tells, or the user has to say.
"""

import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathprep.errors import MaskError, explain_os_error
from pathprep.params.origin import AskedOrigin, Origin
from pathprep.slides import foreign_forms, json_parts
from pathprep.slides.filled import fill_all
from pathprep.slides.geojson import Drawing, Polygon, Stated, read_geojson
from pathprep.slides.mask_pictures import Picture, read_picture
from pathprep.slides.readers.base import Bounds
from pathprep.slides.tissue import Mask

SHAPE = 0.02  # share by which a picture's sides may be in another ratio than the slide's
NEARLY_ALL = 0.95
ONLY_SLIDE = "the slide has one origin"


@dataclass(frozen=True)
class PlacedMask:
    """A mask on an overview.

    Attributes:
        tissue: (h, w) of the overview.
        origin: that the mask's coordinates, or its picture, count from.
        source: what told the origin.
        notes: what the user should know of it, sentences.
    """

    tissue: Mask
    origin: Origin
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """What a mask lies on.

    Attributes:
        width, height: of the slide, level-0 pixels. shape: (h, w) of the overview.
        bounds: of the slide; None if it has none, or they are the whole.
        asked: the origin that the user says.
    """

    width: int
    height: int
    shape: tuple[int, int]
    bounds: Bounds | None = None
    asked: AskedOrigin = "auto"


def load_mask(
    path: Path,
    width: int,
    height: int,
    shape: tuple[int, int],
    bounds: Bounds | None = None,
    origin: AskedOrigin = "auto",
) -> Mask:
    """The tissue of a mask, (h, w) of the overview; see ``place_mask``."""
    return place_mask(path, Ground(width, height, shape, bounds, origin)).tissue


def place_mask(path: Path, ground: Ground) -> PlacedMask:
    """Bring the user's own mask to the overview's shape.

    Args:
        path: GeoJSON polygons in level-0 pixels, or a picture of the slide or its bounds (not 0 is tissue).
        ground: what it lies on.

    Raises:
        MaskError: unreadable, without polygons, of another shape than the slide, or its origin is not known.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise MaskError(
                f"{path}: not a file, but a pipe, a device or a folder; a mask is GeoJSON or a picture"
            )
        with path.open("rb") as file:
            head = file.read(foreign_forms.HEAD)
        other = foreign_forms.recognised(head)
        if other:
            raise MaskError(f"{path}: {other}")
        if path.suffix.lower() in {".geojson", ".json"} or foreign_forms.is_json(head):
            return _place_polygons(path, ground)
        return _place_picture(path, ground)
    except MemoryError:
        raise MaskError(f"{path}: does not fit into memory; {json_parts.FIX}") from None
    except OSError as error:
        error.filename = str(path)
        raise MaskError(explain_os_error(error, reading=True)) from None


def settle_origin(
    stated: Stated | None, bounds: Bounds | None, asked: AskedOrigin, option: str
) -> tuple[Origin, str, tuple[float, float]]:
    """Where a GeoJSON's coordinates count from, what told so, and that corner in level-0 pixels of the slide.

    What the file states counts more than what is asked for, which is for those that state nothing.

    Args:
        stated: by the file. bounds: of the slide. asked: what the user says, by the parameter ``option``.

    Raises:
        ValueError: it is not known, or the file is of a slide with other bounds; the text names the fix.
    """
    corner = (0.0, 0.0) if bounds is None else (float(bounds.x), float(bounds.y))
    if stated is not None:
        if stated.origin == "bounds" and stated.corner != corner:
            raise ValueError(
                f"counts from bounds at {stated.corner[0]:g},{stated.corner[1]:g}, but this slide's are at "
                f"{corner[0]:g},{corner[1]:g}: it is of another slide"
            )
        return stated.origin, "stated in the file", stated.corner
    if corner == (0.0, 0.0):
        return "slide", ONLY_SLIDE, corner
    if asked == "auto":
        raise ValueError(
            f"does not say which origin its coordinates have, and the slide's bounds begin at "
            f"{corner[0]:g},{corner[1]:g}; give `{option}` bounds if it was drawn in QuPath, which shows the "
            f"bounds alone, or `{option}` slide if it counts from the corner of the whole slide, as OpenSlide"
        )
    return asked, option, corner if asked == "bounds" else (0.0, 0.0)


def _place_polygons(path: Path, ground: Ground) -> PlacedMask:
    try:
        drawing = read_geojson(path)
        drawing.check_pixels(ground.width, ground.height)
    except ValueError as error:
        raise MaskError(f"{path}: not GeoJSON polygons ({error})") from None
    areas = [polygon for polygon in drawing.polygons if polygon.use() == "area"]
    ignored = [polygon for polygon in drawing.polygons if polygon.use() == "ignored"]
    if not areas:
        raise MaskError(f"{path}: {_nothing(drawing)}")
    try:
        origin, source, corner = settle_origin(drawing.stated, ground.bounds, ground.asked, "mask_origin")
    except ValueError as error:
        raise MaskError(f"{path}: {error}") from None
    tissue, left_out = (_filled(group, corner, ground) for group in (areas, ignored))
    if not tissue.any():
        raise MaskError(
            f"{path}: its polygons lie outside the slide ({ground.width}x{ground.height}); coordinates are "
            "level-0 pixels"
        )
    notes = []
    if ignored:
        notes.append(f"areas drawn to be ignored are no tissue: {_classes(ignored)}")
    if drawing.left_out():
        notes.append(f"points and lines have no area and are left out: {drawing.left_out()}")
    beyond = _beyond([*areas, *ignored], corner, ground)
    if beyond:
        notes.append(beyond)
    if not (tissue & ~left_out).any():
        notes.append("all of it is drawn to be ignored: no tissue is left")
    return PlacedMask(tissue & ~left_out, origin, source, tuple(notes))


def _nothing(drawing: Drawing) -> str:
    if drawing.polygons:
        classes = _classes(drawing.polygons)
        return f"all its areas are of classes to be ignored, or regions ({classes}); draw the tissue too"
    only = f", only {drawing.left_out()}" if drawing.left_out() else ""
    return f"holds no Polygon or MultiPolygon{only}; export the annotations as GeoJSON again"


def _classes(polygons: list[Polygon]) -> str:
    names = Counter(polygon.label() for polygon in polygons)
    return ", ".join(f"{count:,} {name}" for name, count in sorted(names.items()))


def _filled(polygons: list[Polygon], corner: tuple[float, float], ground: Ground) -> Mask:
    total = np.zeros(ground.shape, bool)
    scale = ground.shape[1] / ground.width, ground.shape[0] / ground.height
    fill_all(total, [polygon.rings for polygon in polygons], corner, scale)
    return total


def _beyond(polygons: list[Polygon], corner: tuple[float, float], ground: Ground) -> str:
    """That polygons reach beyond the slide, by more than a pixel; "" if none does."""
    low, high = (
        np.array([end(polygon.rings[0], axis=0) for polygon in polygons]) + corner for end in (np.min, np.max)
    )
    reach = np.maximum(-low, high - [ground.width, ground.height]).max(axis=1)
    count, widest = int((reach > 1).sum()), float(reach.max())
    if not count:
        return ""
    of = f"{count:,} of {len(polygons):,} polygons"
    return f"{of} reach beyond the slide, by {widest:,.0f} px at most: cut off there"


def _place_picture(path: Path, ground: Ground) -> PlacedMask:
    picture = read_picture(path, ground.shape)
    origin, source, box = _lies_on(path, picture, ground)
    # the picture's pixel that holds the centre of each of the overview's
    rows = _places(ground.shape[0], ground.height, box.y, box.height, len(picture.tissue))
    columns = _places(ground.shape[1], ground.width, box.x, box.width, picture.tissue.shape[1])
    inside = (rows >= 0)[:, None] & (columns >= 0)[None]
    tissue = picture.tissue[np.ix_(rows, columns)] & inside
    notes = []
    share = float(picture.tissue.mean())
    if share == 0:
        notes.append("all of it is 0: no tissue")
    elif share > NEARLY_ALL:
        notes.append(f"{share:.0%} of it is not 0, which is tissue; if tissue is 0 in it, invert it")
    if picture.swapped:
        notes.append(
            "number 0 of its palette has a colour, and a number above 0 is black: if black is what is no "
            "tissue, save it without a palette"
        )
    if picture.lossy:
        notes.append("its compression (JPEG) blurs: black and white were told apart at 128; PNG keeps them")
    return PlacedMask(tissue, origin, source, tuple(notes))


def _places(count: int, side: int, start: int, length: int, pixels: int) -> np.ndarray:
    """At each of ``count`` centres along a side, the pixel of a picture over a part of it; -1 outside."""
    centres = (np.arange(count) + 0.5) * side / count
    found = np.floor((centres - start) / length * pixels).astype(np.int64)
    return np.where((found >= 0) & (found < pixels), found, -1)


def _lies_on(path: Path, picture: Picture, ground: Ground) -> tuple[Origin, str, Bounds]:
    """What a picture covers, what told so, and its box in level-0 pixels."""
    whole = Bounds(0, 0, ground.width, ground.height)
    boxes: dict[Origin, Bounds] = {"slide": whole}
    if ground.bounds is not None:
        boxes["bounds"] = ground.bounds
    asked = ground.asked
    fitting = [name for name, box in boxes.items() if _fits(picture, box)]
    exact = [
        name for name, box in boxes.items() if (picture.width, picture.height) == (box.width, box.height)
    ]
    chosen = exact if asked == "auto" and exact else fitting
    if asked != "auto" and len(boxes) > 1:
        chosen = [name for name in fitting if name == asked]
    if not chosen:
        shapes = " or ".join(f"the {name} ({box.width}x{box.height})" for name, box in boxes.items())
        turned = any(
            _fits(Picture(picture.tissue.T, picture.height, picture.width), box) for box in boxes.values()
        )
        raise MaskError(
            f"{path}: {picture.width}x{picture.height} has another shape than {shapes}"
            f"{', but has it when turned by 90 degrees' if turned else ''}; a mask must cover the whole slide"
            f"{' or its bounds' if len(boxes) > 1 else ''}"
            f"{f', and `mask_origin` {asked} says which' if asked != 'auto' and fitting else ''}"
        )
    if len(chosen) > 1:
        sizes = [f"{box.width}x{box.height}" for box in boxes.values()]
        raise MaskError(
            f"{path}: {picture.width}x{picture.height} has the shape of the slide ({sizes[0]}) and of its "
            f"bounds ({sizes[1]}), so its origin is not known; give `mask_origin` slide if it covers the "
            "whole slide, or `mask_origin` bounds if only what was scanned"
        )
    source = ONLY_SLIDE if len(boxes) == 1 else "its shape" if asked == "auto" else "mask_origin"
    return chosen[0], source, boxes[chosen[0]]


def _fits(picture: Picture, box: Bounds) -> bool:
    across, down = picture.width * box.height, picture.height * box.width
    return abs(across - down) <= SHAPE * down


def doubts(mask: Mask, found: Mask) -> str:
    """That a mask seems to be the wrong way round or in the wrong place; "" if not.

    Args:
        mask: the user's. found: what the search for tissue finds on the same overview; both (h, w).
    """
    if mask.all() or not mask.any() or not found.any():
        return ""
    inside, outside = float(found[mask].mean()), float(found[~mask].mean())
    if inside >= outside or inside >= 0.5:
        return ""
    return (
        f"of what it calls tissue, {inside:.0%} looks like tissue, of the rest {outside:.0%}: is it the "
        "wrong way round, or of another slide or origin?"
    )

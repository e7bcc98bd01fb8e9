"""Tiles as they are stored, beside what they were, or would become with the default target."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pathprep import stain
from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.images import jpeg
from pathprep.page.environment import jpeg_uri
from pathprep.pseudonyms.slides import Pseudonyms
from pathprep.reports import slide_pixels
from pathprep.reports.measure import Tile
from pathprep.reports.slide_pixels import Wanted, reduced
from pathprep.slides.readers.base import Pixels

SIDE = 224  # pixels of a shown tile


@dataclass(frozen=True)
class Pair:
    """A shown tile; ``before`` or ``after`` is "" where there is none. ``stored`` is "before" or "after"."""

    tile: Tile
    before: str
    after: str


@dataclass(frozen=True)
class Sheet:
    """Tiles that can be shown, and what went wrong, slide -> reason."""

    pairs: dict[Tile, Pair]
    problems: dict[str, str]


def sheet(dataset: Dataset, tiles: list[Tile], secret: Pseudonyms | None = None) -> Sheet:
    """Read and encode tiles; with ``bake``, what they were is read again from the slide file.

    Args:
        secret: says where the slides of a pseudonymised dataset are.
    """
    mode = dataset.params["stain"]["mode"]
    problems: dict[str, str] = {}
    stored: dict[Tile, Pixels] = {}
    for tile in dict.fromkeys(tiles):
        try:
            stored[tile] = jpeg.decode(dataset.read(tile.slide, tile.offset, tile.length))
        except (DatasetError, ValueError) as error:
            problems[tile.slide] = f"a stored tile cannot be read: {error}"
    pairs: dict[Tile, Pair] = {}
    if mode == "bake" and dataset.kind == "slides":  # there is no slide file of imported tiles
        before, failed = _from_slides(dataset, list(stored), secret)
        problems |= failed
        for tile, pixels in stored.items():
            pairs[tile] = Pair(tile, _uri(before[tile]) if tile in before else "", _uri(pixels))
    else:
        for tile, pixels in stored.items():
            if mode == "bake":
                pairs[tile] = Pair(tile, "", _uri(pixels))
                continue
            try:
                after = _uri(_normalised(dataset, tile, pixels)) if mode == "fit" and tile.he else ""
            except (ValueError, KeyError, TypeError) as error:  # numbers that no fit has
                after, problems[tile.slide] = "", f"a stored fit cannot be applied: {error}"
            pairs[tile] = Pair(tile, _uri(pixels), after)
    return Sheet(pairs, problems)


def _uri(pixels: Pixels) -> str:
    return jpeg_uri(Image.fromarray(reduced(pixels, SIDE)))


def _from_slides(
    dataset: Dataset, tiles: list[Tile], secret: Pseudonyms | None
) -> tuple[dict[Tile, Pixels], dict[str, str]]:
    by_slide: dict[str, list[Tile]] = {}
    for tile in tiles:
        by_slide.setdefault(tile.slide, []).append(tile)
    wanted = []
    for slide, group in by_slide.items():
        marker = dataset.markers[slide]
        if isinstance(marker, SlideMarker):
            wanted.append(Wanted(marker, [(tile.x, tile.y, tile.side) for tile in group]))
    found: dict[Tile, Pixels] = {}
    problems: dict[str, str] = {}
    for before in slide_pixels.read(wanted, SIDE, secret):
        if before.problem:
            problems[before.slide] = before.problem
        else:
            found.update(zip(by_slide[before.slide], before.pictures, strict=True))
    return found, problems


def _normalised(dataset: Dataset, tile: Tile, pixels: Pixels) -> Pixels:
    """The stored fit applied, as a loader does it, to the field's reference target."""
    fit = stain.StainFit(
        np.array(tile.he, np.float64).reshape(1, 3, 2),
        np.array(tile.max_c, np.float64).reshape(1, 2),
        np.zeros(1, np.int64),
        np.array([stain.Status.FITTED], np.uint8),
    )
    matrix = stain.matrix(fit, stain.Target.default())
    result: Pixels = stain.apply(pixels[None], matrix, io=dataset.params["stain"]["io"])[0]
    return result

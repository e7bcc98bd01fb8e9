"""Scores as a picture of the slide's field of view: each pixel the mean of the tiles over it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.scores.colours import Colours, Map, class_colours, painted, table
from pathprep.scores.columns import Classes, Column
from pathprep.scores.placed import Placed
from pathprep.slides.readers.base import Bounds, Pixels
from pathprep.slides.slide import Slide

LEAST_SIDE = 16  # pixels of a tile
MOST_PIXELS = 1 << 26  # of a picture: 8192 x 8192, 0.2 GB


class View(NamedTuple):
    """The part of a slide that a picture shows, level-0 pixels, and the picture's size."""

    x: int
    y: int
    width: int
    height: int
    columns: int
    rows: int

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the picture per level-0 pixel, along x and y."""
        return self.columns / self.width, self.rows / self.height


def view(scores: Placed, bounds: Bounds | None) -> tuple[View, int]:
    """A picture in which the smallest tile still has LEAST_SIDE pixels, and its downsample, a power of two.

    Args:
        bounds: of the slide: the part that is shown, as QuPath shows it; None for all of it.
    """
    box = bounds or Bounds(0, 0, scores.width, scores.height)
    side, by = int(scores.rows.side.min()), 1
    while side / (2 * by) >= LEAST_SIDE or scores.width * scores.height / by**2 > MOST_PIXELS:
        by *= 2
    return View(*box, max(1, round(box.width / by)), max(1, round(box.height / by))), by


def ground(slide: Slide, seen: View, downsample: int) -> Pixels:
    """The slide's own pixels in the picture, (rows, columns, 3) uint8.

    Raises:
        UnreadableSlide: the file is damaged.
    """
    whole = slide.overview(downsample)
    if whole.shape[:2] == (seen.rows, seen.columns):
        return whole
    across, down = whole.shape[1] / slide.width, whole.shape[0] / slide.height
    box = (seen.x * across, seen.y * down, (seen.x + seen.width) * across, (seen.y + seen.height) * down)
    part = Image.fromarray(whole).resize((seen.columns, seen.rows), Image.Resampling.BILINEAR, box=box)
    return np.asarray(part)


def boxes(scores: Placed, seen: View) -> npt.NDArray[np.int64]:
    """(N, 4) left, top, right, bottom of each tile in the picture; neighbours share an edge.

    A tile that is out of the part has no width or no height.
    """
    rows, (across, down) = scores.rows, seen.scale
    edges = np.stack(
        [
            (rows.x - seen.x) * across,
            (rows.y - seen.y) * down,
            (rows.x + rows.side - seen.x) * across,
            (rows.y + rows.side - seen.y) * down,
        ],
        axis=1,
    )
    most = [seen.columns, seen.rows, seen.columns, seen.rows]
    return np.clip(np.rint(edges), 0, most).astype(np.int64)


def paint(
    scores: Placed, column: Column, seen: View, colours: Map, ends: tuple[float, float]
) -> tuple[Colours, npt.NDArray[np.bool_]]:
    """The picture, (rows, columns, 3) uint8, and where there is a score, (rows, columns) bool.

    Numbers are averaged where tiles overlap; of classes the one of most tiles stands, the first of equals.
    """
    places = boxes(scores, seen)
    shape = seen.rows, seen.columns
    if isinstance(column, Classes):
        most, winner = np.zeros(shape, np.uint16), np.zeros(shape, np.int16)
        for code in range(len(column.names)):
            votes = np.zeros(shape, np.uint16)
            for x0, y0, x1, y1 in places[column.codes == code].tolist():
                votes[y0:y1, x0:x1] += 1
            more = votes > most
            most[more], winner[more] = votes[more], code
        return class_colours(max(1, len(column.names)))[winner], most > 0
    sums, counts = np.zeros(shape, np.float64), np.zeros(shape, np.uint16)
    known = ~np.isnan(column)
    for (x0, y0, x1, y1), value in zip(places[known].tolist(), column[known].tolist(), strict=True):
        sums[y0:y1, x0:x1] += value
        counts[y0:y1, x0:x1] += 1
    there = counts > 0
    mean = np.where(there, sums / np.maximum(counts, 1), ends[0])
    return painted(mean, table(colours), *ends), there


def over(below: Pixels | None, colour: Colours, there: npt.NDArray[np.bool_], opacity: float) -> Pixels:
    """The picture over the slide's, or over white; ``opacity`` from 0 to 1."""
    base = np.full(colour.shape, 255, np.uint8) if below is None else below.copy()
    mixed = opacity * colour[there].astype(np.float32) + (1 - opacity) * base[there].astype(np.float32)
    base[there] = np.rint(mixed).astype(np.uint8)
    return base


def halves(picture: Pixels, least: int) -> list[Pixels]:
    """The picture and ever smaller ones, each half of the last by area, down to ``least`` pixels a side."""
    levels = [picture]
    while max(levels[-1].shape[:2]) > least:
        height, width = (max(1, -(-side // 2)) for side in levels[-1].shape[:2])
        reduced = Image.fromarray(levels[-1]).resize((width, height), Image.Resampling.BOX)
        levels.append(np.asarray(reduced))
    return levels

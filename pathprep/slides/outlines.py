"""Areas and their outlines: polygons to pixels, and pixels to polygons."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from pathprep.slides.geojson import Ring, area
from pathprep.slides.tissue import Mask

CROSSINGS = 1 << 20  # of edges and rows that are held at a time


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


def fill(mask: Mask, rings: Sequence[Ring]) -> None:
    """Set the pixels of a mask (h, w) whose centres lie inside a polygon.

    Args:
        rings: the outline, then holes; x, y in pixels of the mask, whose first pixel's centre is at .5, .5.
            Of a ring that crosses itself, what an odd number of its turns encloses is inside.

    A polygon too small to hold any centre takes the pixel that its middle lies in, so that none is lost.
    """
    height, width = mask.shape
    low, high = rings[0].min(axis=0), rings[0].max(axis=0)
    left, top = np.clip(np.floor(low), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(high), 0, (width, height)).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    part = mask[top:bottom, left:right]
    inside = _odd(rings[0] - (left, top), part.shape)
    if not inside.any() and area(rings[0]) > 0:
        x, y = np.floor((low + high) / 2).astype(int).tolist()
        if 0 <= x < width and 0 <= y < height:
            mask[y, x] = True
        return
    for hole in rings[1:]:
        inside &= ~_odd(hole - (left, top), part.shape)
    part |= inside


def _odd(ring: Ring, shape: tuple[int, ...]) -> Mask:
    """(h, w) whether a ray to the left of each pixel's centre meets the ring an odd number of times."""
    height, width = shape
    start, end = ring, np.roll(ring, -1, axis=0)
    rows = np.clip(np.ceil(np.stack([start[:, 1], end[:, 1]]) - 0.5), 0, height).astype(np.int64)
    first, last = rows.min(axis=0), rows.max(axis=0)
    turns = np.zeros((height, width + 1), np.uint8)
    for edges in _batches(last - first):
        counts = (last - first)[edges]
        edge = np.repeat(edges, counts)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
        (x, y), (dx, dy) = start[edge].T, (end - start)[edge].T
        at = x + (row + 0.5 - y) * dx / dy
        np.bitwise_xor.at(turns, (row, np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)), 1)
    return np.bitwise_xor.accumulate(turns, axis=1)[:, :width].astype(bool)


def _batches(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Edges that cross a row, in groups of about CROSSINGS."""
    crossing = np.flatnonzero(counts)
    if counts.sum() <= CROSSINGS:
        return [crossing]
    group = np.cumsum(counts[crossing]) // CROSSINGS
    return np.split(crossing, np.flatnonzero(np.diff(group)) + 1)

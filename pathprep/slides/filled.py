"""Polygons to pixels, all at once: what it costs follows their edges, not their number times the picture.

Method: a ring encloses, in each row of pixels, what lies between its first and second crossing, its third
and fourth, and so on (the even-odd rule). So the crossings of many rings are found and sorted together, and
are the ends of spans. The spans of holes are taken from those of their outline; what is left is joined and
painted once.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pathprep.slides.geojson import Ring, area
from pathprep.slides.tissue import Mask

Numbers = npt.NDArray[np.int64]
POINTS = 1 << 19  # of polygons that are held at a time
CROSSINGS = 1 << 20  # of edges and rows that are held at a time
STRIP = 1 << 24  # pixels that are painted at a time


class _Spans(NamedTuple):
    """Stretches of pixels, (n,) each: from ``start`` up to ``end``, counted along the rows of a picture."""

    start: Numbers
    end: Numbers


class _Edges(NamedTuple):
    """Edges of polygons, in their order.

    Attributes:
        start, end: (n, 2) x, y in pixels from the corner of the polygon's box.
        ring: (n,) number of the ring. first, last: (n,) rows that it crosses, the last not among them.
    """

    start: Ring
    end: Ring
    ring: Numbers
    first: Numbers
    last: Numbers

    def among(self, chosen: Numbers | slice) -> "_Edges":
        """Some of them."""
        start, end, ring, first, last = self
        return _Edges(start[chosen], end[chosen], ring[chosen], first[chosen], last[chosen])


class _Boxes(NamedTuple):
    """Of each polygon, in pixels of the mask, cut off there: (n, 2) corners, (n, 2) width and height."""

    corner: Numbers
    size: Numbers


def fill(mask: Mask, rings: Sequence[Ring]) -> None:
    """Set the pixels of one polygon, whose coordinates are pixels of the mask; see ``fill_all``."""
    fill_all(mask, [rings])


def fill_all(
    mask: Mask,
    polygons: Sequence[Sequence[Ring]],
    corner: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Set the pixels of a mask (h, w) whose centres lie inside any of the polygons.

    Args:
        polygons: the outline, then holes, (n, 2) each; ``(ring + corner) * scale`` are x, y in pixels of
            the mask, whose first pixel's centre is at .5, .5. Of a ring that crosses itself, what an odd
            number of its turns encloses is inside.

    A polygon too small to hold any centre takes the pixel that its middle lies in, so that none is lost.
    """
    start = count = 0
    for number, rings in enumerate(polygons):
        count += sum(map(len, rings))
        if count >= POINTS or number == len(polygons) - 1:
            _fill_some(mask, polygons[start : number + 1], corner, scale)
            start, count = number + 1, 0


def _fill_some(
    mask: Mask,
    polygons: Sequence[Sequence[Ring]],
    corner: tuple[float, float],
    scale: tuple[float, float],
) -> None:
    """``fill_all`` of so many that all their points are held at once."""
    rings = [ring for polygon in polygons for ring in polygon]
    owner = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    outer = np.flatnonzero(np.diff(owner, prepend=-1))
    lengths = np.array([len(ring) for ring in rings])
    firsts = np.cumsum(lengths) - lengths
    points = (np.concatenate(rings) + corner) * scale
    low, high = (each.reduceat(points, firsts)[outer] for each in (np.minimum, np.maximum))
    sides = np.array(mask.shape[::-1])
    near, far = (np.clip(ends, 0, sides).astype(np.int64) for ends in (np.floor(low), np.ceil(high)))
    boxes = _Boxes(near, np.maximum(far - near, 0))
    there = boxes.size.all(axis=1)
    boxes.size[~there] = 0
    ring = np.repeat(np.arange(len(rings)), lengths)
    points -= near[owner[ring]]
    ends = np.append(points[1:], points[:1], axis=0)
    ends[firsts + lengths - 1] = points[firsts]
    heights = boxes.size[owner[ring], 1]
    rows = [np.clip(np.ceil(each[:, 1] - 0.5), 0, heights).astype(np.int64) for each in (points, ends)]
    edges = _Edges(points, ends, ring, np.minimum(*rows), np.maximum(*rows))
    held = np.zeros(len(polygons), bool)  # that hold a centre
    for part in _parts(edges, owner):
        _paint(mask, _joined(_inside(part, owner, outer, boxes, held, mask.shape[1] + 1)))
    for number in np.flatnonzero(there & ~held).tolist():
        if area((polygons[number][0] + corner) * scale) > 0:
            x, y = np.floor((low[number] + high[number]) / 2).astype(int).tolist()
            if 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]:
                mask[y, x] = True


def _parts(edges: _Edges, owner: Numbers) -> Iterator[_Edges]:
    """Polygons of together about CROSSINGS; of one that has more, some rows at a time."""
    crossings = edges.last - edges.first
    crossing = np.flatnonzero(crossings)
    if not len(crossing):
        return
    edges = edges.among(crossing)
    crossings = crossings[crossing]
    polygon = owner[edges.ring]
    starts = np.flatnonzero(np.diff(polygon, prepend=-1))
    sums = np.add.reduceat(crossings, starts)
    group = np.cumsum(sums) // CROSSINGS
    for part in np.split(np.arange(len(starts)), np.flatnonzero(np.diff(group)) + 1):
        end = starts[part[-1] + 1] if part[-1] + 1 < len(starts) else len(polygon)
        some = edges.among(slice(starts[part[0]], end))
        if sums[part].sum() <= 2 * CROSSINGS:
            yield some
            continue
        counts = np.zeros(int(some.last.max()) + 1, np.int64)
        np.add.at(counts, some.first, 1)
        np.add.at(counts, some.last, -1)
        band = np.cumsum(np.cumsum(counts)) // CROSSINGS
        stops = [0, *(np.flatnonzero(np.diff(band)) + 1).tolist(), len(counts)]
        for top, bottom in pairwise(stops):
            near = some.among(np.flatnonzero((some.first < bottom) & (some.last > top)))
            if len(near.ring):
                yield near._replace(first=np.maximum(near.first, top), last=np.minimum(near.last, bottom))


def _inside(edges: _Edges, owner: Numbers, outer: Numbers, boxes: _Boxes, held: Mask, stride: int) -> _Spans:
    """What lies inside the outlines and in no hole of theirs, counted along rows of ``stride``.

    Args:
        owner: (r,) polygon of each ring. outer: (p,) outline of each polygon.
        held: (p,) is set where there is any.
    """
    counts = edges.last - edges.first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = edges.first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    x, y = edges.start[edge].T
    dx, dy = (edges.end - edges.start)[edge].T
    at = x + (row + 0.5 - y) * dx / dy
    ring = edges.ring[edge]
    width, height = boxes.size[owner[ring]].T
    column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)

    # A place of its own for each ring, row by row: sorted, each row's crossings follow each other in pairs
    lowest = int(edges.ring.min())
    room = np.zeros(int(edges.ring.max()) - lowest + 2, np.int64)
    room[ring - lowest + 1] = height * (width + 1)
    base = np.cumsum(room)
    places = np.sort(base[ring - lowest] + row * (width + 1) + column)
    starts, ends = places[0::2], places[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    number = np.searchsorted(base, starts, side="right") - 1
    ring = number + lowest
    polygon = owner[ring]
    across = boxes.size[polygon, 0] + 1
    row, column = np.divmod(starts - base[number], across)
    is_outer = outer[polygon] == ring
    held[polygon[is_outer]] = True

    # The same by polygon, and on the picture
    start = (row + boxes.corner[polygon, 1]) * stride + column + boxes.corner[polygon, 0]
    spans = _Spans(start, start + ends - starts)
    if is_outer.all():
        return spans
    turn = int(spans.end.max()) + 1  # polygons one after the other
    shift = (polygon - polygon.min()) * turn
    keys = np.concatenate([spans.start + shift, spans.end + shift])
    weights = np.concatenate([np.where(is_outer, 1, 2), np.where(is_outer, -1, -2)])
    order = np.argsort(keys, kind="stable")
    keys, state = keys[order], np.cumsum(weights[order])
    left = np.flatnonzero((state[:-1] == 1) & (keys[1:] > keys[:-1]))  # an outline is open there, and no hole
    return _Spans(keys[left] % turn, (keys[left + 1] - 1) % turn + 1)


def _joined(spans: _Spans) -> _Spans:
    """The same pixels in spans that are sorted and do not touch."""
    order = np.argsort(spans.start, kind="stable")
    start, end = spans.start[order], np.maximum.accumulate(spans.end[order])
    fresh = np.flatnonzero(np.append(True, start[1:] > end[:-1])[: len(start)])
    return _Spans(start[fresh], np.append(end[fresh[1:] - 1], end[-1:])[: len(fresh)])


def _paint(mask: Mask, spans: _Spans) -> None:
    """Set the pixels of spans that are sorted and do not touch; rows are one longer than the mask's."""
    if not len(spans.start):
        return
    stride = mask.shape[1] + 1
    rows = max(1, STRIP // stride)
    for top in range(int(spans.start[0]) // stride, int(spans.end[-1]) // stride + 1, rows):
        bottom = min(top + rows, len(mask))
        part = slice(*np.searchsorted(spans.start, [top * stride, bottom * stride]))
        turns = np.zeros((bottom - top) * stride, np.uint8)
        turns[spans.start[part] - top * stride] = 1
        turns[spans.end[part] - top * stride] = 1
        np.bitwise_xor.accumulate(turns, out=turns)
        mask[top:bottom] |= turns.reshape(-1, stride)[:, :-1].view(bool)

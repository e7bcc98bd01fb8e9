"""Tiles of one class that touch, as one area with exact corners."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes
from pathprep.scores.placed import Placed
from pathprep.slides.geojson import Ring, area

Cells = npt.NDArray[np.bool_]


def merged(scores: Placed, classes: Classes) -> Iterator[tuple[int, list[Ring]]]:
    """The areas of each class: its code, and [outline, hole, ...], closed, in level-0 pixels.

    Raises:
        UsageError: tiles overlap, or do not lie in one grid.
    """
    rows = scores.rows
    side = int(rows.side[0])
    corner = np.array([rows.x.min(), rows.y.min()])
    columns, column_rest = np.divmod(rows.x - corner[0], side)
    lines, line_rest = np.divmod(rows.y - corner[1], side)
    if (rows.side != side).any() or column_rest.any() or line_rest.any():
        raise UsageError(
            f"{scores.slide}: its tiles overlap or lie in no grid of {side} px; without `merge` they are "
            "written one by one"
        )
    codes = np.full((int(lines.max()) + 1, int(columns.max()) + 1), -1)
    codes[lines, columns] = classes.codes
    for code in range(len(classes.names)):
        labels, _ = ndimage.label(codes == code)
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            start = np.array([box[1].start, box[0].start])
            rings = [(ring + start) * side + corner for ring in outline(labels[box] == number)]
            yield code, [np.minimum(ring, [scores.width, scores.height]) for ring in rings]


def outline(cells: Cells) -> list[Ring]:
    """[outline, hole, ...] of one piece (4-connected): closed rings of x, y, a cell is 1 x 1.

    Edges between a cell inside and one outside are walked with the inside on the right. Where two cells touch
    at a corner alone, the walk crosses to the other one: a hole then touches the outline in a point, which is
    valid, where the other way an outline would touch itself, which is not.
    """
    padded = np.pad(cells, 1)
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(starts: npt.NDArray[np.intp], shift: tuple[int, int], step: tuple[int, int]) -> None:
        for y, x in starts.tolist():
            leaving.setdefault((x - 1 + shift[0], y - 1 + shift[1]), []).append(step)

    add(np.argwhere(padded[1:-1, 1:-1] & ~padded[:-2, 1:-1]) + 1, (0, 0), (1, 0))  # top, to the right
    add(np.argwhere(padded[1:-1, 1:-1] & ~padded[1:-1, 2:]) + 1, (1, 0), (0, 1))  # right, down
    add(np.argwhere(padded[1:-1, 1:-1] & ~padded[2:, 1:-1]) + 1, (1, 1), (-1, 0))  # bottom, to the left
    add(np.argwhere(padded[1:-1, 1:-1] & ~padded[1:-1, :-2]) + 1, (0, 1), (0, -1))  # left, up
    rings: list[Ring] = []
    while leaving:
        at, (step, *_) = next(iter(leaving.items()))
        points, first = [at], at
        while True:
            ways = leaving[at]
            if len(points) > 1:
                step = ways[0] if len(ways) == 1 else (step[1], -step[0])  # to the left: y grows downwards
            ways.remove(step)
            if not ways:
                del leaving[at]
            at = at[0] + step[0], at[1] + step[1]
            if at == first:
                break
            points.append(at)
        rings.append(_corners(points))
    rings.sort(key=area, reverse=True)
    return rings


def _corners(points: list[tuple[int, int]]) -> Ring:
    """The points where the direction changes, the first once more at the end."""
    ring = np.asarray(points, np.float64)
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    kept = ring[(before != after).any(axis=1)]
    return np.concatenate([kept, kept[:1]])

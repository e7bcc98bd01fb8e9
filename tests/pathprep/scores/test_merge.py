"""Tiles of one class as areas: exact, and valid to those who read polygons strictly."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes
from pathprep.scores.merge import merged, outline
from pathprep.scores.placed import Placed
from pathprep.scores.rows import Rows


def inside(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Cells whose centre is inside, by the even-odd rule."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    crossed = np.zeros(shape, int)
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if x0 == x1:  # an upright edge to the right of the centre
                crossed += (min(y0, y1) < y) & (y < max(y0, y1)) & (x < x0)
    return crossed % 2 == 1


@settings(deadline=None, max_examples=150)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_outlines_of_any_cells(cells: np.ndarray) -> None:
    labels, count = ndimage.label(cells)
    for number in range(1, count + 1):
        piece = labels == number
        rings = outline(piece)
        assert (inside(rings, cells.shape) == piece).all()
        for ring in rings:
            assert (ring[0] == ring[-1]).all()
            corners = {tuple(point) for point in ring[:-1].tolist()}
            assert len(corners) == len(ring) - 1  # no ring touches itself
        holes, _ = ndimage.label(np.pad(~piece, 1, constant_values=True))
        assert len(rings) == holes.max()  # one per part of the outside
        assert (inside(rings[:1], cells.shape) | ~piece).all()  # the first one holds all of it


def placed(x: list[int], y: list[int], codes: list[int], side: int = 10) -> Placed:
    rows = Rows(
        np.array(x),
        np.array(y),
        np.full(len(x), side),
        {"c": Classes(("a", "b"), np.array(codes))},
        np.arange(len(x)),
    )
    return Placed("s", 35, 100, rows)


def test_places_classes_and_the_slides_edge() -> None:
    scores = placed([5, 15, 25, 5], [7, 7, 7, 17], [0, 0, 1, 0])
    classes = scores.rows.columns["c"]
    assert isinstance(classes, Classes)
    (code, (first,)), (other, (second,)) = merged(scores, classes)
    assert (code, other) == (0, 1)
    assert first.tolist() == [[5, 7], [25, 7], [25, 17], [15, 17], [15, 27], [5, 27], [5, 7]]
    assert second.max(axis=0).tolist() == [35, 17]


def test_tiles_that_overlap_are_refused() -> None:
    scores = placed([0, 5], [0, 0], [0, 0])
    classes = scores.rows.columns["c"]
    assert isinstance(classes, Classes)
    with pytest.raises(UsageError, match="overlap"):
        list(merged(scores, classes))

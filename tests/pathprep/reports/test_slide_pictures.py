"""Kept tiles and contours as SVG paths."""

import re

import numpy as np
import pytest

from pathprep.reports import slide_pictures


def covered(path: str) -> set[tuple[int, int]]:
    """Grid cells (x, y) inside a path of rectangles one cell high."""
    parts = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path)
    assert all(there == back for _, _, there, back in parts)
    return {(int(x) + step, int(y)) for x, y, width, _ in parts for step in range(int(width))}


@pytest.mark.parametrize("single", [True, False])
def test_cells_are_drawn_each_or_in_runs(single: bool) -> None:
    grid = np.random.default_rng(3).random((9, 7)) < 0.6
    cells = np.argwhere(grid)
    path = slide_pictures._squares(cells, single)
    assert covered(path) == {(x, y) for y, x in cells.tolist()}
    assert path.count("M") == len(cells) if single else path.count("M") < len(cells)


def test_contour_keeps_corners_only() -> None:
    ring = np.array([[0, 0], [10, 0], [20, 0], [20, 20], [20.2, 20.3], [0, 20], [0, 0]], float)
    assert slide_pictures._ring(ring, 2.0) == "M0 0l10 0 0 10 -10 0z"
    assert slide_pictures._ring(ring, 100.0) == ""

"""Pictures of scores: where tiles are, what overlapping ones have in common, and colours."""

import numpy as np
import pytest
from matplotlib import colormaps

from pathprep.scores import colours, raster
from pathprep.scores.columns import Classes, Column
from pathprep.scores.placed import Placed
from pathprep.scores.rows import Rows
from pathprep.slides.readers.base import Bounds


def placed(x: list[int], y: list[int], column: Column, side: int = 64, size: int = 256) -> Placed:
    rows = Rows(np.array(x), np.array(y), np.full(len(x), side), {"s": column}, np.arange(len(x)))
    return Placed("s", size, size, rows)


@pytest.mark.parametrize("name", ["viridis", "cividis", "coolwarm"])
def test_maps_are_those_of_matplotlib(name: colours.Map) -> None:
    theirs = 255 * colormaps[name](np.arange(256))[:, :3]
    assert np.abs(colours.table(name) - theirs).max() < 6.5


def test_class_colours_differ_and_stay() -> None:
    many = colours.class_colours(40)
    assert (colours.class_colours(3) == many[:3]).all()
    assert len({tuple(one) for one in many.tolist()}) == 40


def test_ends() -> None:
    assert colours.ends(0.1, 0.9) == (0, 1)
    assert colours.ends(0.1, 0.2) == (0.1, 0.2)  # attention after a softmax
    assert colours.ends(3, 3) == (2.5, 3.5)


def test_overlapping_tiles_are_averaged_against_a_plain_reference() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 200, 60).tolist(), rng.integers(0, 200, 60).tolist()
    values = rng.random(60)
    scores = placed(x, y, values, side=32)
    seen = raster.View(0, 0, 256, 256, 256, 256)
    picture, there = raster.paint(scores, values, seen, "viridis", (0, 1))
    table = colours.table("viridis").astype(int)
    for py in range(0, 256, 17):
        for px in range(0, 256, 13):
            over = [
                v for tx, ty, v in zip(x, y, values, strict=True) if 0 <= px - tx < 32 and 0 <= py - ty < 32
            ]
            assert there[py, px] == bool(over)
            if over:
                expected = table[round(255 * float(np.mean(over)))]
                assert np.abs(picture[py, px] - expected).max() <= 4  # a step of the map, at .5


def test_classes_by_most_tiles() -> None:
    classes = Classes(("a", "b"), np.array([1, 1, 0, -1]))
    scores = placed([0, 32, 32, 128], [0, 0, 0, 0], classes)
    seen = raster.View(0, 0, 256, 256, 256, 256)
    picture, there = raster.paint(scores, classes, seen, "viridis", (0, 1))
    two = colours.class_colours(2).tolist()
    assert picture[10, 10].tolist() == picture[10, 50].tolist() == two[1]
    assert picture[10, 80].tolist() == two[0]
    assert not there[10, 130]


def test_a_part_is_cut_where_it_begins() -> None:
    scores = placed([64, 128], [64, 64], np.array([0.0, 1.0]))
    seen, by = raster.view(scores, Bounds(64, 64, 128, 64))
    assert (seen.columns, seen.rows, by) == (32, 16, 4)
    assert raster.boxes(scores, seen).tolist() == [[0, 0, 16, 16], [16, 0, 32, 16]]
    whole, _ = raster.view(scores, None)
    assert (whole.columns, whole.rows) == (64, 64)


def test_neighbours_share_an_edge_at_any_scale() -> None:
    x = [0, 57, 114, 171]
    scores = placed(x, [0] * 4, np.arange(4.0), side=57)
    edges = raster.boxes(scores, raster.View(0, 0, 256, 256, 77, 77))
    assert edges[1:, 0].tolist() == edges[:-1, 2].tolist()


def test_opacity() -> None:
    below = np.full((2, 2, 3), 100, np.uint8)
    colour = np.full((2, 2, 3), 200, np.uint8)
    there = np.array([[True, False], [False, False]])
    mixed = raster.over(below, colour, there, 0.25)
    assert mixed[0, 0].tolist() == [125] * 3
    assert mixed[1, 1].tolist() == [100] * 3
    assert raster.over(None, colour, there, 1)[0, 1].tolist() == [255] * 3


def test_levels_are_halves_of_odd_sides_too() -> None:
    shapes = [level.shape[:2] for level in raster.halves(np.zeros((901, 1400, 3), np.uint8), 256)]
    assert shapes == [(901, 1400), (451, 700), (226, 350), (113, 175)]

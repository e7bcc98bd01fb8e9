"""Figures as means of ratios over groups, against sums by hand and the scores of labelled tiles."""

import numpy as np
import pytest

from pathtrain.evaluate.tile_level.labelled import Set, score
from pathtrain.evaluate.units import Units, compared


def drawn(seed: int) -> tuple[Set, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, group = rng.integers(3, size=200), rng.integers(12, size=200)
    right = np.where(rng.random(200) < 0.7, labels, rng.integers(3, size=200))
    wrong = np.where(rng.random(200) < 0.4, labels, rng.integers(3, size=200))
    return Set({}, labels, group), right[None, None], wrong[None, None]


def units(tiles: Set, guesses: np.ndarray) -> Units:
    sums, counts = np.zeros((12, 3)), np.zeros((12, 3))
    np.add.at(counts, (tiles.group, tiles.labels), 1)
    np.add.at(sums, (tiles.group, tiles.labels), guesses[0, 0] == tiles.labels)
    return Units(tuple(map(str, range(12))), sums, counts)


def test_balanced_accuracy_is_that_of_labelled_tiles_with_its_intervals() -> None:
    tiles, good, bad = drawn(3)
    found = compared({"model": units(tiles, good), "colour": units(tiles, bad)}, "balanced", 5)
    wanted = {row["name"]: row for row in score({"model": good, "colour": bad}, tiles, list("abc"), 5)}
    for name, row in found.items():
        assert row["balanced"] == pytest.approx(wanted[name]["balanced"])
        assert row["balanced_interval"] == pytest.approx(wanted[name]["balanced_interval"])
    lead = wanted["colour"]["lead"]
    assert found["model"]["lead"] is None
    assert found["colour"]["lead"]["balanced"] == pytest.approx(lead["balanced"])
    assert found["colour"]["lead"]["balanced_interval"] == pytest.approx(lead["balanced_interval"])


def test_a_column_that_counts_nothing_is_left_out() -> None:
    each = Units(("a", "b"), np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert each.figure(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])).tolist() == pytest.approx(
        [0.5, 1.0, np.nan], nan_ok=True
    )


def test_figures_of_other_groups_are_refused() -> None:
    one, two = (Units((name,), np.ones((1, 1)), np.ones((1, 1))) for name in "ab")
    with pytest.raises(ValueError, match="other groups"):
        compared({"model": one, "colour": two}, "x", 0)


def test_a_figure_of_one_group_alone_has_no_interval() -> None:
    names = ("a", "b", "c")
    one = Units(names, np.array([[3.0], [0.0], [0.0]]), np.array([[4.0], [0.0], [0.0]]))
    all_ = Units(names, np.array([[3.0], [1.0], [2.0]]), np.full((3, 1), 4.0))
    found = compared({"model": all_, "colour": one}, "x", 0)
    assert found["colour"]["x"] == 0.75
    assert found["colour"]["x_interval"] is None
    assert found["colour"]["lead"]["x_interval"] is None
    assert found["model"]["x_interval"] is not None

"""MaRI, CRoMa and their tails against croma."""

import numpy as np
import pytest
from croma import CRoMa, MaRI
from helpers.cohorts import balanced, cohort, features, manifest

from pathtrain.evaluate.shifts.found import Found, Tail, joined
from pathtrain.evaluate.shifts.index import search
from pathtrain.evaluate.shifts.margin import margins
from pathtrain.evaluate.statistics import Doubles
from pathtrain.params.robustness import NeighbourParams


def once(found: Found, key: str) -> float:
    unit = found.units[key]
    return float(unit.figure(np.ones((1, len(unit.groups))))[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_all_of_cromas_figures(seed: int) -> None:
    made = balanced(classes=3, centres=3, patients=4)
    points = features(made, label=0.6, column=0.7, seed=seed)
    nears, k, _ = search(points, made, NeighbourParams(k=15), 0)
    found = margins(points, made, nears, k)
    options = {"confounder_column": "center"}
    mari = MaRI.compute(points, manifest(made), k_candidates=[15], **options)
    theirs = CRoMa.compute(points, manifest(made), **options)
    assert found.facts["mari_tau"] == pytest.approx(mari.tau, rel=1e-5)
    assert once(found, "mari") == pytest.approx(mari.value, abs=1e-5)
    assert once(found, "croma") == pytest.approx(theirs.value, abs=1e-5)
    assert once(found, "tail") == pytest.approx(theirs.ltm_alpha, abs=1e-5)
    assert once(found, "fragile") == pytest.approx(theirs.f0, abs=1e-12)
    assert found.facts["margin_left_out"] == 0


def test_tiles_without_five_of_a_kind_are_left_out_and_counted() -> None:
    # the third class is at one centre only: its tiles have no SO at all
    label, column = np.repeat([0, 0, 1, 1, 2], 12), np.repeat([0, 1, 0, 1, 0], 12)
    made = cohort(label, column, np.arange(60) // 3)
    points = features(made, label=1, column=1)
    nears, k, _ = search(points, made, NeighbourParams(k=9), 0)
    found = margins(points, made, nears, k)
    assert found.facts["margin_left_out"] == 12
    kept = np.flatnonzero(label < 2)
    # of the others the margin counts neighbours of the third class too, so croma is asked for the whole
    with pytest.raises(RuntimeError, match="could not find"):
        CRoMa.compute(points, manifest(made), confounder_column="center")
    assert found.units["croma"].counts.sum() == len(kept)


def test_identical_features_have_no_margin() -> None:
    made = balanced()
    points = np.ones((len(made), 4), np.float32)
    nears, k, _ = search(points, made, NeighbourParams(k=9), 0)
    found = margins(points, made, nears, k)
    assert found.figures == {"croma": None, "tail": None, "fragile": None}
    assert 0 <= once(found, "mari") <= 1


def test_copies_that_differ_by_rounding_alone_have_no_margin() -> None:
    # latent-reasoning-works/manylatents#304: of duplicates float32 leaves residues, whose ratio says nothing
    made = balanced()
    rng = np.random.default_rng(0)
    points = (rng.normal(size=64) * rng.uniform(0.1, 50, (len(made), 1))).astype(np.float32)
    nears, k, _ = search(points, made, NeighbourParams(k=9), 0)
    found = margins(points, made, nears, k)
    assert found.facts["margin_left_out"] == len(made)
    assert found.facts["mari_tau"] == 0.2


def repeated(values: Doubles, group: Doubles, drawn: Doubles, share: float, mean: bool) -> float:
    rows = np.repeat(values, drawn.astype(int)[group])
    end = np.percentile(rows, share * 100)
    return float(rows[rows <= end].mean() if mean else end)


@pytest.mark.parametrize(("share", "mean"), [(0.5, False), (0.1, True), (0.1, False)])
def test_a_tail_of_drawn_groups_is_that_of_their_tiles(share: float, mean: bool) -> None:
    rng = np.random.default_rng(0)
    values, group = rng.normal(size=101), rng.integers(0, 7, 101)
    tail = Tail.of(values, group, [str(number) for number in range(7)], share, mean)
    drawn = rng.integers(0, 3, (20, 7)).astype(float)
    expected = [repeated(values, group, each, share, mean) for each in drawn]
    assert tail.figure(drawn) == pytest.approx(expected)


def test_several_networks_give_one_tail_of_all_their_tiles() -> None:
    one = Tail.of(np.array([1.0, 2.0]), np.array([0, 1]), ["a", "b"], 0.5)
    two = Tail.of(np.array([3.0, 10.0]), np.array([0, 1]), ["a", "b"], 0.5)
    both = joined([Found({"croma": one}, {"x": 1.0}), Found({"croma": two}, {"x": 2.0})])
    assert once(both, "croma") == 2.5
    assert both.figures == {"x": 1.5}

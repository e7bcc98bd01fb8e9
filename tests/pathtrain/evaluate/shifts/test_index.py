"""The robustness index: against croma, PathoROB's definition in float64, and data whose index is known."""

import numpy as np
import pytest
import torch
from croma import RI
from helpers.cohorts import balanced, cohort, features, manifest

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts.cohort import Cohort, most_neighbours
from pathtrain.evaluate.shifts.index import FIRST, search, subsets
from pathtrain.params.robustness import NeighbourParams


def brute(points: np.ndarray, made: Cohort, k: int) -> float:
    """By its definition, tile by tile in float64."""
    wide = points.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    so = os = 0
    for row in range(len(made)):
        others = np.flatnonzero(made.group != made.group[row])
        near = others[np.argsort(-(wide[others] @ wide[row]), kind="stable")[:k]]
        label, value = made.label[near] == made.label[row], made.column[near] == made.column[row]
        so += int((label & ~value).sum())
        os += int((~label & value).sum())
    return so / (so + os)


def uneven(seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 40, 400)
    return cohort(rng.integers(0, 3, 400), (group % 4), group)


def test_it_is_cromas_at_the_same_k_and_by_its_definition() -> None:
    made = uneven()
    points = features(made, label=0.5, column=0.6)
    tries = [*FIRST, *range(11, 61, 10)]
    _, k, found = search(points, made, NeighbourParams(most_k=51), 0)
    theirs = RI.compute(points, manifest(made), confounder_column="center", k_candidates=tries)
    assert k == theirs.k == found.facts["index_k"]
    value = found.units["index"].figure(np.ones((1, len(made.groups))))[0]
    assert value == pytest.approx(theirs.value, abs=1e-12)
    assert value == pytest.approx(brute(points, made, k), abs=1e-12)
    assert found.facts["index_support"] == pytest.approx(theirs.support)
    curve = RI.compute_curve(points, manifest(made), confounder_column="center", k_values=tries)
    assert found.facts["index_curve"] == pytest.approx({str(each): curve[each] for each in tries})


@pytest.mark.filterwarnings("ignore:.*support is:RuntimeWarning")  # croma's, of tiles without SO and OS
def test_paired_subsets_are_even_and_their_counts_are_added() -> None:
    made = uneven(1)
    points = features(made, label=0.5, column=0.6)
    parts = subsets(made, "paired", 0)
    assert len(parts) == 3 * 6
    for rows in parts:
        cells = made.take(rows).cells()
        assert len(set(cells[cells > 0].tolist())) == 1
    nears, k, found = search(points, made, NeighbourParams(design="paired", k=5), 0)
    so = sum(int(near.kinds(5)[0].sum()) for near in nears)
    os = sum(int(near.kinds(5)[1].sum()) for near in nears)
    assert k == 5
    value = found.units["index"].figure(np.ones((1, len(made.groups))))[0]
    assert value == pytest.approx(so / (so + os))
    joined = np.concatenate(parts)
    frame = manifest(made).iloc[joined].reset_index(drop=True)
    frame["subset"] = [str(number) for number, rows in enumerate(parts) for _ in rows]
    theirs = RI.compute(
        points[joined], frame, confounder_column="center", k_candidates=[5], evaluation_design="paired_2x2"
    )
    assert value == pytest.approx(theirs.value, abs=1e-9)


@pytest.mark.parametrize(("label", "column", "expected"), [(9.0, 0.0, 1.0), (0.0, 9.0, 0.0)])
def test_the_class_alone_is_one_and_the_centre_alone_nought(
    label: float, column: float, expected: float
) -> None:
    made = balanced()
    # few enough neighbours that the own kind does not run out of tiles of other patients
    _, _, found = search(features(made, label=label, column=column), made, NeighbourParams(k=11), 0)
    assert found.units["index"].figure(np.ones((1, len(made.groups))))[0] == expected


def test_noise_is_at_chance_which_is_not_a_half_where_centres_are_many() -> None:
    made = balanced(classes=2, centres=5, patients=6)
    points = features(made, label=0, column=0, dim=64)
    _, _, found = search(points, made, NeighbourParams(k=25), 0)
    value = found.units["index"].figure(np.ones((1, len(made.groups))))[0]
    assert found.figures["index_chance"] > 0.75
    assert value == pytest.approx(found.figures["index_chance"], abs=0.03)


def test_chance_is_counted_pair_by_pair() -> None:
    made = uneven(2)
    _, _, found = search(features(made, label=1, column=1), made, NeighbourParams(k=3), 0)
    so = os = 0.0
    for row in range(len(made)):
        others = made.group != made.group[row]
        label, value = made.label == made.label[row], made.column == made.column[row]
        so += (others & label & ~value).sum() / others.sum()
        os += (others & ~label & value).sum() / others.sum()
    assert found.figures["index_chance"] == pytest.approx(so / (so + os), abs=1e-12)


def test_it_is_the_same_under_autocast() -> None:
    made = uneven(3)
    points = features(made, label=0.5, column=0.5)
    plain = search(points, made, NeighbourParams(k=7), 0)[2]
    with torch.autocast("cpu", torch.bfloat16):
        cast = search(points, made, NeighbourParams(k=7), 0)[2]
    assert (plain.units["index"].sums == cast.units["index"].sums).all()


def test_more_neighbours_than_other_patients_have_are_refused() -> None:
    made = balanced()
    most = most_neighbours(made)
    with pytest.raises(UsageError, match=f"`k` {most + 1}: must be 1 to {most}"):
        search(features(made, label=1, column=1), made, NeighbourParams(k=most + 1), 0)


def test_where_few_neighbours_tell_both_the_k_is_one_at_which_some_differ() -> None:
    made = uneven()
    cells = np.concatenate([2 * np.eye(3)[made.label], np.eye(4)[made.column]], axis=1)
    points = (cells + np.random.default_rng(0).normal(0, 0.01, cells.shape)).astype(np.float32)
    _, k, found = search(points, made, NeighbourParams(most_k=51), 0)
    assert k > FIRST[0]  # the nearest share class and centre
    assert found.facts["index_curve"][str(FIRST[0])] is None
    assert found.facts["index_curve"][str(k)] == 1.0  # then those of the class
    with pytest.raises(UsageError, match="up to k 1; give a larger `k`"):
        search(points, made, NeighbourParams(k=1), 0)

"""Silhouettes, own share, and telling a column: brute force, chance and groups."""

import numpy as np
import pytest
from helpers.cohorts import balanced, cohort, features
from sklearn.metrics import silhouette_samples

from pathtrain.evaluate.shifts.found import Found
from pathtrain.evaluate.shifts.separation import by_chance, folded, shares, silhouettes, tells


def once(found: Found, key: str) -> float:
    unit = found.units[key]
    return float(unit.figure(np.ones((1, len(unit.groups))))[0])


def test_silhouettes_are_scikit_learns() -> None:
    made = balanced(centres=3)
    points = features(made, label=0.4, column=0.8)
    found = silhouettes(points, made)
    for key, numbers in (("silhouette_label", made.label), ("silhouette_column", made.column)):
        expected = silhouette_samples(points.astype(np.float64), numbers, metric="cosine").mean()
        assert once(found, key) == pytest.approx(expected, abs=1e-6)


def test_own_share_is_of_other_patients_and_chance_of_their_tiles() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 12, 90)
    made = cohort(rng.integers(0, 2, 90), group % 3, group)
    points = features(made, label=0.2, column=0.5)
    found = shares(points, made, 5)
    wide = points.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    own, chance = [], []
    for row in range(90):
        others = np.flatnonzero(group != group[row])
        near = others[np.argsort(-(wide[others] @ wide[row]))[:5]]
        own.append((made.column[near] == made.column[row]).mean())
        chance.append((made.column[others] == made.column[row]).mean())
    assert once(found, "own_share") == pytest.approx(np.mean(own))
    assert by_chance(made) == pytest.approx(chance)
    assert once(found, "excess") == pytest.approx((np.mean(own) - np.mean(chance)) / (1 - np.mean(chance)))


def test_within_a_class_a_column_that_follows_the_class_is_no_excess() -> None:
    # centre 0 has mostly class 0, centre 1 mostly class 1; the features know the class alone
    rng = np.random.default_rng(0)
    column = np.repeat([0, 1], 200)
    label = np.where(rng.random(400) < 0.9, column, 1 - column)
    made = cohort(label, column, np.arange(400))
    found = shares(features(made, label=4, column=0, dim=32), made, 20)
    assert once(found, "excess") > 0.3
    assert once(found, "excess_within") < 0.1


def test_what_is_in_features_is_told_and_what_is_not_is_not() -> None:
    made = balanced(centres=3, patients=8)
    found = tells(features(made, label=0, column=4, dim=32), made, 0)
    assert once(found, "column_knn") > 0.95
    assert once(found, "column_linear") > 0.95
    # without its own patient a tile has fewer others of its class: guessing is below a half
    assert once(found, "label_knn") < 0.6
    assert once(found, "label_linear") < 0.6


def test_a_layer_does_not_see_the_tiles_own_patient() -> None:
    # each patient has a direction of its own, by which it would be known again, and says nothing of others
    made = balanced(centres=2, patients=10, each=8)
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(len(made.groups), 64))[made.group] * 3).astype(np.float32)
    points += rng.normal(0, 0.1, points.shape).astype(np.float32)
    guesses = folded(points, made.column, made.group, 0)
    assert guesses is not None
    assert (guesses == made.column).mean() < 0.75
    assert folded(points, made.column, made.column, 0) is None  # a value is one group: nothing to learn from


def test_a_column_of_groups_cannot_be_told_from_other_groups() -> None:
    made = balanced()
    assert not tells(
        features(made, label=1, column=1), cohort(made.label, made.group, made.group, "tile"), 0
    ).units


def test_a_fold_with_all_of_a_class_says_nothing() -> None:
    """Two of three groups have the class, and the splitter puts both into one fold."""
    group = np.array([2, 0, 0, 1, 2, 2, 1, 0])
    numbers = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    assert folded(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32), numbers, group, 0) is None

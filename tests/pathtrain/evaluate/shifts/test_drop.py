"""Performance drop: PathoROB's sets and probe, croma's reductions, groups apart, known answers."""

import numpy as np
import pytest
from croma import apd, nipd
from croma.downstream._pathorob import get_patches_map_to_split, train_logistic_regression
from helpers.cohorts import balanced, cohort, features

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts import schedule
from pathtrain.evaluate.shifts.cohort import cramers_v
from pathtrain.evaluate.shifts.drop import (
    TooFew,
    cells_of,
    degradation,
    domains,
    drops,
    plan,
    probe,
    score,
)
from pathtrain.params.robustness import DropParams

QUICK = DropParams(steps=3, repeats=2)


@pytest.mark.parametrize(
    ("name", "base", "classes", "steps"), [("camelyon", 7, 2, 8), ("tolkach_esca", 3, 6, 4)]
)
def test_the_sets_are_pathorobs(name: str, base: int, classes: int, steps: int) -> None:
    ours = schedule.cells(base, classes, 2, steps)
    for split, found in enumerate(ours):
        theirs = np.zeros((2, classes), dtype=int)
        for centre, number, count in get_patches_map_to_split(name, split, 1)[0]:
            theirs[centre, number] = count
        # which classes go with which centre is a matter of names
        assert sorted(map(sorted, found.tolist())) == sorted(map(sorted, theirs.T.tolist()))
        assert cramers_v(found) == pytest.approx(cramers_v(theirs))


@pytest.mark.parametrize(("classes", "values"), [(2, 2), (3, 2), (2, 5), (4, 4), (5, 3)])
def test_sets_go_from_no_to_full_correlation_with_even_classes(classes: int, values: int) -> None:
    sets = schedule.cells(20, classes, values, 6)
    strengths = schedule.strengths(sets)
    assert strengths[0] == pytest.approx(0, abs=1e-9)
    assert strengths[-1] == pytest.approx(1)
    assert (np.diff(strengths) > 0).all()
    assert all((each.sum(axis=1) == 20 * values).all() for each in sets)


def test_the_probe_is_pathorobs_on_the_same_rows() -> None:
    made = balanced(each=8)
    points = features(made, label=0.5, column=0.5, noise=2)
    rng = np.random.default_rng(0)
    train, check, test = np.split(rng.permutation(len(made)), [60, 90])
    label = made.label
    _, _, (theirs,) = train_logistic_regression(
        points[train], label[train], points[check], label[check], [points[test]], [label[test]]
    )
    (guesses,) = probe((points[train], label[train]), (points[check], label[check]), [points[test]])
    recalls = [(guesses == label[test])[label[test] == each].mean() for each in (0, 1)]
    assert np.mean(recalls) == pytest.approx(theirs, abs=1e-12)


def test_the_reductions_are_cromas() -> None:
    rng = np.random.default_rng(0)
    scores, strengths = 0.9 - rng.random((5, 4)) * 0.3, [0, 0.2, 0.5, 0.8, 1.0]
    assert degradation(scores, strengths, 0.5) == pytest.approx(nipd(scores, strengths, 0.5))
    assert (scores[1:] / scores[0]).mean(axis=0).mean() - 1 == pytest.approx(apd(scores))
    assert degradation(np.full((5, 4), 0.5), strengths, 0.5) is None


def test_the_score_is_balanced_accuracy_where_cells_are_even() -> None:
    made = balanced()
    guesses = np.where(np.arange(len(made)) % 3 == 0, 1 - made.label, made.label)
    recalls = [(guesses == made.label)[made.label == each].mean() for each in (0, 1)]
    assert score(guesses, made.label, cells_of(made.label, made.column)) == pytest.approx(np.mean(recalls))


def test_groups_are_whole_and_sets_are_of_the_cells_that_are_said() -> None:
    made = balanced(centres=3, patients=12)
    found = plan(made, DropParams(steps=4, repeats=3, in_domain="centre0,centre2"), 0)
    assert found.trained.values == ["centre0", "centre2"]
    assert set(made.column[found.other]) == {1}
    for each in found.repeats:
        sides = [np.concatenate(each.train), np.concatenate(each.validate), each.test]
        owners = [set(found.trained.group[rows]) for rows in sides]
        assert not owners[0] & owners[1]
        assert not owners[0] & owners[2]
        assert not owners[1] & owners[2]
        for rows, cells in zip(each.train, found.sets, strict=True):
            assert (found.trained.take(rows).cells() == cells).all()
            assert len(set(rows)) == len(rows)


def test_features_of_the_class_lose_nothing_and_those_of_the_centre_all() -> None:
    made = balanced(centres=3, patients=12)
    found = plan(made, DropParams(steps=3, repeats=2, in_domain="centre0,centre1"), 0)
    whole = drops(features(made, label=5, column=0), found)
    assert whole.units["drop"].sums.mean() == pytest.approx(0, abs=0.02)
    # the class can be learnt where it is balanced, and is drowned where the centre says it louder
    torn = drops(features(made, label=0.8, column=3), found)
    assert torn.units["drop"].sums.mean() < -0.15
    assert torn.figures["nipd"] is not None
    assert torn.figures["nipd"] < -0.15
    assert len(torn.facts["drop_scores"]) == len(torn.facts["drop_outside_scores"]) == 3


def test_the_half_with_the_most_tiles_is_trained_on() -> None:
    column = np.repeat([0, 1, 2, 3], [40, 8, 60, 20])
    made = cohort(np.arange(len(column)) % 2, column, np.arange(len(column)) // 2)
    assert domains(made, None) == ([0, 2], [1, 3])
    with pytest.raises(UsageError, match="`in_domain` elsewhere: no centre of tiles"):
        domains(made, "centre0,elsewhere")
    with pytest.raises(UsageError, match="at least 2 values"):
        domains(made, "centre0")


def test_too_few_groups_or_classes_say_so() -> None:
    with pytest.raises(TooFew, match="too few to have each class"):
        plan(balanced(patients=1), QUICK, 0)
    label, column = np.repeat([0, 1, 0], 10), np.repeat([0, 0, 1], 10)
    with pytest.raises(TooFew, match="fewer than 2 classes"):
        plan(cohort(label, column, np.arange(30)), QUICK, 0)

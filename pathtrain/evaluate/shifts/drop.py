"""PathoROB's average performance drop: what a class learnt where it goes with a centre is worth.

A logistic regression is trained on each set of pathtrain.evaluate.shifts.schedule, its C the best of 15
from 1e-8 to 1e4 by the balanced accuracy on a validation set of the same composition, and tested on held
out groups of the same centres (in domain) and on other centres (out of domain), of which no set depends.

    drop        mean over the sets but the first of score / score of the first, less 1; mean over repeats.
    0: none nIPD        croma's: the mean score above chance that is lost, integrated over Cramer's V

Scores are the mean over cells (class and centre) of the share of right tiles: balanced accuracy where, as in
PathoROB's data, all cells of the test are of one size. Features are taken as they are, not standardised.

Intervals are over repeats, which share their tiles: they hold the sharing out and nothing of other patients.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts import schedule
from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.shifts.found import Found
from pathtrain.evaluate.statistics import Doubles, Floats, Ints
from pathtrain.evaluate.units import Units
from pathtrain.params.robustness import DropParams

STRENGTHS = 10 ** np.linspace(-8, 4, 15)  # of C
LEAST = 0.05  # above chance, where a share of it can be lost


class TooFew(UsageError):
    """The data do not allow the measure."""


def domains(cohort: Cohort, asked: str | None) -> tuple[list[int], list[int]]:
    """Values that are trained on, and the others.

    Raises:
        UsageError: an unknown value, or fewer than two.
    """
    if asked is not None:
        names = [name.strip() for name in asked.split(",")]
        unknown = [name for name in names if name not in cohort.values]
        if unknown:
            raise UsageError(
                f"`in_domain` {unknown[0]}: no {cohort.by} of {cohort.source}, which has "
                f"{', '.join(cohort.values)}"
            )
        inside = sorted({cohort.values.index(name) for name in names})
        if len(inside) < 2:
            raise UsageError(f"`in_domain` {asked}: give at least 2 values of {cohort.by}")
    else:
        smallest = cohort.cells().min(axis=0)
        number = len(cohort.values) if len(cohort.values) <= 3 else (len(cohort.values) + 1) // 2
        inside = sorted(np.argsort(-smallest, kind="stable")[:number].tolist())
    return inside, [value for value in range(len(cohort.values)) if value not in inside]


def plan(cohort: Cohort, params: DropParams, seed: int) -> "Plan":
    """Who is trained on and tested, the same for all kinds of features.

    Raises:
        TooFew: fewer than two classes are at all values that are trained on, or groups are too few.
    """
    inside, outside = domains(cohort, params.in_domain)
    named = ", ".join(cohort.values[value] for value in inside)
    classes = np.flatnonzero((cohort.cells()[:, inside] > 0).all(axis=1))
    if len(classes) < 2:
        raise TooFew(f"fewer than 2 classes are at all of {named}; name others with `in_domain`")
    known = np.isin(cohort.label, classes)
    rows = np.flatnonzero(known & np.isin(cohort.column, inside))
    part = cohort.take(rows)
    trained = Cohort(
        cohort.source, cohort.by, np.searchsorted(classes, part.label), [cohort.classes[c] for c in classes],
        np.searchsorted(inside, part.column), [cohort.values[v] for v in inside], part.group, part.groups,
        part.kind, part.apart,
    )  # fmt: skip
    other = np.flatnonzero(known & np.isin(cohort.column, outside))
    made = schedule.repeats(trained, params.repeats, params.steps, params.tiles, seed)
    if made is None:
        raise TooFew(
            f"the {cohort.kind}s are too few to have each class at each of {named} in training, validation "
            "and test; name others with `in_domain`"
        )
    repeats, sets = made
    return Plan(
        trained,
        rows,
        other,
        np.searchsorted(classes, cohort.label[other]),
        cohort.column[other],
        repeats,
        sets,
    )


class Plan:
    """Of all repeats: rows of the whole, and the cells of each training set.

    Args:
        trained: the in-domain tiles, classes and values numbered anew. rows: their rows in the whole.
        other, other_label, other_value: of tiles out of domain.
    """

    def __init__(
        self, trained: Cohort, rows: Ints, other: Ints, other_label: Ints, other_value: Ints,
        repeats: list[schedule.Repeat], sets: list[Ints],
    ) -> None:  # fmt: skip
        self.trained, self.rows, self.other = trained, rows, other
        self.other_label, self.other_value, self.repeats = other_label, other_value, repeats
        self.strengths, self.sets = schedule.strengths(sets), sets

    def about(self) -> dict[str, Any]:
        """What results say of it."""
        return {
            "classes": self.trained.classes,
            "in_domain": self.trained.values,
            "cramers_v": self.strengths,
            "training_cells": [each.tolist() for each in self.sets],
            "repeats": len(self.repeats),
            "out_of_domain_tiles": len(self.other),
        }


def drops(features: Floats, plan: Plan) -> Found:
    """Drop and nIPD of one kind of features, in and out of domain."""
    sets = len(plan.strengths)
    inside = np.empty((sets, len(plan.repeats)))
    outside = np.empty_like(inside)
    points, trained = features[plan.rows], plan.trained
    there, elsewhere = cells_of(trained.label, trained.column), cells_of(plan.other_label, plan.other_value)
    for number, each in enumerate(plan.repeats):
        tests = [points[each.test], features[plan.other]]
        for place in range(sets):
            train, check = each.train[place], each.validate[place]
            guesses = probe(
                (points[train], trained.label[train]), (points[check], trained.label[check]), tests
            )
            inside[place, number] = score(guesses[0], trained.label[each.test], there[each.test])
            if len(plan.other):
                outside[place, number] = score(guesses[1], plan.other_label, elsewhere)
    found = _figures("drop", "nipd", inside, plan)
    if len(plan.other):
        found |= _figures("drop_outside", "nipd_outside", outside, plan)
    return found


def _figures(drop: str, nipd: str, scores: Doubles, plan: Plan) -> Found:
    relative = (scores[1:] / np.maximum(scores[0], 1e-12)).mean(axis=0) - 1
    names = tuple(f"repeat {number}" for number in range(len(relative)))
    return Found(
        {drop: Units(names, relative[:, None], np.ones((len(relative), 1)))},
        {nipd: degradation(scores, plan.strengths, 1 / len(plan.trained.classes))},
        {f"{drop}_scores": scores.mean(axis=1).tolist()},
    )


def degradation(scores: Doubles, strengths: Sequence[float], chance: float) -> float | None:
    """croma's nIPD of scores (S, R); None where the first set is hardly better than chance."""
    mean = scores.mean(axis=1)
    if mean[0] < chance + LEAST:
        return None
    lost = (mean - mean[0]) / (mean[0] - chance)
    return float(np.sum(np.diff(strengths) * (lost[:-1] + lost[1:]) / 2))


def cells_of(label: Ints, value: Ints) -> Ints:
    """(N,) one number for each class and value."""
    return np.asarray(value * (int(label.max(initial=0)) + 1) + label)


def score(guesses: Ints, label: Ints, cell: Ints) -> float:
    """Mean over cells of the share of right tiles."""
    _, inverse = np.unique(cell, return_inverse=True)
    return float(np.mean(np.bincount(inverse, guesses == label) / np.bincount(inverse)))


def probe(train: tuple[Floats, Ints], check: tuple[Floats, Ints], tests: Sequence[Floats]) -> list[Ints]:
    """Guesses for each of ``tests`` by the regression that is best on ``check``."""
    best, found = -1.0, None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps, as PathoROB's
            model.fit(*train)
        right = balanced_accuracy_score(check[1], model.predict(check[0]))
        if right > best:
            best, found = right, model
    assert found is not None
    return [found.predict(each) if len(each) else np.empty(0, dtype=np.int64) for each in tests]

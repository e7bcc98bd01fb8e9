"""DeLong's test, Holm's correction, calibration and survival curves: against formulas and lifelines."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy.stats import norm
from torchmetrics.functional.classification import multiclass_calibration_error

from pathtrain.evaluate.slide_level.calibration import brier, calibration, ece
from pathtrain.evaluate.slide_level.comparisons import bootstrap_p, delong, holm
from pathtrain.evaluate.slide_level.measures import Fold, Predictions
from pathtrain.evaluate.slide_level.scores import score
from pathtrain.evaluate.slide_level.survival_curves import kaplan_meier, log_rank, risk_groups
from pathtrain.evaluate.slide_level.tasks import Task


def task(count: int, *, per_patient: int = 1, **more: Any) -> Task:
    owners = np.arange(count) // per_patient
    fields: dict[str, Any] = {
        "name": "t", "slides": [f"s{n}" for n in range(count)], "classes": ["no", "yes"],
        "labels": np.arange(count) % 2, "patients": [f"p{n}" for n in range(owners.max() + 1)],
        "patient": owners, "parts": None, "by_patient": True, "left_out": [],
    }  # fmt: skip
    return Task(**(fields | more))


def folds(of: Task, *scores: np.ndarray, parts: int = 1) -> list[Fold]:
    """Folds with a seed per score, of the positive class."""
    found = []
    for rows in np.array_split(np.arange(len(of.slides)), parts):
        seeds = [Predictions(rows, np.stack([1 - own[rows], own[rows]], axis=1)) for own in scores]
        found.append(Fold(of, seeds))
    return found


def textbook(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """DeLong 1988, equations 4 to 6, pair by pair."""
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    m, n = len(positive), len(negative)
    v10, v01, areas = np.zeros((2, m)), np.zeros((2, n)), np.zeros(2)
    for r, scores in enumerate((one, other)):
        for (i, x), (j, y) in product(enumerate(positive), enumerate(negative)):
            psi = 1.0 if scores[x] > scores[y] else 0.5 if scores[x] == scores[y] else 0.0
            v10[r, i] += psi / n
            v01[r, j] += psi / m
            areas[r] += psi / m / n
    s = np.cov(v10) / m + np.cov(v01) / n
    z = (areas[0] - areas[1]) / np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    return float(2 * norm.sf(abs(z)))


def test_delong_is_the_textbooks() -> None:
    rng, of = np.random.default_rng(0), task(60)
    one, other = (np.round(of.labels + rng.normal(scale=scale, size=60), 1) for scale in (1.0, 2.0))
    found = delong(folds(of, one), folds(of, other))
    assert found == pytest.approx(textbook(of.labels, one, other), rel=1e-12)
    assert delong(folds(of, one), folds(of, one)) == 1


def test_delong_of_hanley_and_mcneil_by_hand() -> None:
    """Three of each: areas 8/9 and 5/9; components written out."""
    of = task(6)
    of.labels[:] = [1, 1, 1, 0, 0, 0]
    one = np.array([0.9, 0.8, 0.4, 0.5, 0.3, 0.1])  # one pair is wrong
    other = np.array([0.9, 0.2, 0.4, 0.5, 0.3, 0.1])  # the second is ahead of one, the third of two
    v10 = np.array([[1, 1, 2 / 3], [1, 1 / 3, 2 / 3]])
    v01 = np.array([[2 / 3, 1, 1], [1 / 3, 2 / 3, 1]])
    gap = (v10[0] - v10[1]).var(ddof=1) / 3 + (v01[0] - v01[1]).var(ddof=1) / 3
    expected = 2 * norm.sf(2 / 9 / np.sqrt(gap))
    assert delong(folds(of, one), folds(of, other)) == pytest.approx(expected, rel=1e-12)


def test_delong_keeps_its_level_over_seeds_and_folds() -> None:
    """Two models that are equally good: p is uniform, so that a twentieth lies below .05."""
    rng, of, found = np.random.default_rng(1), task(80), []
    for _ in range(300):
        models = [[of.labels + rng.normal(scale=1.5, size=80) for _ in range(2)] for _ in range(2)]
        p = delong(folds(of, *models[0], parts=2), folds(of, *models[1], parts=2))
        assert p is not None
        found.append(p)
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09
    assert 0.4 < np.mean(found) < 0.6


def test_delong_is_not_for_patients_with_several_slides_or_more_classes() -> None:
    rng = np.random.default_rng(0)
    several, scores = task(20, per_patient=2), rng.normal(size=20)
    assert delong(folds(several, scores), folds(several, -scores)) is None
    three = task(21, classes=["a", "b", "c"], labels=np.arange(21) % 3)
    fold = Fold(three, [Predictions(np.arange(21), rng.dirichlet(np.ones(3), 21))])
    assert delong([fold], [fold]) is None


def test_holm_by_hand() -> None:
    # the example of Holm's paper's procedure: .01 x 4, .013 x 3 (not below the one before), .03 x 2, .2
    found = holm({"a": 0.013, "b": 0.01, "c": 0.2, "d": 0.03})
    assert found == {"b": pytest.approx(0.04), "a": pytest.approx(0.04), "d": pytest.approx(0.06), "c": 0.2}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_bootstrap_p() -> None:
    assert bootstrap_p(np.full(1999, 0.3)) == pytest.approx(2 / 2000)
    assert bootstrap_p(np.zeros(10)) == 1
    assert bootstrap_p(np.array([-1.0] * 30 + [1.0] * 69 + [np.nan])) == pytest.approx(2 * 31 / 100)


def test_leads_say_their_test_and_are_corrected_together() -> None:
    rng, of = np.random.default_rng(0), task(60)

    def runs(signal: float) -> list[list[Predictions]]:
        p = 1 / (1 + np.exp(-(signal * of.labels + rng.normal(size=60))))
        return [[Predictions(np.arange(60), np.stack([1 - p, p], axis=1))]]

    found = score(
        of, {(name, "abmil"): runs(signal) for name, signal in (("a", 3.0), ("b", 0.5), ("c", 0.0))}, 0
    )
    leads = [lead for row in found.values() for lead in row["leads"]]
    assert {lead["test"] for lead in leads} == {"DeLong"}
    # of three models there are three comparisons, each told from both sides
    ps = {frozenset((row[0], lead["model"])): lead["p"] for row in found for lead in found[row]["leads"]}
    assert len(ps) == 3
    for row in found:
        for lead in found[row]["leads"]:
            assert lead["p_holm"] == holm(ps)[frozenset((row[0], lead["model"]))]
    assert found["a", "abmil"]["leads"][1]["p_holm"] < 0.01
    several = task(60, per_patient=2)
    rows = {(name, "abmil"): runs(signal) for name, signal in (("a", 3.0), ("b", 0.0))}
    lead = score(several, rows, 0)["a", "abmil"]["leads"][0]
    assert lead["test"] == "paired bootstrap"
    assert lead["p"] < 0.05


@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_is_torchmetrics_and_the_formula(classes: int) -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.dirichlet(np.ones(classes), 200), rng.integers(0, classes, 200)
    expected = multiclass_calibration_error(
        torch.from_numpy(values), torch.from_numpy(labels), classes, n_bins=15, norm="l1"
    )
    assert ece(values, labels) == pytest.approx(expected.item(), abs=1e-6)
    wanted = np.eye(classes)[labels]
    squares = ((values - wanted) ** 2).sum(axis=1).mean()
    assert brier(values, labels) == pytest.approx(squares / 2 if classes == 2 else squares)


def test_a_model_that_knows_how_sure_it_is() -> None:
    rng, of = np.random.default_rng(0), task(4000)
    p = rng.random(4000)
    of.labels[:] = rng.random(4000) < p
    found = calibration([folds(of, p)])
    assert found["ece"] < 0.03
    assert all(abs(one["confidence"] - one["accuracy"]) < 0.08 for one in found["bins"])
    assert sum(one["share"] for one in found["bins"]) == pytest.approx(1)
    assert calibration([folds(of, (p > 0.5).astype(float))])["ece"] > 0.2  # always certain, a quarter wrong


def test_curves_and_log_rank_are_those_of_lifelines() -> None:
    rng = np.random.default_rng(0)
    times, events = rng.integers(1, 20, 80).astype(float), rng.integers(0, 2, 80)
    group = rng.random(80) < 0.5
    fitted = KaplanMeierFitter().fit(times, events)
    places, survival = kaplan_meier(times, events)
    np.testing.assert_allclose(survival, fitted.predict(places).to_numpy(), atol=1e-12)
    expected = logrank_test(times[group], times[~group], events[group], events[~group])
    assert log_rank(times, events, group) == pytest.approx(expected.p_value, rel=1e-9)
    assert log_rank(times, np.zeros(80, np.int64), group) is None
    assert log_rank(times, events, np.ones(80, np.bool_)) is None


def test_risk_groups_are_within_their_fold() -> None:
    """Hazards of folds are of other scales: ranks within each decide."""
    of = task(40, kind="survival", classes=[], labels=np.ones(40, np.int64), numbers=np.arange(40, 0, -1.0))
    made = []
    for rows, scale in ((np.arange(0, 40, 2), 1.0), (np.arange(1, 40, 2), 1000.0)):
        made.append(Fold(of, [Predictions(rows, scale * rows[:, None].astype(float))]))
    found = risk_groups(made)
    assert (found["high"]["rows"], found["low"]["rows"]) == (20, 20)
    assert max(found["high"]["times"]) < 21  # the higher the row, the earlier
    assert found["log_rank_p"] < 1e-6


def test_equal_risks_are_in_one_group() -> None:
    of = task(40, kind="survival", classes=[], numbers=np.arange(40.0) + 1)
    fold = Fold(of, [Predictions(np.arange(40), np.full((40, 1), 0.3))])
    found = risk_groups([fold])
    assert (found["high"]["rows"], found["low"]["rows"], found["log_rank_p"]) == (0, 40, None)

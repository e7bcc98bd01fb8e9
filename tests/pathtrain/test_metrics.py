"""Scores of features, against their definitions."""

import numpy as np
import pytest
from lifelines.utils import concordance_index
from scipy.linalg import svdvals
from scipy.stats import entropy, pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score

from pathtrain.metrics import (
    comparable,
    concordance,
    explained,
    figures_of,
    mean_error,
    median_rank,
    pearson,
    quadratic_kappa,
    rankme,
    spearman,
)


def test_effective_rank_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 30)) @ np.diag(0.8 ** np.arange(30.0)) + 0.5).astype(np.float32)
    values = svdvals(features.astype(np.float64))
    expected = np.exp(entropy(values / values.sum()))  # without the paper's 1e-7, which moves it by < 1e-4
    assert rankme(features) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("used", [1, 4, 16])
def test_equal_directions_count_one_each(used: int) -> None:
    features = np.tile(np.eye(16, dtype=np.float32)[:used], (8, 1))
    assert rankme(features) == pytest.approx(used, rel=1e-3)


def test_nothing_has_no_rank() -> None:
    assert rankme(np.zeros((5, 3), dtype=np.float32)) == 0


RNG = np.random.default_rng(0)
COUNT = 60
ONCE = np.ones((1, COUNT))


def test_kappa_is_sklearns() -> None:
    truth, guesses = RNG.integers(0, 5, (2, COUNT))
    found = quadratic_kappa(truth, guesses, 6, ONCE)[0]
    assert found == pytest.approx(cohen_kappa_score(truth, guesses, weights="quadratic"), abs=1e-12)
    same = np.full(COUNT, 2)
    assert np.isnan(quadratic_kappa(same, same, 6, ONCE)[0])


def test_numbers_are_scipys_and_sklearns() -> None:
    truth = np.round(RNG.normal(size=COUNT), 1) + 1e6  # ties, and far from 0
    said = truth + RNG.normal(size=COUNT)
    assert pearson(truth, said, ONCE)[0] == pytest.approx(pearsonr(truth, said).statistic, abs=1e-9)
    assert spearman(truth, said, ONCE)[0] == pytest.approx(spearmanr(truth, said).statistic, abs=1e-12)
    assert explained(truth, said, ONCE)[0] == pytest.approx(r2_score(truth, said), abs=1e-9)
    assert mean_error(truth, said, ONCE)[0] == pytest.approx(mean_absolute_error(truth, said), abs=1e-9)
    constant = np.ones(COUNT)
    assert np.isnan([f(constant, said, ONCE)[0] for f in (pearson, spearman, explained)]).all()


@pytest.mark.parametrize("resolution", [0, 1])
def test_c_index_is_that_of_lifelines(resolution: int) -> None:
    times = np.round(RNG.exponential(size=COUNT), resolution)  # many equal
    events, risks = RNG.integers(0, 2, COUNT), np.round(RNG.normal(size=COUNT), 1)
    found = concordance(comparable(times, events), risks, ONCE)[0]
    pairs = comparable(times, events)
    right = sum(
        1.0 if risks[a] > risks[b] else 0.5 if risks[a] == risks[b] else 0.0
        for a, b in zip(*np.nonzero(pairs), strict=True)
    )
    assert found == pytest.approx(right / pairs.sum(), abs=1e-12)
    if resolution == 0:
        return
    apart = np.arange(COUNT) * 1e-6 + times  # no two events at once: there lifelines counts a tie as half
    found = concordance(comparable(apart, events), risks, ONCE)[0]
    assert found == pytest.approx(concordance_index(apart, -risks, events), abs=1e-12)


def test_weights_are_copies_of_rows() -> None:
    truth, said = RNG.normal(size=(2, COUNT))
    ranks, guesses = RNG.integers(0, 4, (2, COUNT))
    times, events = RNG.integers(1, 9, COUNT).astype(float), RNG.integers(0, 2, COUNT)
    copies = RNG.integers(0, 3, (2, COUNT))
    for row, own in enumerate(copies):
        many = np.repeat(np.arange(COUNT), own)
        once = np.ones((1, len(many)))
        for figure in (pearson, spearman, explained, mean_error):
            weighted = figure(truth, said, copies.astype(float))[row]
            assert weighted == pytest.approx(figure(truth[many], said[many], once)[0], abs=1e-12)
        weighted = quadratic_kappa(ranks, guesses, 4, copies.astype(float))[row]
        assert weighted == pytest.approx(quadratic_kappa(ranks[many], guesses[many], 4, once)[0], abs=1e-12)
        weighted = concordance(comparable(times, events), said, copies.astype(float))[row]
        again = concordance(comparable(times[many], events[many]), said[many], once)[0]
        assert weighted == pytest.approx(again, abs=1e-12)


def test_a_rank_is_above_thresholds_that_are_likelier_than_not() -> None:
    assert median_rank(np.array([[0.6, 0.2, 0.2], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])).tolist() == [0, 1, 2]
    assert figures_of("survival", np.ones((3, 1)), np.zeros(3, np.int64), np.ones(3)) == {"c_index": None}

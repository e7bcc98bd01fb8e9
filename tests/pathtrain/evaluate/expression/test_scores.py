"""Correlations and their intervals against scipy, and with known answers."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from pathtrain.evaluate.expression import scores


def fold(seed: int, task: str = "t", shift: float = 0.0, spots: int = 60, networks: int = 2) -> scores.Scored:
    rng = np.random.default_rng(seed)
    truth = rng.normal(1000 + shift, 1, (spots, 3))
    truth[:, 2] = 4.0
    good = [truth + rng.normal(0, 1, truth.shape) for _ in range(networks)]
    flat = np.full_like(truth, 0.1) * (1 + 1e-16)
    square = np.arange(spots) % 12
    return scores.scored(task, str(seed), truth, {"model": good, "colour": [flat]}, square)


def test_they_are_scipys_and_a_still_gene_has_none() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.normal(5, 2, (2, 50, 4))
    one = scores.scored("t", "0", truth, {"model": [found]}, np.arange(50) % 7)
    expected = [pearsonr(truth[:, gene], found[:, gene])[0] for gene in range(4)]
    np.testing.assert_allclose(one.pearson["model"][0], expected, rtol=0, atol=1e-14)
    every = one.drawn("model", np.ones((1, 7)))
    np.testing.assert_allclose(every[0], expected, rtol=0, atol=1e-13)
    still = fold(0)
    assert still.varies.tolist() == [True, True, False]
    assert np.isnan(still.pearson["model"][:, 2]).all()
    assert still.flat == {"model": 0, "colour": 2}
    assert still.pearson["colour"][0, :2].tolist() == [0, 0]  # says nothing, and is not left out


def test_a_draw_of_squares_is_the_correlation_of_their_spots() -> None:
    rng = np.random.default_rng(1)
    truth, found = rng.normal(0, 1, (2, 40, 2))
    square = np.arange(40) % 5
    one = scores.scored("t", "0", truth, {"model": [found]}, square)
    copies = np.array([[2.0, 0, 1, 0, 3]])
    rows = np.concatenate([np.flatnonzero(square == part).repeat(int(n)) for part, n in enumerate(copies[0])])
    expected = [pearsonr(truth[rows, gene], found[rows, gene])[0] for gene in range(2)]
    np.testing.assert_allclose(one.drawn("model", copies)[0], expected, atol=1e-12)


def test_means_are_over_genes_then_folds_then_tasks() -> None:
    folds = [fold(0), fold(1), fold(2, task="other")]
    means = [np.nanmean(each.pearson["model"]) for each in folds]
    rows = scores.rows(folds, "pearson", seed=0)
    assert [row["name"] for row in rows] == ["model", "colour"]
    assert rows[0]["pearson"] == pytest.approx((np.mean(means[:2]) + means[2]) / 2)
    low, high = rows[0]["pearson_spots_interval"]
    assert low < rows[0]["pearson"] < high < 1
    assert rows[0]["lead"] is None
    assert rows[1]["lead"]["pearson"] == pytest.approx(rows[0]["pearson"])
    assert rows[1]["pearson_flat_predictions"] == 6
    assert rows[0]["pearson_range"][0] <= rows[0]["pearson"] <= rows[0]["pearson_range"][1]
    units = scores.units(folds)["model"]
    assert units.figure(np.ones((1, 3)))[0] == pytest.approx(rows[0]["pearson"])
    assert units.groups == ("t, fold 0", "t, fold 1", "other, fold 2")


def test_per_gene_the_interval_over_tissue_covers_what_was_drawn() -> None:
    """Truth and prediction share half of their variance: r is .707 in truth."""
    inside = 0
    for seed in range(20):
        row = scores.genes([fold(seed, spots=240)], ["a", "b", "c"], seed)["model"][0]
        assert row["interval"] is None  # one fold has none
        low, high = row["spots_interval"]
        inside += low <= np.sqrt(0.5) <= high
    assert inside >= 16
    row = scores.genes([fold(0), fold(1)], ["a", "b", "c"], 0)["model"]
    assert row[2]["pearson"] is None
    assert row[2]["folds"] == [None, None]
    assert len(row[0]["interval"]) == 2

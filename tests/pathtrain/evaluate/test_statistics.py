"""Intervals against scipy's, their coverage over few groups, and differences that are paired."""

import numpy as np
import pytest
from scipy import stats

from pathtrain.evaluate import statistics
from pathtrain.evaluate.statistics import Doubles, bca, figures


def mean_of(values: Doubles) -> dict[str, tuple[float, list[float]]]:
    return figures(  # type: ignore[return-value]
        lambda copies: {"mean": copies @ values / copies.sum(axis=1)}, len(values), seed=0
    )


@pytest.mark.parametrize("groups", [12, 80])
def test_bca_is_scipys(groups: int) -> None:
    """Skewed data and scipy's draws, read at Efron's levels."""
    values = np.random.default_rng(groups).lognormal(size=groups)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5_000, method="BCa", random_state=1)
    without = (values.sum() - values) / (groups - 1)
    found = bca(theirs.bootstrap_distribution, values.mean(), without, stats.norm.ppf(0.975))
    assert found == pytest.approx(list(theirs.confidence_interval), rel=1e-3)


@pytest.mark.parametrize("groups", [4, 9, 40])
def test_interval_of_a_mean_is_students(groups: int) -> None:
    values = np.random.default_rng(3).normal(10, 2, groups)
    value, ends = mean_of(values)["mean"]
    expected = stats.t.interval(0.95, groups - 1, loc=values.mean(), scale=stats.sem(values))
    assert value == pytest.approx(values.mean())
    assert ends == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))


@pytest.mark.parametrize(("groups", "least"), [(5, 0.93), (10, 0.92)])
def test_coverage_over_few_groups(groups: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 samples of normal groups: the SD of a coverage of .95 is .009; percentiles cover .84 and .90."""
    monkeypatch.setattr(statistics, "RESAMPLES", 600)
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        low, high = mean_of(rng.normal(size=groups))["mean"][1]
        held += low <= 0 <= high
    assert least < held / 600 < 0.975


def test_a_difference_is_paired() -> None:
    """Groups differ by 1, one is ahead by .1 in each: the lead is certain, the two alone are not."""
    rng = np.random.default_rng(0)
    one = rng.normal(0, 1, 20)
    other = one - 0.1 + rng.normal(0, 0.01, 20)

    def statistic(copies: Doubles) -> dict[str, Doubles]:
        a, b = copies @ one / copies.sum(axis=1), copies @ other / copies.sum(axis=1)
        return {"one": a, "other": b, "lead": a - b}

    found = figures(statistic, 20, seed=0)
    low, high = found["lead"].interval or (0, 0)
    assert 0.09 < low < 0.1 < high < 0.11
    assert (found["one"].interval or [0])[0] < found["other"].value


def test_very_many_groups_are_left_out_in_parts() -> None:
    values = np.random.default_rng(0).lognormal(size=5000)
    value, (low, high) = mean_of(values)["mean"]
    se = stats.sem(values)
    assert high - low == pytest.approx(2 * 1.96 * se, rel=0.06)
    assert high - value > value - low  # skewed to the right


def test_undefined_and_bounded() -> None:
    nothing = figures(lambda copies: {"x": np.full(len(copies), np.nan)}, 12, seed=0)["x"]
    assert nothing.interval is None
    assert mean_of(np.ones(1))["mean"][1] is None
    shares = np.array([1.0, 1.0, 0.9, 1.0])
    found = figures(lambda copies: {"x": copies @ shares / 4}, 4, seed=0, bounds={"x": (0, 1)})["x"]
    assert found.interval is not None
    assert found.interval[1] == 1.0

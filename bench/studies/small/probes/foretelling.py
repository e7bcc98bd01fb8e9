"""Whether one number of a run foretells another: rank correlations, and what one loses who goes by it.

Runs of one part of the study are compared with each other alone, as who trains compares runs of one
setting: values are less their part's mean before they are ranked, and one chooses within each part. Seeds of
an arm are alike, so a verdict is by the ranks of the arms' means.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from pathtrain.evaluate.statistics import LEVEL, Doubles, Figure, Ints, figures

FEWEST = 4  # runs, arms, or steps of a run, that are ranked
MOST = 0.999  # of a rank correlation whose logarithm is taken


def spearman(x: Doubles, y: Doubles, copies: Doubles) -> Doubles:
    """(R,) rank correlations in R samples of the runs; NaN where all of a sample are equal.

    Args:
        x, y: (N,). copies: (R, N), how often each is in a sample.
    """
    ranks = [_ranks(values, copies) for values in (x, y)]
    total = copies.sum(axis=1, keepdims=True)
    centred = [each - (copies * each).sum(axis=1, keepdims=True) / total for each in ranks]
    spread = [(copies * each**2).sum(axis=1) for each in centred]
    below = np.sqrt(spread[0] * spread[1])
    above = (copies * centred[0] * centred[1]).sum(axis=1)
    return np.divide(above, below, out=np.full(len(copies), np.nan), where=below > 1e-9)


def _ranks(values: Doubles, copies: Doubles) -> Doubles:
    """(R, N) ranks of each in a sample; equal ones have their mean, as copies of one have."""
    lower = (values[None, :] < values[:, None]).astype(np.float64)
    equal = (values[None, :] == values[:, None]).astype(np.float64)
    return np.asarray(copies @ lower.T + (copies @ equal.T + 1) / 2)


def regret(probe: Doubles, test: Doubles, copies: Doubles) -> tuple[Doubles, Doubles]:
    """What one loses of the test, against a sample's best run, who takes that of the largest probe value (the
    mean of those where several are equal), and who takes any of its runs, on average: (R,) each, NaN of
    samples without a run.

    Args:
        probe, test: (N,). copies: (R, N).
    """
    there = copies > 0
    best = np.where(there, test, -np.inf).max(axis=1)
    seen = np.where(there, probe, -np.inf)
    chosen = copies * (seen == seen.max(axis=1, keepdims=True))
    lost = []
    for weights in (chosen, copies):
        total = weights.sum(axis=1)
        mean = np.divide(weights @ test, total, out=np.full(len(copies), np.nan), where=total > 0)
        lost.append(np.where(total > 0, best, np.nan) - mean)
    return lost[0], lost[1]


def across(probe: Doubles, test: Doubles, arm: Ints, part: Ints) -> dict[str, Any] | None:
    """Over runs of all parts; None of fewer runs than can be ranked.

    Args:
        probe: (N,), larger is better. test: (N,). arm, part: (N,) numbers from 0 without gaps.

    Returns:
        ``rho`` over runs, ``rho_interval`` by a bootstrap of them; ``rho_arms`` of the arms' means and
        ``rho_arms_interval`` (Fieller et al. 1957); ``lost`` and ``lost_at_random``, means over parts, with
        intervals over runs; ``runs``, ``arms``.
    """
    if len(probe) < FEWEST:
        return None
    own, asked = (values - _means(values, part)[part] for values in (probe, test))

    def of_runs(copies: Doubles) -> dict[str, Doubles]:
        lost = [
            regret(probe[part == each], test[part == each], copies[:, part == each]) for each in range(parts)
        ]
        by_part = np.ma.masked_invalid(np.array(lost)).mean(axis=0).filled(np.nan)
        return {"rho": spearman(own, asked, copies), "lost": by_part[0], "lost_at_random": by_part[1]}

    parts = int(part.max()) + 1
    found = figures(of_runs, len(probe), 0, {"rho": (-1.0, 1.0)})
    arms = [_means(values, arm) for values in (own, asked)]
    rho = float(spearman(*arms, np.ones((1, len(arms[0]))))[0])
    return {
        **_flat(found),
        "rho_arms": rho if np.isfinite(rho) else None,
        "rho_arms_interval": fieller(rho, len(arms[0])),
        "runs": len(probe),
        "arms": len(arms[0]),
    }


def _means(values: Doubles, group: Ints) -> Doubles:
    """(G,) means by group."""
    return np.asarray(np.bincount(group, values) / np.bincount(group), np.float64)


def fieller(rho: float, count: int) -> list[float] | None:
    """The 95 % interval of a rank correlation of so many, by Fisher's z with a variance of 1.06 / (n - 3)
    (Fieller, Hartley and Pearson 1957); None of fewer than FEWEST.
    """
    if count < FEWEST or not np.isfinite(rho):
        return None
    middle = np.arctanh(np.clip(rho, -MOST, MOST))
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(1.06 / (count - 3))
    return [float(np.tanh(middle - half)), float(np.tanh(middle + half))]


def along(runs: Sequence[tuple[Doubles, Doubles]]) -> dict[str, Any] | None:
    """Over the steps of each run: ``rho``, the mean of the runs' own; ``lost``, of the run's best step by who
    stops at the largest probe value, and ``lost_at_end``, by who trains to the end; with intervals over runs.

    Args:
        runs: probe (T,), larger is better, and test (T,) of a run's steps, rising. Runs with fewer steps than
            can be ranked, or with a probe or test that never changes, are left out.
    """
    kept = [each for each in runs if len(each[0]) >= FEWEST and all(np.ptp(values) > 0 for values in each)]
    if not kept:
        return None
    own = {
        "rho": np.array([spearman(*each, np.ones((1, len(each[0]))))[0] for each in kept]),
        "lost": np.array([regret(*each, np.ones((1, len(each[0]))))[0][0] for each in kept]),
        "lost_at_end": np.array([test.max() - test[-1] for _, test in kept]),
    }

    def means(copies: Doubles) -> dict[str, Doubles]:
        return {name: (copies @ values) / copies.sum(axis=1) for name, values in own.items()}

    return {**_flat(figures(means, len(kept), 0, {"rho": (-1.0, 1.0)})), "runs": len(kept)}


def _flat(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures by name, with their intervals; what is undefined is None, as JSON has no other word for it."""
    flat: dict[str, Any] = {}
    for name, figure in found.items():
        flat[name] = figure.value if np.isfinite(figure.value) else None
        flat[f"{name}_interval"] = figure.interval
    return flat


def verdict(found: Mapping[str, Any] | None) -> str:
    """``foretells``, ``misleads``, or ``does not tell``: whether the interval leaves 0 out, that of the arms
    where they are given.
    """
    interval = None if found is None else found.get("rho_arms_interval", found["rho_interval"])
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "does not tell"
    return "foretells" if interval[0] > 0 else "misleads"

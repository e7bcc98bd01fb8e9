"""Kaplan and Meier's curves of two risk groups, and the log-rank test between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, rankdata

from pathtrain.evaluate.slide_level.measures import Fold

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def risk_groups(folds: Sequence[Fold]) -> dict[str, Any]:
    """The scored rows above and at most at the median risk of their fold.

    A row's risk is the mean over the seeds of its rank in the fold: log hazards of different models are of
    no common scale.

    Args:
        folds: with all seeds, of a task of survival.

    Returns:
        ``low`` and ``high``: ``times``, ``survival``, ``censored`` (times), ``rows`` and ``events``; and
        ``log_rank_p``, None where a group is empty or nothing happened.
    """
    high = []
    for fold in folds:
        ranks = np.mean([rankdata(values[:, 0]) for values in fold.seeds], axis=0)
        high.append(ranks > np.median(ranks))
    above = np.concatenate(high)
    times = np.concatenate([fold.numbers for fold in folds if fold.numbers is not None])
    events = np.concatenate([fold.labels for fold in folds])
    found: dict[str, Any] = {"log_rank_p": log_rank(times, events, above)}
    for name, own in (("low", ~above), ("high", above)):
        places, survival = kaplan_meier(times[own], events[own])
        found[name] = {
            "times": [0.0, *places.tolist()],
            "survival": [1.0, *survival.tolist()],
            "censored": sorted(times[own][events[own] == 0].tolist()),
            "rows": int(own.sum()),
            "events": int(events[own].sum()),
        }
    return found


def kaplan_meier(times: Floats, events: Ints) -> tuple[Floats, Floats]:
    """Times (k,) at which something ended, and the share that is without the event just after each."""
    places = np.unique(times)
    at_risk = (times[None, :] >= places[:, None]).sum(axis=1)
    deaths = ((times[None, :] == places[:, None]) & (events[None, :] == 1)).sum(axis=1)
    return places, np.cumprod(1 - deaths / at_risk)


def log_rank(times: Floats, events: Ints, group: Flags) -> float | None:
    """Two-sided p that two groups have the same hazard; None where it is undefined."""
    places = np.unique(times[events == 1])
    at_risk = times[None, :] >= places[:, None]
    died = (times[None, :] == places[:, None]) & (events[None, :] == 1)
    n, d = at_risk.sum(axis=1), died.sum(axis=1)
    n1, d1 = (at_risk & group).sum(axis=1), (died & group).sum(axis=1)
    share = n1 / n
    variance = d * share * (1 - share) * (n - d) / np.maximum(n - 1, 1)
    if not variance.sum():
        return None
    return float(chi2.sf(float((d1 - d * share).sum()) ** 2 / float(variance.sum()), 1))

"""Figures of encoders of several seeds, with intervals over groups and seeds, and their paired differences.

A figure is the mean over an encoder's seeds. Two things are by chance in it: which groups (cases, slides,
originals of tiles) are in the test, and which weights a training ended in. Each gives an interval: over
groups BCa or Student's t, as pathtrain.evaluate.statistics.figures; over seeds Student's t. The interval that
is shown holds both: its half on each side is the root of the sum of the squares of theirs, as variances of
independent causes add up. Of what has one seed alone (colour, a public network) it is that over groups.

A difference is of the same groups, and seed by seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Doubles, figures, mean_interval

# (R, G) how often each group is in a sample -> (R,) the figure of each sample
Statistic = Callable[[Doubles], Doubles]
Seeds = Sequence[Statistic]
Name = tuple[str, ...]  # of a row, or of the two of a difference


def compared(
    rows: Mapping[str, Seeds],
    groups: int,
    pairs: Sequence[tuple[str, str]],
    seed: int,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """One figure of all rows, and differences between some.

    Args:
        rows: by name, a statistic per seed.
        groups: G, the same for all. pairs: names; the second's figure is taken from the first's.
        seed: of the bootstrap. bounds: of the figure.

    Returns:
        ``rows``: name -> ``value``, ``interval``, ``over_groups`` and ``seeds``, each seed's value;
        ``differences``: the same with ``of`` and ``less``, the two names.

    Raises:
        ValueError: a pair of differing numbers of seeds, neither of them one.
    """
    for first, second in pairs:
        if len({len(rows[first]), len(rows[second])} - {1}) > 1:
            raise ValueError(f"{first} and {second} are of differing seeds, and cannot be paired")

    def each(copies: Doubles) -> dict[Name, list[Doubles]]:
        found: dict[Name, list[Doubles]] = {
            (name,): [one(copies) for one in seeds] for name, seeds in rows.items()
        }
        for pair in pairs:
            first, second = (found[name,] for name in pair)
            count = max(len(first), len(second))
            found[pair] = [first[at % len(first)] - second[at % len(second)] for at in range(count)]
        return found

    width = bounds[1] - bounds[0]
    limits: dict[Name, tuple[float, float]] = {(name,): bounds for name in rows} | dict.fromkeys(
        pairs, (-width, width)
    )
    means = figures(
        lambda copies: {key: np.mean(found, axis=0) for key, found in each(copies).items()},
        groups,
        seed,
        limits,
    )
    alone = {key: [float(one[0]) for one in found] for key, found in each(np.ones((1, groups))).items()}
    shown = {key: _shown(means[key].interval, seeds, limits[key]) for key, seeds in alone.items()}
    return {
        "rows": {name: shown[name,] for name in rows},
        "differences": [{"of": pair[0], "less": pair[1], **shown[pair]} for pair in pairs],
    }


def _shown(
    over_groups: list[float] | None, seeds: list[float], limits: tuple[float, float]
) -> dict[str, Any]:
    value, over_seeds = float(np.mean(seeds)), mean_interval(seeds)
    interval = None
    if over_groups is not None:
        half = 0.0 if over_seeds is None else value - over_seeds[0]
        low = value - float(np.hypot(value - over_groups[0], half))
        high = value + float(np.hypot(over_groups[1] - value, half))
        interval = np.clip([low, high], *limits).tolist()
    return {"value": value, "interval": interval, "over_groups": over_groups, "seeds": seeds}


def beyond(found: Mapping[str, Any]) -> int:
    """1 where the interval of a difference is above 0, -1 below, 0 where it holds 0 or there is none."""
    if found["interval"] is None:
        return 0
    low, high = found["interval"]
    return int(low > 0) - int(high < 0)

"""What a measure finds: figures of groups, that intervals and leads are made of, and plain facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Ints
from pathtrain.evaluate.units import Units

SIGNED = (-1.0, 1.0)
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Tail(Units):
    """A quantile of values of tiles, or the mean of those at or below it, over groups.

    Attributes:
        values: (N,) rising. group: (N,) numbers of ``groups``, in the order of the values.
        share: of the quantile: .5 is the median. mean: the mean of the tail in place of its end.
    """

    values: Doubles = field(default_factory=lambda: np.empty(0))
    group: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    share: float = 0.5
    mean: bool = False

    @classmethod
    def of(
        cls, values: Doubles, group: Ints, groups: Sequence[str], share: float, mean: bool = False
    ) -> "Tail":
        """From values (N,) in any order."""
        order = np.argsort(values, kind="stable")
        sums = np.bincount(group, values, minlength=len(groups))[:, None].astype(np.float64)
        counts = np.bincount(group, minlength=len(groups))[:, None].astype(np.float64)
        return cls(tuple(groups), sums, counts, values[order], group[order], share, mean)

    def figure(self, copies: Doubles) -> Doubles:
        """(R,) as numpy's percentile has it, each value as often as its group is drawn."""
        found = np.full(len(copies), np.nan)
        for row, drawn in enumerate(copies):
            weights = drawn[self.group]
            ends = np.cumsum(weights)
            total = ends[-1]
            if total < 1:
                continue
            place = self.share * (total - 1)
            low = int(np.searchsorted(ends, np.floor(place), side="right"))
            high = int(np.searchsorted(ends, np.floor(place) + 1, side="right"))
            high = min(high, len(ends) - 1)
            part = place - np.floor(place)
            quantile = self.values[low] + part * (self.values[high] - self.values[low])
            if not self.mean:
                found[row] = quantile
                continue
            last = int(np.searchsorted(self.values, quantile, side="right"))
            found[row] = (weights[:last] @ self.values[:last]) / ends[last - 1]
        return found


@dataclass(frozen=True)
class Found:
    """Of one kind of features.

    Attributes:
        units: by key; the figure is theirs. figures: those that have no units.
        facts: what else is worth keeping; JSON-able.
    """

    units: dict[str, Units] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Found") -> "Found":
        return Found(self.units | other.units, self.figures | other.figures, self.facts | other.facts)


def joined(found: Sequence[Found]) -> Found:
    """Of several networks: sums and counts added up, tails of all values, means of plain figures.

    Facts are a list, one per network; ``{key}_range`` are the lowest and highest figure of one.
    """
    if len(found) == 1:
        return found[0]
    first = found[0]
    units: dict[str, Units] = {}
    for key, unit in first.units.items():
        each = [one.units[key] for one in found]
        if isinstance(unit, Tail):
            tails = [one for one in each if isinstance(one, Tail)]
            values = np.concatenate([one.values for one in tails])
            group = np.concatenate([one.group for one in tails])
            units[key] = Tail.of(values, group, unit.groups, unit.share, unit.mean)
        else:
            sums, counts = sum(one.sums for one in each), sum(one.counts for one in each)
            units[key] = Units(unit.groups, np.asarray(sums), np.asarray(counts))
    figures: dict[str, float | None] = {}
    for key in first.figures:
        known = [value for one in found if (value := one.figures[key]) is not None]
        figures[key] = float(np.mean(known)) if known else None
    facts = {key: [one.facts[key] for one in found] for key in first.facts}
    once = np.ones((1, max((len(unit.groups) for unit in units.values()), default=1)))
    for key, unit in units.items():
        alone = [float(one.units[key].figure(once[:, : len(unit.groups)])[0]) for one in found]
        finite = [value for value in alone if np.isfinite(value)]
        if finite and f"{key}_range" not in facts:  # of clusters that says what their starts change
            facts[f"{key}_range"] = [min(finite), max(finite)]
    return Found(units, figures, facts)


def per_group(group: Ints, groups: Sequence[str], sums: Doubles, counts: Doubles) -> Units:
    """Units of one column from values of tiles (N,)."""
    return Units(
        tuple(groups),
        np.bincount(group, sums, minlength=len(groups))[:, None].astype(np.float64),
        np.bincount(group, counts, minlength=len(groups))[:, None].astype(np.float64),
    )

"""What a figure is made of, group by group, so that two models can be compared on the same groups.

A figure is a mean of ratios: over columns (classes, genes, or one alone) of what the groups add up to by what
they count. Accuracy has one column, right tiles by tiles; balanced accuracy a column per class; Dice a column
per class, an image's Dice by the images that hold it; a correlation a column per gene, a fold's by folds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Figure, figures


@dataclass(frozen=True)
class Units:
    """G groups (slides, patients, images, folds), which are drawn whole, and C columns.

    Attributes:
        groups: (G) names, each once; the same for every model on the same data.
        sums: (G, C) float64.
        counts: (G, C) float64, not negative; a column that counts nothing is left out of the mean.
    """

    groups: tuple[str, ...]
    sums: Doubles
    counts: Doubles

    def figure(self, copies: Doubles) -> Doubles:
        """(R,) figures of R samples, NaN where nothing counts.

        Args:
            copies: (R, G), how often each group is in the sample.
        """
        counts = copies @ self.counts
        present = counts > 0  # a sample may lack a class: the others still count
        ratios = np.divide(copies @ self.sums, counts, out=np.zeros_like(counts), where=present)
        columns = present.sum(axis=1)
        found = np.full(len(copies), np.nan)
        np.divide(ratios.sum(axis=1), columns, out=found, where=columns > 0)
        return found


class Scored(NamedTuple):
    """An evaluation: its result, which JSON can write, and the units of its rows by name and figure.

    ``units["model", "balanced"]`` are those of the row ``model``'s figure ``balanced``.
    """

    result: dict[str, Any]
    units: dict[tuple[str, str], Units]


def compared(
    rows: Mapping[str, Units], key: str, seed: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> dict[str, dict[str, Any]]:
    """Figures with 95 % intervals over groups, and the first row's lead over each other one, paired.

    Args:
        rows: name -> units of the same groups in the same order; the first is the model.
        key: what results call the figure.
        seed: of the bootstrap.
        bounds: of the figure.

    Returns:
        Per name ``key``, ``key_interval``, and ``lead``: the same two of the first less this one; None for
        the first. Intervals are None where fewer than two groups count.

    Raises:
        ValueError: rows of other groups.
    """
    names = list(rows)
    first = rows[names[0]]
    if any(each.groups != first.groups for each in rows.values()):
        raise ValueError("figures of other groups cannot be compared")
    width = bounds[1] - bounds[0]

    def both(copies: Doubles) -> dict[tuple[str, str], Doubles]:
        values = {name: each.figure(copies) for name, each in rows.items()}
        found = {("own", name): value for name, value in values.items()}
        return found | {("lead", name): values[names[0]] - values[name] for name in names[1:]}

    limits = {("own", name): bounds for name in names} | {
        ("lead", name): (-width, width) for name in names[1:]
    }
    found = figures(both, len(first.groups), seed, limits)

    # a figure of one group's tiles is the same in every sample that has the group: no interval
    known = {name: np.count_nonzero(each.counts.sum(axis=1)) > 1 for name, each in rows.items()}

    def said(figure: Figure, *of: str) -> dict[str, Any]:
        return {key: figure.value, f"{key}_interval": figure.interval if all(map(known.get, of)) else None}

    return {
        name: said(found["own", name], name)
        | {"lead": None if name == names[0] else said(found["lead", name], names[0], name)}
        for name in names
    }

"""Rows of a result from what single tiles came to: figures, intervals over groups, and leads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Ints
from pathtrain.evaluate.units import Units, compared

Measured = dict[tuple[str, str], Units]


def per_tile(values: Doubles, groups: tuple[str, ...], group: Ints) -> Units:
    """A mean over tiles.

    Args:
        values: (M,), a tile's.
        groups: (G) names. group: (M,) each tile's place among them.
    """
    counts = np.bincount(group, minlength=len(groups)).astype(np.float64)
    sums = np.bincount(group, values, minlength=len(groups))
    return Units(groups, np.asarray(sums, np.float64)[:, None], counts[:, None])


def per_class(values: Doubles, labels: Ints, classes: int, groups: tuple[str, ...], group: Ints) -> Units:
    """A mean over classes of the means over their tiles; as ``per_tile``, with class numbers (M,)."""
    sums, counts = np.zeros((len(groups), classes)), np.zeros((len(groups), classes))
    np.add.at(sums, (group, labels), values)
    np.add.at(counts, (group, labels), 1)
    return Units(groups, sums, counts)


def rows_of(
    units: Mapping[tuple[str, str], Units], seed: int, bounds: Mapping[str, tuple[float, float]] | None = None
) -> list[dict[str, Any]]:
    """A row per name, the first is the model: each key with interval, and the lead over this row.

    Args:
        units: by name and key; every name has all keys.
        seed: of the bootstrap.
        bounds: of keys that are not from 0 to 1.
    """
    names, keys = (list(dict.fromkeys(each)) for each in zip(*units, strict=True))
    found: dict[str, dict[str, Any]] = {name: {"name": name, "lead": None} for name in names}
    for key in keys:
        limits = (bounds or {}).get(key, (0.0, 1.0))
        for name, made in compared({n: units[n, key] for n in names}, key, seed, limits).items():
            lead = made.pop("lead")
            if lead is not None:
                found[name]["lead"] = {**(found[name]["lead"] or {}), **lead}
            found[name] |= made
    return list(found.values())


class Networks:
    """Units of rows whose name may stand for several networks, and how far these lie apart.

    Attributes:
        units: by name and key, of the mean over networks.
        ranges: of a name with several: ``{key}_range``, the lowest and highest of one.
    """

    def __init__(self) -> None:
        self.units = Measured()
        self.ranges: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, key: str, values: Sequence[Doubles], made: Callable[[Doubles], Units]) -> None:
        """Values (M,) of the tiles, of each network; ``made`` makes units of such values."""
        whole = self.units[name, key] = made(mean(values))
        if len(values) > 1:
            once = np.ones((1, len(whole.groups)))
            each = [float(made(one).figure(once)[0]) for one in values]
            self.ranges.setdefault(name, {})[f"{key}_range"] = [min(each), max(each)]

    def rows(
        self, seed: int, bounds: Mapping[str, tuple[float, float]] | None = None
    ) -> list[dict[str, Any]]:
        """As ``rows_of``, with the ranges."""
        return [{**row, **self.ranges.get(row["name"], {})} for row in rows_of(self.units, seed, bounds)]


def mean(values: Sequence[Doubles]) -> Doubles:
    """Of several networks that stand for one row."""
    return np.asarray(np.mean(values, axis=0), dtype=np.float64)

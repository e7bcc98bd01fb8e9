"""Rows of results of robustness: figures, their intervals, and the first row's lead over the others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pathtrain.evaluate.shifts.found import SHARE, SIGNED, Found
from pathtrain.evaluate.units import Units, compared

BOUNDS = {
    **dict.fromkeys(("index", "mari", "fragile", "own_share"), SHARE),
    **dict.fromkeys(("label_knn", "column_knn", "label_linear", "column_linear"), SHARE),
    **dict.fromkeys(("croma", "tail", "silhouette_label", "silhouette_column"), SIGNED),
    **dict.fromkeys(("excess", "excess_within"), (-np.inf, 1.0)),
    **dict.fromkeys(("drop", "drop_outside"), (-1.0, np.inf)),
    "clusters": (-2.0, 2.0),
}


def scored(
    found: Mapping[str, Found], seed: int
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], Units]]:
    """Rows with figures, intervals and leads, and the units by row and figure."""
    first = next(iter(found))
    rows: dict[str, dict[str, Any]] = {name: {"name": name} for name in found}
    leads: dict[str, dict[str, Any]] = {name: {} for name in found}
    units = {(name, key): unit for name, each in found.items() for key, unit in each.units.items()}
    for key in dict.fromkeys(key for _, key in units):
        own = {name: units[name, key] for name in found if (name, key) in units}
        bounds = BOUNDS.get(key, SIGNED if key.startswith("cosine") else SHARE)
        for name, row in compared(own, key, seed, bounds).items():
            lead = row.pop("lead")
            rows[name] |= row
            if lead is not None and first in own:
                leads[name] |= lead
    for name, each in found.items():
        rows[name] |= each.figures | each.facts
        rows[name]["lead"] = None if name == first else leads[name]
    return list(rows.values()), units

"""Rows of a segmentation's result: figures with intervals, of seeds, of classes, and leads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pathtrain.evaluate.pixel_level.objects import Doubles
from pathtrain.evaluate.pixel_level.scoring import OF_OBJECTS
from pathtrain.evaluate.statistics import mean_interval
from pathtrain.evaluate.units import Units, compared

FIGURES = ("dice", "dice_image", "iou", *OF_OBJECTS)
# Per class: what rows call it, and which units' columns have it
OF_CLASSES = {"dice": "dice_image", "iou": "iou", "pq": "pq_class", "f1": "f1_class"}


def rows_of(
    units: Mapping[str, Mapping[str, Units]],
    every: Mapping[str, Sequence[Mapping[str, Units]]],
    steps: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """A row per kind of features, the model first.

    Args:
        units: name -> figure -> units, means over decoders. every: the same of each decoder.
        steps: after which the weights of each decoder are from. classes: background first.
        seed: of the bootstrap.
    """
    keys = [key for key in FIGURES if key in next(iter(units.values()))]
    found = {key: compared({name: own[key] for name, own in units.items()}, key, seed) for key in keys}
    rows = []
    for name, own in units.items():
        row: dict[str, Any] = {"name": name}
        lead: dict[str, Any] = {}
        for key in keys:
            figure = dict(found[key][name])
            lead |= figure.pop("lead") or {}
            row |= {each: plain(value) for each, value in figure.items()}
            row[f"{key}_decoders"] = [plain(whole(one[key])) for one in every[name]]
        row["dice_seeds_interval"] = mean_interval(row["dice_decoders"])
        row["steps"] = list(steps[name])
        row["per_class"] = {
            label: {
                shown: plain(_ratio(own[key].sums[:, place].sum(), own[key].counts[:, place].sum()))
                for shown, key in OF_CLASSES.items()
                if key in own
            }
            for place, label in enumerate(classes[1:])
        }
        row["lead"] = {each: plain(value) for each, value in lead.items()} or None
        rows.append(row)
    return rows


def whole(units: Units) -> float:
    """The figure of all groups."""
    copies: Doubles = np.ones((1, len(units.groups)))
    return float(units.figure(copies)[0])


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else float("nan")


def plain(value: Any) -> Any:
    """As JSON has it: None where a figure is undefined."""
    return None if isinstance(value, float) and not np.isfinite(value) else value

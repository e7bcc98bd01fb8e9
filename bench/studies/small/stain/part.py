"""What normalising and jitter of stain do for an encoder, on tissue that no training saw.

The arms are in arms.py, the tiles in material.py, what is measured on them in measures.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Floats
from small.core.config import Study
from small.core.encoders import COLOUR, Encoder, features, handmade, of_runs
from small.core.scores import Labels
from small.core.tiles import table_of
from small.core.training import seconds, trained
from small.stain.arms import NONE, ON_NORMALISED, ON_UNCAST, PAIRS, jobs, sights
from small.stain.figures import Seeds, Statistic, compared
from small.stain.material import NORMALISED, PLAIN, UNCAST, Material, Settings, made
from small.stain.measures import robustness, scanners, shortcut, slides
from small.stain.words import markdown, sentences

__all__ = ["Settings", "markdown", "run"]

SIGNED = {"own share": (-1.0, 1.0)}


def run(study: Study) -> dict[str, Any]:
    """Train the arms and test them.

    Raises:
        TestGroups: before the choice is made.
        UsageError: as ``material.made`` and ``trained``.
    """
    settings = study.part("stain", Settings)
    material = made(study, settings)
    asked = jobs(study, settings, material.training)
    runs = trained(study, [job for many in asked.values() for job in many])
    arms = [of_runs(study, arm, [runs[job.name] for job in many]) for arm, many in asked.items()]
    seen = sights(study, arms)
    tests = {
        "shortcut": _shortcut(study, settings, material, seen),
        "scanners": _scanners(study, settings, material, seen),
        "slides": _slides(study, settings, material, seen),
    }
    return {
        "settings": settings.model_dump(mode="json"),
        "arms": {arm: list(many[0].settings) for arm, many in asked.items()},
        "training_seconds": {arm: [seconds(study, job.name) for job in many] for arm, many in asked.items()},
        "fits": material.fits(),
        "tests": tests,
        "sentences": sentences(tests),
    }


def seen_by(
    study: Study, seen: Mapping[str, Sequence[Encoder]], folders: Mapping[str, Path]
) -> dict[str, tuple[str, list[Floats]]]:
    """Features of one side of a test: name -> which of its folders, and (N, D) per seed."""
    found: dict[str, tuple[str, list[Floats]]] = {}
    for sight, ending in ((PLAIN, ""), (NORMALISED, ON_NORMALISED)):
        for name, many in features(study, seen[sight], folders[sight]).items():
            found[name] = (sight, many)
        found[COLOUR + ending] = (sight, handmade(folders[sight])[COLOUR])
    return found


def _compared(
    found: Mapping[str, Sequence[Mapping[str, Statistic]]], groups: int, settings: Settings
) -> dict[str, Any]:
    """Every figure: name -> its rows and differences."""
    first = next(iter(found.values()))[0]
    pairs = [pair for pair in PAIRS if set(pair) <= set(found)]
    tables = {}
    for figure in first:
        rows: dict[str, Seeds] = {name: [one[figure] for one in many] for name, many in found.items()}
        bounds = (-1.0, 1.0) if figure in SIGNED or "fall" in figure else (0.0, 1.0)
        tables[figure] = compared(rows, groups, pairs, settings.seed, bounds)
    return tables


def _shortcut(study: Study, settings: Settings, material: Material, seen: dict[str, list[Encoder]]) -> Any:
    fit, test = material.fit["shortcut"], material.test["shortcut"]
    known, asked = Labels.of(fit[PLAIN]), Labels.of(test[PLAIN])
    casts = np.array([row["cast"] for row in table_of(test[PLAIN] / "labels.csv")])
    agrees = (casts == "A") == (asked.label == 0)
    x, y = seen_by(study, seen, fit), seen_by(study, seen, test)
    found = {
        name: [
            shortcut(a, known, b, asked, agrees, settings.rates)
            for a, b in zip(x[name][1], y[name][1], strict=True)
        ]
        for name in x
    }
    groups = int(asked.group.max()) + 1
    return {
        "classes": list(asked.classes),
        "groups": groups,
        "tiles": len(casts) // 2,
        "figures": _compared(found, groups, settings),
    }


def _scanners(study: Study, settings: Settings, material: Material, seen: dict[str, list[Encoder]]) -> Any:
    fit, test = material.fit["scanners"], material.test["scanners"]
    known, asked = ((Labels.of(side[PLAIN]), Labels.of(side[PLAIN], "scanner")) for side in (fit, test))
    x, y = seen_by(study, seen, fit), seen_by(study, seen, test)
    index, about = robustness(
        {name: [_even(name, one) for one in many] for name, (_, many) in y.items()},
        {name: test[sight] for name, (sight, _) in y.items()},
        None,
        settings.seed,
    )
    found = {
        name: [
            {**scanners(a, known, b, asked), "robustness index": at}
            for a, b, at in zip(x[name][1], y[name][1], index[name], strict=True)
        ]
        for name in x
    }
    groups = int(asked[0].group.max()) + 1
    return {
        "scanners": list(asked[1].classes),
        "groups": groups,
        "tiles": len(asked[0].label),
        "index": about,
        "figures": _compared(found, groups, settings),
    }


def _slides(study: Study, settings: Settings, material: Material, seen: dict[str, list[Encoder]]) -> Any:
    test = material.test["slides"]
    label, slide = Labels.of(test[PLAIN]), Labels.of(test[PLAIN], "slide")
    x = seen_by(study, seen, test)
    uncast = replace(seen[PLAIN][0], name=NONE + ON_UNCAST)  # the control of the composing
    x[uncast.name] = (UNCAST, features(study, [uncast], test[UNCAST])[uncast.name])
    x[COLOUR + ON_UNCAST] = (UNCAST, handmade(test[UNCAST])[COLOUR])
    found = {
        name: [slides(_even(name, one), label, slide, settings.k) for one in many]
        for name, (_, many) in x.items()
    }
    return {
        "classes": list(label.classes),
        "groups": len(slide.classes),
        "tiles": len(label.label),
        "chance": 1 / len(label.classes),
        "figures": _compared(found, len(slide.classes), settings),
    }


def _even(name: str, x: Floats) -> Floats:
    """Colour's parts at mean 0 and SD 1, for neighbours: their units are arbitrary."""
    if not name.startswith(COLOUR):
        return x
    return np.asarray((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6), np.float32)

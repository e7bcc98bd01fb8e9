"""Part 4: what Midnight adds to DINOv2, at a small size: a density estimate of features, and larger views.

Of one recipe, with the same tiles, steps, views and seeds:

    KDE, KoLeo, none   the recipe with each regulariser
    parent             KDE's encoder, given images of the larger size
    larger             the parent trained on with views of that size, as Midnight's post-training
    longer             the parent trained on for as many steps, by the same schedules, with views of its own
                       size

`larger` and `longer` are scored at the larger size like the parent, so `larger - parent` is what
post-training gives at the size that it is for, and `larger - longer` what its larger views have in it.
Steps are as many; those of larger views cost more, so a gain over `longer` is also one of more computing.
At the momentum of .9995 of midnight-tiny-112, .975 of the parent is left in the teacher, which is the
encoder, after 50 steps: an older study of so many measured nothing. Here the momentum is such that a tenth is
left after the last step, and how far the weights moved is told.

Scored are CoNSeP's nuclei by a decoder on patch tokens (dense/nuclei.py) and EBHI's classes by a linear layer
(core/scores.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load
from small.core import paired, scores
from small.core.config import Study
from small.core.encoders import (
    COLOUR,
    IMAGENET,
    PATTERNS,
    RANDOM,
    START,
    Encoder,
    beside,
    features,
    handmade,
    of_runs,
)
from small.core.tiles import folder
from small.core.training import seconds
from small.dense import nuclei
from small.resolution.runs import KDE, KOLEO, LARGER, LONGER, NONE, Settings, recipe_of, trainings

PARENT = "parent (KDE)"
EBHI = {
    "auroc": "EBHI linear, AUROC",
    "balanced": "EBHI linear, balanced accuracy",
    "knn": "EBHI kNN, recall",
}
BESIDE = (START, RANDOM, COLOUR, PATTERNS)


def run(study: Study) -> dict[str, Any]:
    """Train, score, and say what holds."""
    settings = study.part("resolution", Settings)
    recipe = recipe_of(study, settings)
    views, (size, large_size) = recipe.views.globals.size, settings.sizes(recipe)
    if settings.large <= views or large_size <= size:
        raise UsageError(
            f"{study.config}: resolution.large: must be above the recipe's views, {views} px, and the second "
            "of resolution.scored above the first"
        )
    runs = trainings(study, settings, recipe)
    arms = {name: of_runs(study, name, runs[name], size) for name in (KDE, KOLEO, NONE)}
    large = [
        replace(arms[KDE], name=_at(PARENT, large_size), size=large_size),
        *(of_runs(study, _at(name, large_size), runs[name], large_size) for name in (LONGER, LARGER)),
    ]
    others = [each for each in beside(study, arms[KDE]) if each.name != IMAGENET]
    blank = next(each for each in others if each.name == RANDOM)
    large.append(replace(blank, name=_at(RANDOM, large_size), size=large_size))
    encoders = [*arms.values(), *others, *large]
    against = compared(size, large_size)
    found = nuclei.segmentation(study, encoders, settings.segmentation, against)
    rows = [*found["rows"], *_tissue(study, encoders, against)]
    parents = [load(run) for run in runs[KDE]]
    moved = {
        name: [how_far(a, load(run)) for a, run in zip(parents, runs[name], strict=True)]
        for name in (LONGER, LARGER)
    }
    minutes = {name: sum(seconds(study, run.name) for run in several) / 60 for name, several in runs.items()}
    return {
        "settings": {
            **settings.model_dump(mode="json"),
            "size": size,
            "large_size": large_size,
            "views": views,
            "momentum": settings.momentum,
        },
        "rows": rows,
        "segmentation": {key: found[key] for key in ("classes", "fields", "tiles", "missing")},
        "moved": moved,
        "minutes": minutes,
        "sentences": sentences(rows, against, moved, settings),
    }


def _at(name: str, size: int) -> str:
    return f"{name}, {size} px"


def compared(size: int, large: int) -> dict[str, tuple[str, ...]]:
    """Encoder -> those that it is compared with: the questions, fixed before any of them is answered."""
    small_colour, large_colour = nuclei.colour_at(size), nuclei.colour_at(large)
    return {
        KDE: (NONE, KOLEO, *BESIDE, small_colour),
        KOLEO: (NONE, *BESIDE, small_colour),
        NONE: (*BESIDE, small_colour),
        _at(PARENT, large): (KDE, _at(RANDOM, large), large_colour),
        _at(LONGER, large): (_at(PARENT, large),),
        _at(LARGER, large): (_at(PARENT, large), _at(LONGER, large), _at(RANDOM, large), large_colour),
    }


def _tissue(
    study: Study, encoders: Sequence[Encoder], against: Mapping[str, Sequence[str]]
) -> list[paired.Row]:
    """Rows of EBHI's classes, linear and by neighbours."""
    sides = folder(study, "ebhi", "train"), folder(study, "ebhi", "test")
    known, asked = map(scores.Labels.of, sides)
    found = [features(study, encoders, side) | handmade(side) for side in sides]
    said = scores.guesses(known, (found[0], found[1]))
    here = {name: [other for other in others if other in said] for name, others in against.items()}
    return [{**row, "figure": EBHI[row["figure"]]} for row in scores.table(said, asked, here)]


def how_far(parent: LoadedModel, other: LoadedModel) -> float:
    """Length of the change of all weights, relative to that of the parent's."""
    before, after = parent.module.state_dict(), other.module.state_dict()
    apart = sum(float((after[key].double() - value.double()).square().sum()) for key, value in before.items())
    return float(np.sqrt(apart / sum(float(value.double().square().sum()) for value in before.values())))


def sentences(
    rows: Sequence[paired.Row],
    against: Mapping[str, Sequence[str]],
    moved: Mapping[str, Sequence[float]],
    settings: Settings,
) -> list[str]:
    """What holds and what does not, a sentence for each encoder and figure."""
    found = [
        f"While post-training, the teacher's weights moved by {np.mean(moved[LARGER]):.1%} of their length "
        f"on larger views and by {np.mean(moved[LONGER]):.1%} at its own size (momentum "
        f"{settings.momentum:.3f}, {settings.more} steps)."
    ]
    asked = [row for row in rows if row["figure"] in (nuclei.TASK, EBHI["auroc"])]
    found += paired.summaries(asked, list(against))
    clear = Counter(paired.verdict(gap) for row in asked for gap in row["minus"].values())
    found.append(
        f"Of {clear.total()} comparisons {clear['above']} are clear gains, {clear['below']} clear losses, "
        f"and {clear['level']} cannot be told from none; intervals are of 95 % each, not of all together."
    )
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables and sentences."""
    settings, segmentation = result["settings"], result["segmentation"]
    minutes = ", ".join(f"{name} {spent:.1f}" for name, spent in result["minutes"].items())
    here = [row for row in result["rows"] if row["figure"] == nuclei.TASK]
    lines = [
        f"{settings['steps']} steps with views of {settings['views']} px, then {settings['more']} with such "
        f"or of {settings['large']} px; images are scored at {settings['size']} and at "
        f"{settings['large_size']} px.",
        "",
        nuclei.markdown({**segmentation, "rows": here}),
        "",
        paired.table([row for row in result["rows"] if row["figure"] != nuclei.TASK]),
        "",
        f"Minutes of training, all seeds: {minutes}.",
        "",
        *(f"- {each}" for each in result["sentences"]),
        "",
    ]
    return "\n".join(lines)

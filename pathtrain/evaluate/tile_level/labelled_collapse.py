"""Collapse beside content, on tiles with labels: do features group by slide where the tissue is the same?

Slides differ in tissue, so neighbours of the own slide may be the right ones. Two numbers tell that apart:

    within      own share and excess (pathtrain.evaluate.tile_level.collapse) among tiles of the same class:
                what is left of the grouping by slide where the label gives no reason for it
    content     the labels told by neighbours from other slides alone (the vote of `evaluate knn`): a model
                without collapse but without content either has learnt nothing
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Flags, Floats, Ints, figures, flat
from pathtrain.evaluate.tile_level.collapse_figures import BOUNDS, Scores, shares
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.evaluate.tile_level.labelled import Set, score


def beside(
    features: Floats, slide: Ints, labels: Ints, classes: list[str], k: int, seed: int
) -> dict[str, Any]:
    """``within`` and ``content`` of a sample, None where its labels do not allow it.

    Args:
        features: (n, D).
        slide: (n,) numbers of slides.
        labels: (n,) numbers of ``classes``, -1 for none.
        k: neighbours, at most.
        seed: of the bootstrap.
    """
    rows = np.flatnonzero(labels >= 0)
    return {
        "within": _within(features, slide, labels, classes, k, seed),
        "content": _content(features[rows], slide[rows], labels[rows], classes, k, seed),
    }


def _within(
    features: Floats, slide: Ints, labels: Ints, classes: list[str], k: int, seed: int
) -> dict[str, Any] | None:
    """Classes of one slide only say nothing, and are left out."""
    own, chance, kept = np.zeros(len(slide)), np.zeros(len(slide)), np.zeros(len(slide), dtype=bool)
    used = []
    for number, name in enumerate(classes):
        rows = np.flatnonzero(labels == number)
        if len(np.unique(slide[rows])) < 2:
            continue
        used.append(name)
        own[rows], chance[rows] = shares(features[rows], slide[rows], min(k, len(rows) - 1))
        kept[rows] = True
    if not used:
        return None
    counts = np.bincount(slide[kept])
    there = np.flatnonzero(counts)
    mine, expected = (
        np.bincount(slide[kept], values[kept])[there] / counts[there] for values in (own, chance)
    )
    table = Scores(counts[there], mine, expected, silhouette=np.zeros(len(there)))  # which is not asked for
    found = figures(table.figures, len(there), seed, BOUNDS)
    asked = {name: found[name] for name in ("own_share", "excess")}
    mean = float(np.average(table.chance, weights=table.tiles))
    return {"classes": used, "tiles": int(kept.sum()), "chance": mean, **flat(asked)}


def _content(
    features: Floats, slide: Ints, labels: Ints, classes: list[str], k: int, seed: int
) -> dict[str, Any] | None:
    if len(np.unique(labels)) < 2 or len(np.unique(slide)) < 2:
        return None
    k = min(k, len(slide) - int(np.bincount(slide).max()))
    same: Callable[[slice], Flags] = lambda part: slide[part, None] == slide[None, :]  # noqa: E731
    guesses = vote(features, labels, features, k, len(classes), same)
    (row,) = score({"model": guesses[None, None]}, Set({}, labels, slide), classes, seed)
    kept = ("accuracy", "accuracy_interval", "balanced", "balanced_interval")
    majority = float(np.bincount(labels).max() / len(labels))
    return {"k": k, "tiles": len(labels), "majority": majority, **{key: row[key] for key in kept}}

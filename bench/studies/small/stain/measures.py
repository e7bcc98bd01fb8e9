"""What is measured on features of tiles whose staining is known: figures over samples of groups.

shortcut    a linear probe is trained where the cast goes with the class in most tiles, and tested where it
            does so in most, half and few of them. Every tile of the test is there in both casts, and counts
            in each by how often it would be there: the expectation over which tile gets which cast
scanners    how well the features tell the class and the scanner, and PathoROB's robustness index
slides      on slides that differ in their cast alone: how many neighbours are of the own slide beyond chance,
            and the class that neighbours from other slides tell. Tiles of the own group (augmentations of one
            original) are no neighbours
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pathtrain.data.tile_columns import Columns
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.shifts import cohort as cohorts
from pathtrain.evaluate.shifts.index import search
from pathtrain.evaluate.statistics import Doubles, Flags, Floats, Ints, neighbours
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.params.robustness import NeighbourParams
from small.core.scores import Labels, auroc, guess, recall
from small.stain.figures import Statistic

FALL = "fall"


def shortcut(
    x: Floats, known: Labels, x_test: Floats, test: Labels, agrees: Flags, rates: Sequence[float]
) -> dict[str, Statistic]:
    """AUROC and balanced accuracy of the class at each rate of agreement, and the fall from first to last.

    Args:
        x: (N, D) of the training tiles, one cast each. x_test: (M, D), every tile in both casts.
        agrees: (M,) whether a tile's cast is that of its class.
        rates: of agreement in the test.
    """
    said = guess(x, known, x_test).probabilities
    found: dict[str, Statistic] = {}
    for rate in rates:
        weight = np.where(agrees, rate, 1 - rate)
        found[f"AUROC at {rate:g}"] = _auroc(said, test, weight)
        found[f"balanced accuracy at {rate:g}"] = _recall(said.argmax(axis=1), test, weight)
    for name in ("AUROC", "balanced accuracy"):
        first, last = (found[f"{name} at {rate:g}"] for rate in (rates[0], rates[-1]))
        found[f"{name}, {FALL}"] = _less(first, last)
    return found


def _auroc(said: Doubles, test: Labels, weight: Doubles) -> Statistic:
    return lambda copies: auroc(said, test.label, copies[:, test.group] * weight)


def _recall(said: Ints, test: Labels, weight: Doubles) -> Statistic:
    return lambda copies: recall(said, test.label, copies[:, test.group] * weight)


def _less(first: Statistic, last: Statistic) -> Statistic:
    return lambda copies: first(copies) - last(copies)


def scanners(
    x: Floats, known: tuple[Labels, Labels], x_test: Floats, test: tuple[Labels, Labels]
) -> dict[str, Statistic]:
    """AUROC of the class, and balanced accuracy of the scanner, both of tiles of other groups.

    Args:
        x, x_test: (N, D) and (M, D).
        known, test: classes and scanners of both sides' tiles.
    """
    even = np.ones(len(x_test))
    label, scanner = (guess(x, side, x_test).probabilities for side in known)
    return {
        "AUROC of the class": _auroc(label, test[0], even),
        "balanced accuracy of the scanner": _recall(scanner.argmax(axis=1), test[1], even),
    }


def robustness(
    features: Mapping[str, Sequence[Floats]], folders: Mapping[str, Path], k: int | None, seed: int
) -> tuple[dict[str, list[Statistic]], dict[str, float]]:
    """PathoROB's robustness index by scanner, groups apart, with one k for all, as its table has it.

    Args:
        features: by name, (N, D) per seed. folders: by name, of the tiles, with a column scanner; the same
            tiles in the same order in all of them.
        k: neighbours; None: the median over all features of the k that tells the class best.

    Returns:
        Statistics by name, and ``k`` and the index by ``chance``.
    """
    read = {name: cohorts.read(open_tiles(folders[name]), "scanner", Columns()) for name in features}
    if k is None:
        k = int(
            np.median(
                [
                    search(x[read[name][1]], read[name][0], NeighbourParams(), seed)[1]
                    for name, many in features.items()
                    for x in many
                ]
            )
        )
    chance = float("nan")
    found: dict[str, list[Statistic]] = {}
    for name, many in features.items():
        cohort, order = read[name]
        measured = [search(x[order], cohort, NeighbourParams(k=k), seed)[2] for x in many]
        found[name] = [one.units["index"].figure for one in measured]
        chance = float(measured[0].figures["index_chance"] or 0.0)
    return found, {"k": k, "chance": chance}


def slides(x: Floats, label: Labels, slide: Labels, k: int) -> dict[str, Statistic]:
    """Own share beyond chance, (own - chance) / (1 - chance), and balanced accuracy of the class.

    Args:
        x: (N, D) of tiles on composed slides.
        label: their classes, with the groups of the tissue. slide: their slides.
        k: neighbours of both; at most the tiles that every slide and group leaves.
    """
    there, group = slide.label, label.group
    own = np.empty(len(x))
    for part, _, rows in neighbours(x, x, k, lambda at: group[at, None] == group[None, :]):
        own[part] = (there[rows] == there[part, None]).mean(axis=1)
    alike = np.bincount(group)[group]
    chance = (np.bincount(there)[there] - alike) / (len(x) - alike)
    totals = [np.bincount(there, values) for values in (own, chance, np.ones(len(x)))]

    def beyond_chance(copies: Doubles) -> Doubles:
        mine, expected, tiles = (copies @ total for total in totals)
        return np.asarray((mine - expected) / (tiles - expected))

    guessed = vote(x, label.label, x, k, len(label.classes), lambda at: there[at, None] == there[None, :])
    of_slides = Labels(label.classes, label.label, there)
    return {"own share": beyond_chance, "content": _recall(guessed, of_slides, np.ones(len(x)))}

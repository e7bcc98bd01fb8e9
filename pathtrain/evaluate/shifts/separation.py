"""How far a column is to be seen in features: silhouettes, own share, and how well it is told.

silhouette_label, silhouette_column     cosine, with classes or values as clusters
own_share       of the nearest tiles of other groups, those of the same value; ``share_chance`` in random
order excess          (own share - chance) / (1 - chance): 0 none, 1 all
excess_within   the same among tiles of one class
label_knn, column_knn, label_linear, column_linear
                balanced accuracy of telling the class, or the value, of a tile from other groups: by the
                vote of `pathtrain evaluate knn`, and by a logistic regression (C 1, standardised features)
                in five folds of groups
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from pathtrain.evaluate.shifts.cohort import Cohort, most_neighbours
from pathtrain.evaluate.shifts.found import Found, per_group
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, neighbours
from pathtrain.evaluate.tile_level.collapse import silhouette
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.evaluate.units import Units

FOLDS = 5
VOTERS = 20  # as `pathtrain evaluate knn`


def silhouettes(features: Floats, cohort: Cohort) -> Found:
    """Of the values, and with labels of the classes."""
    found = {"silhouette_column": cohort.column}
    if cohort.labels is not None:
        found = {"silhouette_label": cohort.labels, **found}
    return Found(
        {
            key: per_group(cohort.group, cohort.groups, silhouette(features, numbers), np.ones(len(cohort)))
            for key, numbers in found.items()
        }
    )


def shares(features: Floats, cohort: Cohort, k: int) -> Found:
    """Own share of the values."""
    k = min(k, most_neighbours(cohort), max(1, len(cohort) // 10))  # of few tiles all would be near
    own = np.empty(len(cohort))
    for part, _, rows in neighbours(features, features, k, cohort.banned):
        own[part] = (cohort.column[rows] == cohort.column[part, None]).mean(axis=1)
    chance = by_chance(cohort)
    found = Found(
        {
            "own_share": per_group(cohort.group, cohort.groups, own, np.ones(len(own))),
            "excess": per_group(cohort.group, cohort.groups, own - chance, 1 - chance),
        },
        {"share_chance": float(chance.mean())},
        {"share_k": k},
    )
    within = _within(features, cohort, k)
    return found if within is None else found | Found({"excess_within": within})


def by_chance(cohort: Cohort) -> Doubles:
    """(N,) the own share of neighbours in random order."""
    aside = cohort.aside
    _, inverse, counts = np.unique(
        np.stack([aside, cohort.column]), axis=1, return_inverse=True, return_counts=True
    )
    same = np.bincount(cohort.column)[cohort.column] - counts[inverse.ravel()]
    return np.asarray(same / (len(cohort) - np.bincount(aside)[aside]))


def _within(features: Floats, cohort: Cohort, k: int) -> Units | None:
    """Excess among tiles of one class; None where no class is at two values in enough groups."""
    if cohort.labels is None:
        return None
    sums, counts = np.zeros(len(cohort)), np.zeros(len(cohort))
    for number in range(len(cohort.classes)):
        rows = np.flatnonzero(cohort.labels == number)
        part = cohort.take(rows)
        if len(np.unique(part.column)) < 2 or most_neighbours(part) < 1:
            continue
        few = min(k, most_neighbours(part))
        for block, _, near in neighbours(features[rows], features[rows], few, part.banned):
            sums[rows[block]] = (part.column[near] == part.column[block, None]).mean(axis=1)
        chance = by_chance(part)
        sums[rows] -= chance
        counts[rows] = 1 - chance
    return per_group(cohort.group, cohort.groups, sums, counts) if counts.any() else None


def tells(features: Floats, cohort: Cohort, seed: int) -> Found:
    """How well the column, and with labels the class, is told by tiles of other groups.

    Where the column is the groups by another name no other group has the value: nothing is found.
    """
    if cohort.apart == "tile":
        return Found()
    asked = {"column": (cohort.column, len(cohort.values))}
    if cohort.labels is not None:
        asked = {"label": (cohort.labels, len(cohort.classes)), **asked}
    units: dict[str, Units] = {}
    for name, (numbers, count) in asked.items():
        voters = min(VOTERS, most_neighbours(cohort))
        guesses = vote(features, numbers, features, voters, count, cohort.banned)
        units[f"{name}_knn"] = _recalls(guesses, numbers, count, cohort)
        told = folded(features, numbers, cohort.group, seed)
        if told is not None:
            units[f"{name}_linear"] = _recalls(told, numbers, count, cohort)
    return Found(units)


def _recalls(guesses: Ints, numbers: Ints, count: int, cohort: Cohort) -> Units:
    total = np.zeros((len(cohort.groups), count))
    right = np.zeros_like(total)
    np.add.at(total, (cohort.group, numbers), 1)
    np.add.at(right, (cohort.group, numbers), guesses == numbers)
    return Units(tuple(cohort.groups), right, total)


def folded(features: Floats, numbers: Ints, group: Ints, seed: int) -> Ints | None:
    """(N,) guesses of a logistic regression that has not seen a tile's group; None for too few groups."""
    owners = [len(np.unique(group[numbers == each])) for each in np.unique(numbers)]
    folds = min(FOLDS, min(owners))
    if folds < 2:
        return None
    guesses = np.empty(len(numbers), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # fewer tiles of a class than folds
        splits = list(splitter.split(features, numbers, group))
        if any(len(np.unique(numbers[train])) < 2 for train, _ in splits):
            return None  # of few groups one fold can hold all of a class
        for train, test in splits:
            mean, sd = features[train].mean(axis=0), np.maximum(features[train].std(axis=0), 1e-6)
            points, basis = _spanned((features[train] - mean) / sd)
            asked = (features[test] - mean) / sd
            model = LogisticRegression(C=1.0).fit(points, numbers[train])
            guesses[test] = model.predict(asked if basis is None else asked @ basis)
    return guesses


def _spanned(points: Floats) -> tuple[Doubles, Doubles | None]:
    """Points (N, D) in float64, in their own span if N < D, and what turns others into it (D, N).

    With an L2 penalty the answer does not change when features are turned.
    """
    wide = points.astype(np.float64)
    if len(points) >= points.shape[1]:
        return wide, None
    basis = np.linalg.qr(wide.T)[0]
    return wide @ basis, basis

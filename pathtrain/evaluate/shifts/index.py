"""PathoROB's robustness index: do neighbours share the class, or the centre? (arXiv 2507.17845, and its code)

Of a tile's k nearest others by cosine, those of its own group excluded, are counted

    SO  same class, other centre        OS  other class, same centre
    SS, OO  same or other both, which say nothing

and the index is the sum of SO over that of SO and OS, over all tiles: 1 the class alone, 0 the centre
alone. k is that at which the majority of neighbours tells the class best (balanced accuracy) of 1, 3, 5, 7,
9, 11, 21, 31, ...; PathoROB's table fixes it per data set, at the median over its models (Camelyon 11, TCGA
61, Tolkach ESCA 46).

By chance, with neighbours in random order, it is not 1/2 where classes and centres are of different sizes:
``chance`` is what that order gives. With ``paired``, as PathoROB's TCGA 2x2, neighbours are found within
each two classes at two centres, with as many tiles of each, and the counts of all such subsets are added.

Equal to PathoROB's code and to croma's RI to rounding (tests), but for the ties of equal similarities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts.cohort import Cohort, check_k, most_neighbours
from pathtrain.evaluate.shifts.found import Found, per_group
from pathtrain.evaluate.statistics import Doubles, Flags, Floats, Ints, neighbours
from pathtrain.params.robustness import NeighbourParams

FIRST = (1, 3, 5, 7, 9)


@dataclass(frozen=True)
class Near:
    """Neighbours of the tiles of one subset.

    Attributes:
        rows: (n,) its tiles in the whole. cohort: of them.
        near: (n, k) their neighbours, numbers into the subset. similarity: (n, k) cosines, falling.
    """

    rows: Ints
    cohort: Cohort
    near: Ints
    similarity: Floats

    def same_label(self, k: int | None = None) -> Flags:
        """(n, k)"""
        label = self.cohort.label
        return np.asarray(label[self.near[:, :k]] == label[:, None])

    def same_value(self, k: int | None = None) -> Flags:
        """(n, k)"""
        column = self.cohort.column
        return np.asarray(column[self.near[:, :k]] == column[:, None])

    def kinds(self, k: int) -> tuple[Flags, Flags]:
        """(n, k) which neighbours are SO, and which OS."""
        label, value = self.same_label(k), self.same_value(k)
        return label & ~value, ~label & value


def subsets(cohort: Cohort, design: str, seed: int) -> list[Ints]:
    """Rows of each subset: all, or every complete 2x2 with its cells made even by the seed.

    Raises:
        UsageError: paired, and no two classes are both at two values.
    """
    if design == "all":
        return [np.arange(len(cohort))]
    cells, found = cohort.cells(), []
    for classes in combinations(range(len(cohort.classes)), 2):
        for values in combinations(range(len(cohort.values)), 2):
            block = cells[np.ix_(classes, values)]
            if block.min() < 1:
                continue
            rng = np.random.default_rng([seed, *classes, *values])
            parts = [
                rng.permutation(np.flatnonzero((cohort.label == one) & (cohort.column == other)))[
                    : block.min()
                ]
                for one in classes
                for other in values
            ]
            found.append(np.sort(np.concatenate(parts)))
    if not found:
        raise UsageError(
            f"{cohort.source}: no two classes are both at two values of {cohort.by}; give `design` all"
        )
    return found


def tried(params: NeighbourParams, most: int) -> list[int]:
    """The k that are tried, rising, of at most ``most``."""
    if params.k is not None:
        return [params.k]
    top = min(params.most_k, most)
    return [k for k in (*FIRST, *range(11, top + 1, 10)) if k <= top]


def found_near(features: Floats, cohort: Cohort, rows: Ints, k: int) -> Near:
    """The k nearest of each tile of a subset."""
    part, points = cohort.take(rows), features[rows]
    near = np.empty((len(rows), k), dtype=np.int64)
    similarity = np.empty((len(rows), k), dtype=np.float32)
    for block, best, places in neighbours(points, points, k, part.banned):
        near[block], similarity[block] = places, best
    return Near(rows, part, near, similarity)


def told(near: Near, tries: Sequence[int]) -> list[float]:
    """Balanced accuracy of the neighbours' majority at each k of ``tries``; ties go to the first class."""
    label, classes = near.cohort.label, len(near.cohort.classes)
    votes = np.zeros((len(label), classes), dtype=np.int64)
    there = np.unique(label)
    rows, start, scores = np.arange(len(label)), 0, []
    for k in tries:
        for place in range(start, k):
            votes[rows, label[near.near[:, place]]] += 1
        start = k
        right = votes.argmax(axis=1) == label
        scores.append(float(np.mean([right[label == each].mean() for each in there])))
    return scores


def search(
    features: Floats, cohort: Cohort, params: NeighbourParams, seed: int
) -> tuple[list[Near], int, Found]:
    """Neighbours of each subset, the k that counts, and the index as a Found.

    Raises:
        UsageError: k is more than the neighbours that a tile can have, or none is SO or OS.
    """
    parts = subsets(cohort, params.design, seed)
    most = min(most_neighbours(cohort.take(rows)) for rows in parts)
    check_k(params.k, most, cohort)
    tries = tried(params, most)
    nears = [found_near(features, cohort, rows, tries[-1]) for rows in parts]
    scores = np.mean([told(near, tries) for near in nears], axis=0)
    # the label may be told best by so few neighbours that none differs in one of the two alone
    usable = np.array([sum(_counts(nears, each)) > 0 for each in tries])
    if not usable.any():
        raise UsageError(
            f"{cohort.source}: no neighbour differs in one of label and {cohort.by} alone, up to k "
            f"{tries[-1]}; give a larger `k`"
        )
    best = int(np.where(usable, scores, -1.0).argmax())
    k = tries[best]
    curve = {str(each): _ratio(*_counts(nears, each)) for each in tries}
    so, os, group = _of_tiles(nears, k)
    named = cohort.groups
    return (
        nears,
        k,
        Found(
            {"index": per_group(group, named, so, so + os)},
            {"index_chance": chance(cohort, parts)},
            {
                "index_k": k,
                "index_balanced": float(scores[best]),
                "index_support": float(np.mean(so + os > 0)),
                "index_curve": curve,
                "index_subsets": len(parts),
            },
        ),
    )


def _counts(nears: Sequence[Near], k: int) -> tuple[int, int]:
    kinds = [near.kinds(k) for near in nears]
    return sum(int(so.sum()) for so, _ in kinds), sum(int(os.sum()) for _, os in kinds)


def _ratio(so: int, os: int) -> float | None:
    return so / (so + os) if so + os else None


def _of_tiles(nears: Sequence[Near], k: int) -> tuple[Doubles, Doubles, Ints]:
    """Counts of SO and OS of each tile of each subset, and its group."""
    kinds = [near.kinds(k) for near in nears]
    so = np.concatenate([one.sum(axis=1) for one, _ in kinds]).astype(np.float64)
    os = np.concatenate([other.sum(axis=1) for _, other in kinds]).astype(np.float64)
    return so, os, np.concatenate([near.cohort.group for near in nears])


def chance(cohort: Cohort, parts: Sequence[Ints]) -> float:
    """The index of neighbours in random order."""
    so = os = 0.0
    for rows in parts:
        part = cohort.take(rows)
        others = len(part) - _within(part.aside)
        label = _within(part.label) - _within(part.aside, part.label)
        value = _within(part.column) - _within(part.aside, part.column)
        both = _within(part.label, part.column) - _within(part.aside, part.label, part.column)
        so += float(((label - both) / others).sum())
        os += float(((value - both) / others).sum())
    return so / (so + os) if so + os else 0.5


def _within(*numbers: Ints) -> Ints:
    """(N,) how many tiles have the same numbers as each."""
    _, inverse, counts = np.unique(np.stack(numbers), axis=1, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse.ravel()])

"""Training sets in which class and column go together more and more, and tests that stay the same.

Every class has values of the column that favour it: of two classes and two centres one each. From the first
set, in which all cells are of one size (Cramer's V 0), to the last, in which a class comes from its favoured
values alone (V 1), tiles move from the other cells to those, so that every set has as many tiles of each
class: as PathoROB's sets of Camelyon (two centres, eight sets) and of Tolkach ESCA (four).

Groups are shared out at random, whole, over training, validation and test, seven to one to two in ten, at
each value and each class of theirs. Cells are taken from their groups in turn, so that few tiles still are
of many groups, and each set holds the one before as far as it can. PathoROB takes whole slides of as many
tiles each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathtrain.evaluate.shifts.cohort import Cohort, cramers_v
from pathtrain.evaluate.statistics import Ints

TRAIN, VALIDATE, TEST = 0, 1, 2
DEAL = (TRAIN, TEST, TRAIN, VALIDATE, TRAIN, TRAIN, TEST, TRAIN, TRAIN, TRAIN)
ATTEMPTS = 50


@dataclass(frozen=True)
class Repeat:
    """One sharing out of the groups: rows of each set.

    Attributes:
        train, validate: (S) arrays of rows, one per set. test: rows of the in-domain test.
    """

    train: list[Ints]
    validate: list[Ints]
    test: Ints


def favoured(classes: int, values: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """(C, V) which values favour a class: its own number, round and round."""
    rows, columns = np.arange(classes)[:, None], np.arange(values)[None, :]
    if values >= classes:
        return np.asarray(columns % classes == rows)
    return np.asarray(rows % values == columns)


def cells(base: float, classes: int, values: int, steps: int) -> list[Ints]:
    """(C, V) tiles of every set: of each class ``base`` times the values, in whole tiles."""
    mask = favoured(classes, values)
    total = round(base * values)
    found = []
    for step in range(steps):
        strength = step / (steps - 1)
        share = (
            np.full((classes, values), (1 - strength) / values) + strength * mask / mask.sum(axis=1)[:, None]
        )
        exact = share * total
        whole = np.floor(exact + 1e-9).astype(np.int64)
        for row in range(classes):
            rest = np.argsort(-(exact[row] - whole[row]), kind="stable")[: total - int(whole[row].sum())]
            whole[row, rest] += 1
        found.append(whole)
    return found


def strengths(sets: Sequence[Ints]) -> list[float]:
    """Cramer's V of each set."""
    return [cramers_v(each) for each in sets]


def shared_out(cohort: Cohort, rng: np.random.Generator) -> Ints | None:
    """(G,) what each group is for; None if a cell lacks tiles in one of the parts after many attempts."""
    wanted = cohort.cells() > 0
    for _ in range(ATTEMPTS):
        part = np.full(len(cohort.groups), -1, dtype=np.int64)
        for value in range(len(cohort.values)):
            rows = np.flatnonzero(cohort.column == value)
            owners = np.unique(cohort.group[rows])
            counts = np.zeros((len(cohort.groups), len(cohort.classes)))
            np.add.at(counts, (cohort.group[rows], cohort.label[rows]), 1)
            drawn = rng.permutation(owners)
            drawn = drawn[np.argsort(counts[drawn].argmax(axis=1), kind="stable")]
            deal = np.array(DEAL)[(np.arange(len(drawn)) + rng.integers(len(DEAL))) % len(DEAL)]
            new = part[drawn] < 0  # a group at two values is for one thing
            part[drawn[new]] = deal[new]
        if all((_cells_of(cohort, part, each)[wanted] > 0).all() for each in (TRAIN, VALIDATE, TEST)):
            return part
    return None


def _cells_of(cohort: Cohort, part: Ints, which: int) -> Ints:
    return cohort.take(np.flatnonzero(part[cohort.group] == which)).cells()


def in_turn(cohort: Cohort, rows: Ints, rng: np.random.Generator) -> Ints:
    """Rows of one cell in the order they are taken in: a tile of each group, then the next of each."""
    drawn = rng.permutation(rows)
    _, owner = np.unique(cohort.group[drawn], return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(owner[order]) > 0])
    turn = np.empty(len(drawn), dtype=np.int64)
    turn[order] = np.arange(len(drawn)) - np.repeat(starts, np.diff(np.r_[starts, len(drawn)]))
    return np.asarray(drawn[np.argsort(turn, kind="stable")])


def base_of(cohort: Cohort, part: Ints, which: int, most: int) -> float:
    """Tiles of a cell in the first set, such that the favoured cells last to the last set."""
    there = _cells_of(cohort, part, which)
    mask = favoured(*there.shape)
    need = np.where(mask, there.shape[1] / mask.sum(axis=1)[:, None], 1.0)
    return float(min((there / need).min(), most / there.shape[1]))


def repeats(
    cohort: Cohort, number: int, steps: int, most: int, seed: int
) -> tuple[list[Repeat], list[Ints]] | None:
    """Rows of each repeat, and the cells of its training sets, the same in all; None if groups are too few.

    Args:
        most: tiles of a class in a training set.
    """
    rngs = [np.random.default_rng([seed, each]) for each in range(number)]
    parts = [part for rng in rngs if (part := shared_out(cohort, rng)) is not None]
    if len(parts) < number:
        return None
    shape = (len(cohort.classes), len(cohort.values))
    sets: dict[int, list[Ints]] = {}
    for which in (TRAIN, VALIDATE):
        base = min(base_of(cohort, part, which, most) for part in parts)
        sets[which] = cells(float(np.floor(base)) if base >= 1 else base, *shape, steps)
        if any(each.sum(axis=1).min() < 1 for each in sets[which]):
            return None
    found = []
    for part, rng in zip(parts, rngs, strict=True):
        train, validate = (_cut(cohort, part, which, sets[which], rng) for which in (TRAIN, VALIDATE))
        found.append(Repeat(train, validate, np.flatnonzero(part[cohort.group] == TEST)))
    return found, sets[TRAIN]


def _cut(
    cohort: Cohort, part: Ints, which: int, sets: Sequence[Ints], rng: np.random.Generator
) -> list[Ints]:
    """Rows of each set, from the front of every cell."""
    mine = part[cohort.group] == which
    places = [(one, value) for one in range(sets[0].shape[0]) for value in range(sets[0].shape[1])]
    ordered = {
        (one, value): in_turn(
            cohort, np.flatnonzero(mine & (cohort.label == one) & (cohort.column == value)), rng
        )
        for one, value in places
    }
    return [np.concatenate([ordered[place][: each[place]] for place in places]) for each in sets]

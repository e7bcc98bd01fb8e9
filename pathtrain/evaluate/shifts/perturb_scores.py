"""How far features and predictions move, tile by tile.

    moved      1 - cosine of a tile and itself perturbed, by the mean of 1 - cosine to the tiles of other
               groups: 0 nothing, 1 as far as another tile
    retrieval  1 where the perturbed tile is closer to its own than to any other tile; of equal ones a share
    changed    1 where the neighbours' vote for the perturbed tile is another class than for the tile itself
    fall       accuracy of that vote, unperturbed less perturbed: 1, 0 or -1

Neighbours are unperturbed tiles of other groups. Features whose units are arbitrary (colour) are standardised
on the unperturbed tiles first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Flags, Floats, Ints, unit
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.evaluate.units import Units

BLOCK = 1024
TIED = 1e-6  # cosines that differ less are equal, in float32


@dataclass(frozen=True)
class Labelled:
    """Labels (N,) of the tiles, the number of classes, and k neighbours that vote."""

    labels: Ints
    classes: int
    k: int


@dataclass(frozen=True)
class Moves:
    """Of N tiles under one perturbation: each (N,) float64.

    Attributes:
        cosine: of a tile and itself perturbed. distance: 1 - that.
        others: mean distance to the tiles of other groups.
        retrieved, changed, fall: see the module's text; the last two None without labels.
    """

    cosine: Doubles
    distance: Doubles
    others: Doubles
    retrieved: Doubles
    changed: Doubles | None
    fall: Doubles | None


class Base:
    """Unperturbed features of one network, ready to be compared.

    Args:
        features: (N, D). group: (N,) numbers. labelled: None without labels.
        handmade: whether their units are arbitrary.
    """

    def __init__(self, features: Floats, group: Ints, labelled: Labelled | None, handmade: bool) -> None:
        self._mean, self._sd = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if handmade:
            self._mean, self._sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        self._own = self._scaled(features)
        self._group, self._labelled = group, labelled
        unit_vectors = unit(self._own).astype(np.float64)
        total = np.zeros((int(group.max()) + 1, unit_vectors.shape[1]))
        np.add.at(total, group, unit_vectors)
        sizes = np.bincount(group)
        if (sizes > 0).sum() > 1:
            rest, count = total.sum(axis=0) - total[group], len(group) - sizes[group]
        else:  # all of one group: the other tiles of it
            rest, count = total.sum(axis=0) - unit_vectors, np.full(len(group), len(group) - 1)
        self._others = np.maximum(1 - (unit_vectors * rest).sum(axis=1) / count, 0)
        self.guesses = None if labelled is None else self._vote(self._own, labelled)

    def _scaled(self, features: Floats) -> Floats:
        return np.asarray((features - self._mean) / self._sd, dtype=np.float32)

    def _vote(self, features: Floats, labelled: Labelled) -> Ints:
        banned: Callable[[slice], Flags] = lambda part: self._group[part, None] == self._group[None, :]  # noqa: E731
        return vote(self._own, labelled.labels, features, labelled.k, labelled.classes, banned)

    def right(self) -> Doubles | None:
        """(N,) 1 where the vote for the unperturbed tile is right; None without labels."""
        if self._labelled is None or self.guesses is None:
            return None
        return np.asarray(self.guesses == self._labelled.labels, dtype=np.float64)

    def moves(self, features: Floats) -> Moves:
        """How far the same tiles have moved.

        Args:
            features: (N, D) of the perturbed tiles.
        """
        after = self._scaled(features)
        own, new = unit(self._own), unit(after)
        cosine = np.clip((own.astype(np.float64) * new).sum(axis=1), -1, 1)
        distance = np.where((self._own == after).all(axis=1), 0.0, 1 - cosine)
        changed = fall = None
        right = self.right()
        if self._labelled is not None and right is not None:
            guesses = self._vote(after, self._labelled)
            changed = (guesses != self.guesses).astype(np.float64)
            fall = right - (guesses == self._labelled.labels)
        return Moves(cosine, distance, self._others, _retrieved(own, new), changed, fall)


def _retrieved(own: Floats, new: Floats) -> Doubles:
    """(N,) 1 where a row of ``new`` is closest to its row of ``own``; of t equally close rows 1 / t."""
    found = np.zeros(len(own))
    for start in range(0, len(own), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(own)))
        cosines = new[rows] @ own.T
        best = cosines.max(axis=1, keepdims=True)
        tied = (cosines >= best - TIED).sum(axis=1)
        found[rows] = (cosines[np.arange(len(rows)), rows] >= best[:, 0] - TIED) / tied
    return found


def units_of(moves: list[list[Moves]], group: Ints, names: tuple[str, ...]) -> dict[str, Units]:
    """Figure -> units: a group per group of tiles, a column per perturbation.

    Args:
        moves: of P perturbations, each of K networks: the figures' sums are means over networks.
        group: (N,) numbers of the tiles' groups. names: of the groups.
    """
    there, places = np.unique(group, return_inverse=True)
    groups = tuple(names[number] for number in there)

    def summed(values: list[Doubles]) -> Doubles:
        return np.asarray(
            np.bincount(places, np.mean(values, axis=0), minlength=len(there)), dtype=np.float64
        )

    def columns(value: Callable[[Moves], Doubles | None]) -> Doubles:
        return np.stack(
            [
                summed([found for each in networks if (found := value(each)) is not None])
                for networks in moves
            ],
            axis=1,
        )

    tiles = columns(lambda each: np.ones(len(each.cosine)))
    found = {
        "moved": Units(groups, columns(lambda each: each.distance), columns(lambda each: each.others)),
        "retrieval": Units(groups, columns(lambda each: each.retrieved), tiles),
        "cosine": Units(groups, columns(lambda each: each.cosine), tiles),
    }
    if moves[0][0].changed is not None:
        found["changed"] = Units(groups, columns(lambda each: each.changed), tiles)
        found["fall"] = Units(groups, columns(lambda each: each.fall), tiles)
    return found


def column(units: Units, number: int) -> Units:
    """The units of one perturbation alone."""
    part = slice(number, number + 1)
    return Units(units.groups, units.sums[:, part], units.counts[:, part])

"""The figures of feature collapse, from how tiles' neighbours are divided among slides."""

from dataclasses import dataclass

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Floats, Ints, neighbours

BOUNDS = {
    "own_share": (0.0, 1.0),
    "ratio": (0.0, np.inf),
    "excess": (-np.inf, 1.0),
    "silhouette": (-1.0, 1.0),
}


@dataclass(frozen=True)
class Scores:
    """What the figures are of: per slide (S,) its tiles, and the means over them."""

    tiles: Ints
    own_share: Doubles
    chance: Doubles
    silhouette: Doubles

    def figures(self, copies: Doubles) -> dict[str, Doubles]:
        """Figures of R samples of slides, (R, S) copies; (R,) each."""
        weights = copies * self.tiles
        total = weights.sum(axis=1)
        own, chance = (weights @ values / total for values in (self.own_share, self.chance))
        return {
            "own_share": own,
            "excess": (own - chance) / (1 - chance),
            "ratio": own / chance,
            "silhouette": weights @ self.silhouette / total,
        }


def shares(features: Floats, slide: Ints, k: int) -> tuple[Doubles, Doubles]:
    """Of each tile's k nearest others, the share from its own slide; and what chance gives: (n,) each.

    Args:
        features: (n, D).
        slide: (n,) numbers of slides.
        k: below n.
    """
    n, own = len(slide), np.empty(len(slide))
    itself = np.arange(n)
    for part, _, rows in neighbours(features, features, k, lambda at: itself[at, None] == itself[None, :]):
        own[part] = (slide[rows] == slide[part, None]).mean(axis=1)
    return own, (np.bincount(slide)[slide] - 1) / (n - 1)

"""A regulariser over the tiles of all ranks, group by group and view by view."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.regularisers import Regulariser, among_ranks, grouped, kde, koleo, uniformity
from pathtrain.recipes.dinov2 import RegulariserConfig


@dataclass(frozen=True)
class Coupled:
    """What a recipe says of it.

    Args:
        config: of another kind than none.
        batch: tiles of a step, over all ranks.
    """

    config: RegulariserConfig
    batch: int

    @property
    def group(self) -> int:
        """Tiles whose vectors are looked at together."""
        return self.config.group or self.batch

    def __call__(self, vectors: Tensor, ranks: Ranks) -> Tensor:
        """The sum over views of the mean over groups; all ranks call it, with whole groups together.

        Args:
            vectors: (G, B, D) of this rank's tiles.

        Returns:
            Scalar, the same on all ranks; the mean over ranks of its gradients is that of one rank.
        """
        tiles = vectors.shape[1] * ranks.world
        if tiles < 2:  # of a step's only tile on a rank, whose operations are counted: no other to compare
            return (vectors * 0).sum()
        # of fewer than a step, whose operations are counted (pathtrain.training.flops), all are one group
        groups = 1 if tiles % self.group else tiles // self.group
        of = partial(grouped, self._of(), groups=groups)
        return torch.stack([among_ranks(of, view, ranks) for view in vectors]).sum()

    def _of(self) -> Regulariser:
        kinds: dict[str, Regulariser] = {
            "koleo": koleo,
            "kde": partial(kde, kappa=self.config.kappa),
            "uniformity": partial(uniformity, t=self.config.kappa / 2),
        }
        return kinds[self.config.kind]

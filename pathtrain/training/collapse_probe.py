"""The collapse score while training: does the teacher group tiles by slide? (evaluate.tile_level.collapse)

The same tiles are looked at each time, whole and without augmentation: some of each of some slides that
training does not see (pathtrain.training.held_out).
"""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathprep.errors import DatasetError
from pathtrain.errors import ModelError
from pathtrain.evaluate.tile_level.collapse import Sample, measure, open_slides, sample
from pathtrain.features.encode import encode
from pathtrain.models.backbone import build
from pathtrain.params.encoding import How
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs.model import LoadedModel
from pathtrain.stain.target import ModelTarget
from pathtrain.training.held_out import HeldOut

log = logging.getLogger(__name__)

NEIGHBOURS = 20  # as `pathtrain evaluate collapse`; fewer on samples with fewer tiles than 10 times that


class LiveCollapse:
    """Weights of a backbone -> its collapse score on a fixed sample; on one rank.

    Args:
        held_out: what it is measured on.
        recipe: its ``collapse``, ``model`` and ``seed``.
        target: what tiles are normalised to.
        device: what it computes on.
        threads: that decode.
    """

    def __init__(
        self,
        held_out: HeldOut,
        recipe: Recipe,
        target: ModelTarget | None,
        device: torch.device,
        threads: int,
    ) -> None:
        config = recipe.collapse
        assert held_out.dataset is not None
        self.seed, self.threads, self.device = recipe.seed, threads, device
        self.tiles = open_slides(held_out.dataset, target)
        own = held_out.slides if config.dataset is None else ()
        self.order = sample(self.tiles, config.tiles, recipe.seed, config.slides, own)
        self.group = self.tiles.groups_of(self.order)
        module = build(recipe.model).eval().requires_grad_(False)
        embed: Any = module.patch_embed
        size, patch = int(embed.img_size[0]), int(embed.patch_size[0])
        self.model = LoadedModel(module, recipe.model, size, patch, "teacher", "", target)

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """The score as ``collapse_own_share``, ``collapse_chance`` and ``collapse_ratio``."""
        self.model.module.load_state_dict(weights)
        how = How(threads=self.threads, device="cuda" if self.device.type == "cuda" else "cpu")
        try:
            (features,), _ = encode([self.model], self.tiles, self.order, how)
        except (DatasetError, ModelError) as error:  # training goes on without the score
            log.warning("no collapse score: %s", error)
            return {}
        kept, slide = np.unique(self.group, return_inverse=True)
        taken = Sample(features, slide, [self.tiles.groups[number] for number in kept])
        k = min(NEIGHBOURS, max(1, len(self.order) // 10))
        found = measure(taken, k, self.seed)
        return {f"collapse_{name}": float(found[name]) for name in ("own_share", "chance", "ratio")}

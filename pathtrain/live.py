"""The collapse score while training: does the teacher group tiles by slide? (pathtrain.evaluate.collapse)

The same tiles are looked at each time, whole and without augmentation: some of each of some slides, drawn
with the recipe's seed. They are tiles of the training data, as self-supervised training has no others;
the score is about how the features lie, not about how well anything is predicted.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathprep.errors import UsageError
from pathtrain.data.tiles import DatasetTiles, open_tiles
from pathtrain.encode import How, encode
from pathtrain.evaluate.collapse import Sample, measure, sample
from pathtrain.models.backbone import build
from pathtrain.models.load import LoadedModel
from pathtrain.recipes.schema import Recipe
from pathtrain.target import RunTarget

NEIGHBOURS = 20  # as `pathtrain evaluate collapse`; fewer on samples with fewer tiles than 10 times that


class LiveCollapse:
    """Weights of a backbone -> its collapse score on a fixed sample; on one rank.

    Args:
        dataset: the training data.
        recipe: its ``collapse``, ``model`` and ``seed``.
        target: what tiles are normalised to.
        device: what it computes on.

    Raises:
        UsageError: fewer than two slides with two tiles each.
    """

    def __init__(self, dataset: Path, recipe: Recipe, target: RunTarget | None, device: torch.device) -> None:
        config = recipe.collapse
        self.seed, self.threads, self.device = recipe.seed, torch.get_num_threads(), device
        tiles = open_tiles(dataset, target)
        if not isinstance(tiles, DatasetTiles):
            raise UsageError(f"{dataset}: collapse.every needs a dataset from `pathprep shard`")
        order = sample(tiles, config.tiles, recipe.seed)
        found = np.unique(tiles.group[order])
        if len(found) < 2:
            raise UsageError(
                f"{dataset}: collapse.every needs 2 slides with at least 2 tiles, not {len(found)}; "
                "--set collapse.every=0"
            )
        drawn = np.random.default_rng(recipe.seed).permutation(found)[: config.slides]
        self.tiles, self.order = tiles, order[np.isin(tiles.group[order], drawn)]
        module = build(recipe.model).eval().requires_grad_(False)
        embed: Any = module.patch_embed
        size, patch = int(embed.img_size[0]), int(embed.patch_size[0])
        self.model = LoadedModel(module, recipe.model, size, patch, "teacher", "", target)

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """The score as ``collapse_own_share``, ``collapse_chance`` and ``collapse_ratio``."""
        self.model.module.load_state_dict(weights)
        how = How(threads=self.threads, device=self.device.type)
        (features,), _ = encode([self.model], self.tiles, self.order, how)
        kept, slide = np.unique(self.tiles.group[self.order], return_inverse=True)
        taken = Sample(features, slide, [self.tiles.groups[number] for number in kept])
        k = min(NEIGHBOURS, max(1, len(self.order) // 10))
        if not np.isfinite(features).all():
            print("warning: the teacher's features are not finite; no collapse score", file=sys.stderr)
            return {}
        found = measure(taken, k, self.seed)
        return {f"collapse_{name}": float(found[name]) for name in ("own_share", "chance", "ratio")}

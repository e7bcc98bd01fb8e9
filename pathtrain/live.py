"""The collapse score while training: does the teacher group tiles by slide? (pathtrain.evaluate.collapse)

The same tiles are looked at each time, whole and without augmentation: some of each of some slides that
training does not see. They are those of another dataset, or slides drawn with the recipe's seed and left
out of the run's order.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathprep.errors import DatasetError, UsageError
from pathprep.shards import Dataset
from pathtrain.data.mixed import Mixed
from pathtrain.data.order import Ints
from pathtrain.data.source import NO_TILES
from pathtrain.data.tiles import DatasetTiles
from pathtrain.encode import How, encode
from pathtrain.errors import ModelError
from pathtrain.evaluate.collapse import Sample, choose, measure, open_slides, sample
from pathtrain.models.backbone import build
from pathtrain.models.load import LoadedModel
from pathtrain.recipes.schema import Recipe
from pathtrain.target import RunTarget

NEIGHBOURS = 20  # as `pathtrain evaluate collapse`; fewer on samples with fewer tiles than 10 times that
SHARE = 10  # a tenth of a dataset's slides are held out at most
FEWEST = 4  # slides, of which two are held out


@dataclass(frozen=True)
class HeldOut:
    """Slides that training does not see.

    Attributes:
        dataset: they are of; None if there is no score.
        slides: their names; empty stands for all of the dataset.
        tiles: numbers (H,), rising, of their tiles in the training data.
    """

    dataset: Path | None = None
    slides: tuple[str, ...] = ()
    tiles: Ints = field(default_factory=NO_TILES.copy)

    def __str__(self) -> str:
        if self.dataset is None:
            return (
                "no collapse score: no slides can be held out of mixed shards; give others, "
                "--set collapse.dataset=DATASET"
            )
        if not self.slides:
            return f"collapse score on {self.dataset}"
        return f"held out for the collapse score: {len(self.slides)} slides, {len(self.tiles)} tiles"


def hold_out(data: Dataset | Mixed, recipe: Recipe) -> HeldOut:
    """What the recipe's ``collapse`` is measured on; every process of a run finds the same.

    Without ``collapse.every``, or of mixed shards, whose slides lie in no one place, nothing.

    Raises:
        UsageError: the training data has too few slides to do without some.
    """
    config = recipe.collapse
    if not config.every:
        return HeldOut()
    if config.dataset is not None:
        if config.dataset.resolve() == data.root.resolve():
            raise UsageError(f"collapse.dataset={config.dataset}: is what is trained on; give other slides")
        return HeldOut(config.dataset)
    if isinstance(data, Mixed):
        return HeldOut()
    tiles = DatasetTiles(data.root)
    counts = tiles.counts()
    usable = sum(count >= 2 for count in counts.values())
    if usable < FEWEST:
        raise UsageError(
            f"{data.root}: collapse.every holds 2 slides out of training, and needs {FEWEST} {tiles.kind}s "
            f"with at least 2 tiles, not {usable}; give other slides, --set collapse.dataset=DATASET, "
            "or none, --set collapse.every=0"
        )
    wanted = max(2, min(config.slides, usable // SHARE))
    chosen = choose(counts, wanted, config.tiles, recipe.seed)
    members = tiles.members(set(chosen))
    return HeldOut(data.root, tuple(chosen), np.sort(np.concatenate(list(members.values()))))


class LiveCollapse:
    """Weights of a backbone -> its collapse score on a fixed sample; on one rank.

    Args:
        held_out: what it is measured on.
        recipe: its ``collapse``, ``model`` and ``seed``.
        target: what tiles are normalised to.
        device: what it computes on.
        threads: that decode.

    Raises:
        UsageError: fewer than two slides with two tiles each.
    """

    def __init__(
        self, held_out: HeldOut, recipe: Recipe, target: RunTarget | None, device: torch.device, threads: int
    ) -> None:
        config = recipe.collapse
        self.seed, self.threads, self.device = recipe.seed, threads, device
        assert held_out.dataset is not None
        self.tiles = open_slides(held_out.dataset, target)
        self.order = sample(self.tiles, config.tiles, recipe.seed, config.slides, held_out.slides)
        self.group = self.tiles.groups_of(self.order)
        found = len(np.unique(self.group))
        if found < 2:
            raise UsageError(
                f"{held_out.dataset}: the collapse score needs 2 {self.tiles.kind}s with at least 2 tiles, "
                f"not {found}"
            )
        module = build(recipe.model).eval().requires_grad_(False)
        embed: Any = module.patch_embed
        size, patch = int(embed.img_size[0]), int(embed.patch_size[0])
        self.model = LoadedModel(module, recipe.model, size, patch, "teacher", "", target)

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """The score as ``collapse_own_share``, ``collapse_chance`` and ``collapse_ratio``."""
        self.model.module.load_state_dict(weights)
        how = How(threads=self.threads, device=self.device.type)
        try:
            (features,), _ = encode([self.model], self.tiles, self.order, how)
        except (DatasetError, ModelError) as error:  # training goes on without the score
            print(f"warning: no collapse score: {error}", file=sys.stderr)
            return {}
        kept, slide = np.unique(self.group, return_inverse=True)
        taken = Sample(features, slide, [self.tiles.groups[number] for number in kept])
        k = min(NEIGHBOURS, max(1, len(self.order) // 10))
        found = measure(taken, k, self.seed)
        return {f"collapse_{name}": float(found[name]) for name in ("own_share", "chance", "ratio")}

"""DINO on regions: views are crops of the grid of a region's tile vectors, not of pixels.

As HIPT trains its second stage (Chen et al. 2022, section 3.3): 2 global crops of 14 x 14 and 8 local crops
of 6 x 6 cells of 16 x 16, mirrored at random. The tile vectors are given, so stage 1 gets no gradient.
"""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from pathtrain.data.order import Ints, hashed, uniform
from pathtrain.losses.dino import dino_terms, updated_center
from pathtrain.methods.base import Outcome
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.grid_vit import GridViT, cells_of
from pathtrain.recipes.hierarchical import GridCrops, RegionDino
from pathtrain.recipes.recipe import DinoConfig, HeadConfig

_STREAM = 0x726567696F6E  # keeps these hashes apart from others


class RegionNetwork(nn.ModuleDict):
    """``stage2`` and ``head``; crops (B, T, D) in groups of one size -> scores (V, B, K)."""

    def forward(self, groups: list[list[Tensor]]) -> Tensor:
        """The crops of a group go through stage 2 together, and all through the head."""
        features = []
        for group in groups:
            places = cells_of(int(group[0].shape[1] ** 0.5), group[0].device)
            features.append(self["stage2"](torch.cat(group), places))
        scores: Tensor = self["head"](torch.cat(features))
        return scores.view(sum(len(group) for group in groups), -1, scores.shape[1])


class RegionTeaching:
    """Student, teacher and centre of DINO on regions.

    Args:
        stage2: the student's; new.
        head: the projection head's sizes.
        config: temperatures and the centre's momentum, where a phase has no own.
        device: where everything lives.
    """

    def __init__(self, stage2: GridViT, head: HeadConfig, config: DinoConfig, device: torch.device) -> None:
        self.config = config
        parts = {"stage2": stage2, "head": DinoHead(stage2.dim, head)}
        self.student = RegionNetwork(parts).to(device).train()
        self.teacher = deepcopy(self.student).eval().requires_grad_(False)
        self.center = torch.zeros(head.out_dim, device=device)

    def loss(self, grids: Tensor, places: Ints, config: RegionDino, seed: int, temp: float) -> Outcome:
        """Loss of a batch of regions.

        Args:
            grids: (B, k, k, D) tile vectors.
            places: (B,) the regions' positions in the run, which their crops follow from.
            config: crops, and its own temperature.
            seed: of the run.
            temp: of the teacher, where ``config`` has no own.
        """
        count = config.globals.count
        kinds = [config.globals] * count + [config.locals] * config.locals.count
        views = [crop(grids, kind, config.flip, n, places, seed) for n, kind in enumerate(kinds)]
        large, small = views[:count], views[count:]
        with torch.no_grad():
            teacher = self.teacher([large])
        student = self.student([large, small] if small else [large])
        warmth = temp if config.teacher_temp is None else config.teacher_temp
        each, entropy = dino_terms(student, teacher, self.center, self.config.student_temp, warmth)
        means = {"center": teacher.float().mean(dim=(0, 1)), "teacher_entropy": entropy}
        return Outcome(each.mean(), each.detach(), means)

    def update(self, means: Mapping[str, Tensor], config: RegionDino) -> None:
        """Move the centre."""
        own = config.center_momentum
        momentum = self.config.center_momentum if own is None else own
        self.center = updated_center(self.center, means["center"], momentum)


def crop(grids: Tensor, crops: GridCrops, flip: float, number: int, places: Ints, seed: int) -> Tensor:
    """View ``number`` of each region, (B, size * size, D): a square at random, mirrored at random."""
    batch, side, _, dim = grids.shape
    size = crops.size
    drawn = uniform(hashed(seed, _STREAM, places, number), 4)
    starts = np.floor(drawn[:, :2] * (side - size + 1)).astype(np.int64)
    steps = np.arange(size)
    row, column = starts[:, :1] + steps, starts[:, 1:] + steps
    row = np.where(drawn[:, 2:3] < flip, row[:, ::-1], row)
    column = np.where(drawn[:, 3:] < flip, column[:, ::-1], column)
    cells = torch.from_numpy((row[:, :, None] * side + column[:, None, :]).reshape(batch, -1))
    index = cells.to(grids.device)[:, :, None].expand(-1, -1, dim)
    return grids.flatten(1, 2).gather(1, index)

"""DINO on regions: views are crops of the grid of a region's tile vectors, not of pixels.

As HIPT trains its second stage (Chen et al. 2022, section 3.3): 2 global crops of 14 x 14 and 8 local crops
of 6 x 6 cells of 16 x 16, mirrored at random. The tile vectors are given, so stage 1 gets no gradient.
"""

import numpy as np
import torch
from torch import Tensor, nn

from pathtrain.data.order import Ints, hashed, uniform
from pathtrain.methods.base import Outcome
from pathtrain.methods.teacher_pair import TeacherPair
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.grid_vit import GridViT, cells_of
from pathtrain.recipes.dino import DinoConfig, HeadConfig
from pathtrain.recipes.hierarchical import GridCrops, RegionDino

_STREAM = 0x726567696F6E  # keeps these hashes apart from others


class RegionNetwork(nn.ModuleDict):
    """``stage2`` and ``head``; crops (B, T, D) in groups of one size -> scores and features."""

    def forward(self, groups: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """The crops of a group go through stage 2 together, and all through the head.

        Returns:
            (V, B, K), and without graph (V B, D2).
        """
        features = []
        for group in groups:
            places = cells_of(int(group[0].shape[1] ** 0.5), group[0].device)
            features.append(self["stage2"](torch.cat(group), places))
        together = torch.cat(features)
        scores: Tensor = self["head"](together)
        return scores.view(sum(map(len, groups)), -1, scores.shape[1]), together.detach()


class RegionTeaching(TeacherPair):
    """DINO on regions.

    Args:
        stage2: the student's; new.
        head: the projection head's sizes.
        config: temperatures and the centre's momentum, where a phase has no own.
        device: where everything lives.
    """

    def __init__(self, stage2: GridViT, head: HeadConfig, config: DinoConfig, device: torch.device) -> None:
        network = RegionNetwork({"stage2": stage2, "head": DinoHead(stage2.dim, head)})
        super().__init__(network, head.out_dim, device)
        self.config = config

    def loss(self, grids: Tensor, places: Ints, config: RegionDino, seed: int, temp: float) -> Outcome:
        """Loss of a batch of regions; see ``TeacherPair.compare``.

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
        warmth = temp if config.teacher_temp is None else config.teacher_temp
        return self.compare(views[:count], views[count:], self.config.student_temp, warmth)

    def update(self, mean: Tensor, config: RegionDino) -> None:
        """Move the centre."""
        own = config.center_momentum
        self.move_center(mean, self.config.center_momentum if own is None else own)


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

"""DINO on regions: views are crops of the grid of a region's tile vectors, not of pixels.

As HIPT trains its second stage (Chen et al. 2022, section 3.3; github.com/mahmoodlab/HIPT,
main_dino4k.py): 2 global crops of 14 x 14 and 8 local crops of 6 x 6 cells of 16 x 16, at random places,
mirrored at random, and nothing else. The tile vectors are given, so stage 1 gets no gradient. Two things are
other than there. Views are mirrored top-bottom too, since tissue has no up. And no two of a kind lie in one
place: HIPT draws each by itself, so that a ninth of its pairs of global crops are one square, and half of
these one view. The share of cells that two global crops have in common, and of pairs that are one view,
measured on 20,000 regions:

    cells, crop    each by itself, as HIPT               here
    16, 14         .877, .029 (.056 without top-bottom)  .862, 0
    4, 3           .693, .064                            .592, 0
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

_PLACES, _FLIPS = 0x726567696F6E, 0x666C6970  # keep these hashes apart from others


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
        config: the student's temperature, and the centre's momentum where a phase has no own.
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
            config: crops.
            seed: of the run.
            temp: of the teacher.
        """
        large = crops(grids, config.globals, config.flip, 0, places, seed)
        small = crops(grids, config.locals, config.flip, len(large), places, seed)
        return self.compare(large, small, self.config.student_temp, temp)

    def update(self, mean: Tensor, config: RegionDino, taken: Tensor | None = None) -> None:
        """Move the centre, where the step is ``taken``."""
        own = config.center_momentum
        self.move_center(mean, self.config.center_momentum if own is None else own, taken)


def crops(grids: Tensor, kind: GridCrops, flip: float, first: int, places: Ints, seed: int) -> list[Tensor]:
    """The views of a kind of each region, (B, size * size, D) each: squares at random, mirrored at random.

    The squares of a region lie in different places, as long as there are more places than views.

    Args:
        grids: (B, k, k, D).
        flip: probability of mirroring, left-right and top-bottom each.
        first: number of the kind's first view among all.
        places: (B,) the regions' positions in the run.
        seed: of the run.
    """
    batch, side, _, dim = grids.shape
    free = side - kind.size + 1
    squares = np.argsort(
        hashed(seed, _PLACES, places[:, None], first, np.arange(free**2)), axis=1, kind="stable"
    )
    steps, views = np.arange(kind.size), []
    for number in range(kind.count):
        start = squares[:, number % free**2, None]
        row, column = start // free + steps, start % free + steps
        drawn = uniform(hashed(seed, _FLIPS, places, first + number), 2)
        row = np.where(drawn[:, :1] < flip, row[:, ::-1], row)
        column = np.where(drawn[:, 1:] < flip, column[:, ::-1], column)
        cells = torch.from_numpy((row[:, :, None] * side + column[:, None, :]).reshape(batch, -1))
        index = cells.to(grids.device)[:, :, None].expand(-1, -1, dim)
        views.append(grids.flatten(1, 2).gather(1, index))
    return views

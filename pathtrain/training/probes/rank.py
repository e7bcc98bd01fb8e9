"""Effective rank and SD of features of a fixed sample of tiles while training."""

import numpy as np
import torch

from pathtrain.data.online.probe_tiles import DrawnTiles
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles
from pathtrain.features.encode import encode
from pathtrain.losses import spread
from pathtrain.metrics import rankme
from pathtrain.recipes.probes import RankProbe
from pathtrain.runs.model import LoadedModel
from pathtrain.training.probes.base import Figures, LiveProbe, Setting, draw, group_of
from pathtrain.training.probes.overlap import trained_on


class LiveRank(LiveProbe):
    """Its figures: ``effective`` (RankMe) and ``sd``.

    Raises:
        UsageError, DatasetError: the dataset cannot be read.
    """

    def __init__(self, config: RankProbe, setting: Setting) -> None:
        self.setting = setting
        drawn = setting.drawn(config.dataset)
        self.tiles: DatasetTiles | FolderTiles | DrawnTiles
        if drawn is not None:
            made = drawn.spread(setting.held_out, config.tiles, setting.seed, setting.threads)
            self.tiles, self.order = setting.prepared(made), np.arange(len(made))
            self.said = made.said
            return
        self.tiles = open_tiles(setting.place(config.dataset), setting.target)
        self.order = draw(len(self.tiles), config.tiles, setting.seed)
        self.said = (
            [line] if (line := trained_on(self.tiles, group_of(self.tiles, self.order), setting)) else []
        )

    def __call__(self, model: LoadedModel) -> Figures:
        (features,), _ = encode([model], self.tiles, self.order, self.setting.how)
        sd = spread.deviation(spread.moments(torch.from_numpy(features)))
        return {"effective": rankme(features), "sd": float(sd)}

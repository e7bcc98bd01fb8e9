"""The collapse score while training: does the teacher group tiles by slide? (evaluate.tile_level.collapse)

Some tiles of each of some slides that training does not see (pathtrain.training.held_out).
"""

import numpy as np

from pathtrain.data.online.probe_tiles import DrawnTiles
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.evaluate.tile_level.collapse import Sample, measure, open_slides, sample
from pathtrain.features.encode import encode
from pathtrain.recipes.probes import CollapseProbe
from pathtrain.runs.model import LoadedModel
from pathtrain.training.probes.base import Figures, LiveProbe, Setting

FIGURES = ("own_share", "chance", "excess", "ratio")
NEIGHBOURS = 20  # as `pathtrain evaluate collapse`; fewer on samples with fewer tiles than 10 times that


class LiveCollapse(LiveProbe):
    """Its figures: FIGURES."""

    def __init__(self, config: CollapseProbe, setting: Setting) -> None:
        self.setting = setting
        own = setting.held_out if config.dataset is None else ()
        drawn = setting.drawn(config.dataset)
        self.tiles: DatasetTiles | DrawnTiles
        if drawn is not None:
            self.tiles = setting.prepared(drawn.drawn(own, config.tiles, setting.seed, setting.threads))
            self.said = self.tiles.said
        else:
            self.tiles = open_slides(setting.place(config.dataset), setting.target)
        self.order = sample(self.tiles, config.tiles, setting.seed, config.slides, own)
        self.group = self.tiles.groups_of(self.order)

    def __call__(self, model: LoadedModel) -> Figures:
        (features,), _ = encode([model], self.tiles, self.order, self.setting.how)
        kept, slide = np.unique(self.group, return_inverse=True)
        taken = Sample(features, slide, [self.tiles.groups[number] for number in kept])
        k = min(NEIGHBOURS, max(1, len(self.order) // 10))
        found = measure(taken, k, self.setting.seed)
        return {name: float(found[name]) for name in FIGURES}

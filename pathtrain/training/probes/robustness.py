"""The robustness index while training: do neighbours share the class, or the centre? (evaluate.shifts)"""

import numpy as np

from pathprep.errors import UsageError
from pathtrain.data.image_tables import ImageTable
from pathtrain.data.tile_columns import Columns
from pathtrain.evaluate.shifts import cohort as cohorts
from pathtrain.evaluate.shifts.index import search
from pathtrain.evaluate.shifts.margin import margins
from pathtrain.evaluate.shifts.study import standardised
from pathtrain.evaluate.statistics import Floats
from pathtrain.features.encode import encode
from pathtrain.params.robustness import NeighbourParams
from pathtrain.recipes.probes import RobustnessProbe
from pathtrain.runs.model import LoadedModel
from pathtrain.training.probes.base import Figures, LiveProbe, Setting, draw
from pathtrain.training.probes.overlap import trained_on

MOST_K = 101  # that is tried where the recipe gives none


class LiveRobustness(LiveProbe):
    """Its figures: ``index``; ``balanced``, how well the same neighbours tell the class; ``fragile``, the
    share of tiles that are nearer to the column than to the class, where they have enough neighbours of each.

    And the curve's levels, the same each time: ``index_chance``, and ``index_colour``, that of mean and SD of
    red, green and blue.

    Raises:
        UsageError, DatasetError: the data, labels or columns cannot be read or do not fit.
    """

    def __init__(self, config: RobustnessProbe, setting: Setting) -> None:
        self.setting = setting
        self.params = NeighbourParams(k=config.k, most_k=MOST_K)
        self.tiles = cohorts.opened(config.data, setting.target)
        whole, order = cohorts.read(
            self.tiles,
            config.by,
            Columns(config.columns, config.names),
            group=config.group,
            labels=config.labels,
        )
        cohorts.check_labelled(whole)
        rows = draw(len(order), config.tiles, setting.seed)
        self.order, self.cohort = order[rows], whole.take(rows)
        cohorts.check_classes(self.cohort)
        if reason := cohorts.together(self.cohort) or cohorts.unshared(self.cohort):
            raise UsageError(f"{config.data}: {reason}")
        most = cohorts.most_neighbours(self.cohort)
        cohorts.check_k(config.k, most, self.cohort)
        line = (
            ""
            if isinstance(self.tiles, ImageTable)
            else trained_on(self.tiles, self.tiles.group[self.order], setting)
        )
        self.said = [line] if line else []
        self._colour: float | None = None

    def __call__(self, model: LoadedModel) -> Figures:
        (features,), colour = encode([model], self.tiles, self.order, self.setting.how)
        nears, k, found = search(features, self.cohort, self.params, self.setting.seed)
        if self._colour is None:  # of the same tiles, whatever the weights
            self._colour = self._index(standardised(colour))
        units = found.units | margins(features, self.cohort, nears, k).units
        once = np.ones((1, len(self.cohort.groups)))
        chance = found.figures["index_chance"]
        assert chance is not None
        return {
            "index": float(units["index"].figure(once)[0]),
            "index_chance": chance,
            "index_colour": self._colour,
            "balanced": float(found.facts["index_balanced"]),
            **({"fragile": float(units["fragile"].figure(once)[0])} if "fragile" in units else {}),
        }

    def _index(self, features: Floats) -> float:
        _, _, found = search(features, self.cohort, self.params, self.setting.seed)
        return float(found.units["index"].figure(np.ones((1, len(self.cohort.groups))))[0])

"""All probes of a run: on one rank, with the teacher's weights, each at its own steps."""

import logging
from collections.abc import Sequence

from torch import Tensor

from pathprep.errors import PathprepError, UsageError, why
from pathtrain.recipes.probes import CollapseProbe, KnnProbe, Probe, RobustnessProbe
from pathtrain.recipes.recipe import Recipe
from pathtrain.training.probes.base import Figures, LiveProbe, Setting, empty_model
from pathtrain.training.probes.collapse import LiveCollapse
from pathtrain.training.probes.knn import LiveKnn
from pathtrain.training.probes.rank import LiveRank
from pathtrain.training.probes.robustness import LiveRobustness

log = logging.getLogger(__name__)


def due(recipe: Recipe, step: int, ended: bool) -> list[Probe]:
    """The probes that measure after a step; all ranks know, so that they bring the weights together."""
    return [probe for probe in recipe.probes if ended or step % probe.every == 0]


def _live(config: Probe, setting: Setting) -> LiveProbe:
    if isinstance(config, CollapseProbe):
        return LiveCollapse(config, setting)
    if isinstance(config, RobustnessProbe):
        return LiveRobustness(config, setting)
    return LiveKnn(config, setting) if isinstance(config, KnnProbe) else LiveRank(config, setting)


class Probes:
    """Weights of a backbone -> the figures of those that are due.

    Args:
        recipe: its ``probes`` and ``model``.

    Raises:
        UsageError: what one is to be measured on is not there, or does not fit.
    """

    def __init__(self, recipe: Recipe, setting: Setting) -> None:
        self._live: dict[str, LiveProbe] = {}
        for number, config in enumerate(recipe.probes):
            try:
                self._live[config.key] = _live(config, setting)
            except (PathprepError, OSError) as error:
                raise UsageError(
                    f"probes.{number} ({config.key}): {error}; or leave this probe out"
                ) from None
            for line in self._live[config.key].said:
                log.info("probe %s: %s", config.key, line)
        self._model = empty_model(recipe, setting.target)

    def __call__(self, weights: dict[str, Tensor], wanted: Sequence[Probe]) -> Figures:
        """Figures of the ``wanted``, each under its probe's key; one that fails says why and has none."""
        self._model.module.load_state_dict(weights)
        figures: Figures = {}
        for probe in wanted:
            try:
                found = self._live[probe.key](self._model)
            except Exception as error:  # whatever it is: training goes on without the figures
                kind = "" if isinstance(error, PathprepError) else f"{type(error).__name__}: "
                log.warning("no figures of the probe %s: %s", probe.key, kind + why(error))
            else:
                figures |= {f"{probe.key}_{name}": value for name, value in found.items()}
        return figures

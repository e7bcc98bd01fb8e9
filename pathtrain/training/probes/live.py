"""All probes of a run: on one rank, with the teacher's weights, each at its own steps."""

import logging

from torch import Tensor

from pathprep.errors import DatasetError
from pathtrain.errors import ModelError
from pathtrain.recipes.probes import Probe
from pathtrain.recipes.recipe import Recipe
from pathtrain.training.probes.base import Figures, LiveProbe, Setting, empty_model
from pathtrain.training.probes.collapse import LiveCollapse

log = logging.getLogger(__name__)


def due(recipe: Recipe, step: int, ended: bool) -> list[Probe]:
    """The probes that measure after a step; all ranks know, so that they bring the weights together."""
    return [probe for probe in recipe.probes if ended or step % probe.every == 0]


class Probes:
    """Weights of a backbone -> the figures of those that are due.

    Args:
        recipe: its ``probes`` and ``model``.

    Raises:
        UsageError, DatasetError: what one is to be measured on is not there, or does not fit.
    """

    def __init__(self, recipe: Recipe, setting: Setting) -> None:
        self._live: dict[str, LiveProbe] = {
            config.key: LiveCollapse(config, setting) for config in recipe.probes
        }
        self._model = empty_model(recipe, setting.target)

    def __call__(self, weights: dict[str, Tensor], wanted: list[Probe]) -> Figures:
        """Figures of the ``wanted``, each under its probe's key; one that fails says why and has none."""
        self._model.module.load_state_dict(weights)
        figures: Figures = {}
        for probe in wanted:
            try:
                found = self._live[probe.key](self._model)
            except (DatasetError, ModelError) as error:  # training goes on without it
                log.warning("no figures of the probe %s: %s", probe.key, error)
            else:
                figures |= {f"{probe.key}_{name}": value for name, value in found.items()}
        return figures

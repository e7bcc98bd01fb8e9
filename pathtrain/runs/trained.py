"""The encoder of a run: its teacher's backbone, of the newest intact checkpoint or of given weights."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from pathtrain.errors import CheckpointError
from pathtrain.models.backbone import build
from pathtrain.models.positions import own_side
from pathtrain.models.weight_files import first_line
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs import checkpoint, warm_start
from pathtrain.runs.described import INFO_FILE, SHA_KEY, STEP_KEY, info_of, recipe_of
from pathtrain.runs.finishing import finished
from pathtrain.runs.model import LoadedModel, Start
from pathtrain.stain.target import ModelTarget, of_run

log = logging.getLogger(__name__)


def of_weights(
    config: ModelConfig,
    weights: Mapping[str, torch.Tensor],
    name: str,
    target: ModelTarget | None,
    run: Path,
    step: int,
) -> LoadedModel:
    """A run's backbone with the weights of a step; torch's random state is left alone.

    Raises:
        RuntimeError: they do not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        module = build(config)
    module.load_state_dict(weights)
    info = info_of(run)
    identity = info.get("identity", {})
    taken, sha256 = (identity.get(key) for key in (STEP_KEY, SHA_KEY))
    init = config.init if taken is None else warm_start.at_step(config.init, taken)
    recipe = recipe_of(run)
    made = finished(module, config, name, target)
    return replace(
        made,
        size=own_side(module, config.positions, recipe.views.globals.size),
        run=run,
        origin=str(run),
        step=step,
        slides=info.get("slides"),
        start=Start(init, recipe.seed, sha256),
    )


def newest(path: Path) -> LoadedModel:
    """A run's newest encoder; raises as ``pathtrain.runs.opening.load``."""
    recipe = recipe_of(path)
    if not info_of(path):
        log.warning(
            "%s is gone: whether the run's tiles were normalised, and what it began with, is not known; copy "
            "all of a run",
            path / INFO_FILE,
        )
    value = checkpoint.load(path)
    name, target = path.resolve().name, of_run(path, recipe)
    try:
        weights = value["teacher"]["backbone"]
        return of_weights(recipe.model, weights, name, target, path, int(value["step"]))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: its checkpoint does not fit recipe.yaml ({first_line(error)})"
        ) from None

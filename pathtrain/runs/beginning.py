"""What a run begins with, settled once: how positions are resampled, and the hash of its first weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathprep.words import counted
from pathtrain.errors import ModelError
from pathtrain.models import first_weights
from pathtrain.recipes.model import RUN, ModelConfig
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import warm_start
from pathtrain.runs.described import SHA_KEY, recipe_of
from pathtrain.runs.public_start import named
from pathtrain.runs.warm_start import WarmStart

POSITIONS_KEY = "model.positions"


def settled(model: ModelConfig, before: Mapping[str, Any] | None, weights: Path | None = None) -> ModelConfig:
    """With the scheme of positions that ``auto`` stands for, and the place of a public encoder's weights.

    Args:
        before: the identity that a run was begun with, whose scheme it keeps; None for one that begins.
        weights: a file of the weights of the public encoder that ``init`` names.

    Raises:
        ModelError, CheckpointError: the first weights cannot be had, or their scheme is not known.
        UsageError: weights that go with no public encoder.
    """
    model = named(model, weights)
    if model.positions != "auto":
        return model
    start = warm_start.find(model, None, before)
    if before is not None and POSITIONS_KEY in before:
        scheme = before[POSITIONS_KEY]
    else:
        scheme = first_weights.positions(model) if start is None else recipe_of(start.run).model.positions
    return model.model_copy(update={"positions": scheme})


def account(recipe: Recipe, start: WarmStart | None) -> list[str]:
    """Lines on what a run begins with, for people; of another run ``warm_start.adopt`` tells more.

    Args:
        recipe: its model settled.
    """
    model, frozen = recipe.model, recipe.optim.freeze_backbone_steps
    lines = []
    if start is None and model.init != "random":
        where = f"positions as {model.positions}"
        lines.append(f"starts from {first_weights.said(model)}: the backbone, {where}; heads are new")
    if frozen:
        lines.append(f"the backbone is frozen for the first {counted(frozen, 'step')}")
    return lines


def other_positions(model: ModelConfig, start: WarmStart | None) -> str | None:
    """What is to be said where a run or an export resampled positions in another way than ``model`` does.

    Args:
        model: settled.
        start: the run that is started from, if one is.

    Returns:
        A sentence that names both and the key to set; None if they agree or it is not known. While computing,
        ``once`` and ``hub`` are the same.
    """
    there = first_weights.written_positions(model) if start is None else recipe_of(start.run).model.positions
    if there is None or _computing(there) == _computing(model.positions):
        return None
    return (
        f"model.init: {first_weights.said(model)} learnt with {POSITIONS_KEY}={there}, the recipe has "
        f"{model.positions}: in views of another grid than the weights' it would see other positions than it "
        f"knows. Set {POSITIONS_KEY}={there}"
    )


def _computing(positions: str) -> str:
    return "hub" if positions == "once" else positions


def identity(model: ModelConfig, before: Mapping[str, Any] | None) -> dict[str, str]:
    """What a resume must find unchanged: the hash of the files that ``model.init`` names; of others nothing.

    Args:
        before: as of ``settled``. A run that goes on needs the files no more: where they are gone, the hash
            of before stands.

    Raises:
        ModelError: a repository of the hub cannot be fetched, for a run that begins.
    """
    if model.init.startswith(RUN):
        return {}  # pathtrain.runs.warm_start has it
    if before is None:
        found = first_weights.digest(model)
        return {} if found is None else {SHA_KEY: found}
    if SHA_KEY not in before:
        return {}  # of before files were hashed
    try:
        found = first_weights.digest(model)
    except ModelError:
        found = None
    return {SHA_KEY: before[SHA_KEY] if found is None else found}

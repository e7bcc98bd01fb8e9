"""What a model is compared with: the same architecture with random weights, or with those it began with."""

from dataclasses import replace
from pathlib import Path

import torch

from pathtrain.errors import CheckpointError, ModelError
from pathtrain.models import first_weights
from pathtrain.models.any_network import any_network
from pathtrain.recipes.model import RUN, is_public
from pathtrain.recipes.names_only import short_init
from pathtrain.runs import warm_start
from pathtrain.runs.finishing import finished, with_readout
from pathtrain.runs.model import LoadedModel, Start


def untrained(model: LoadedModel, seed: int = 0) -> LoadedModel:
    """The same architecture with random weights: what a trained one must beat."""
    config = model.config.model_copy(update={"init": "random"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # as training does before it makes its networks
        module = any_network(config)
    return _like(model, finished(module, config, "random weights", model.target, model.epsilon))


def started(model: LoadedModel) -> LoadedModel:
    """The weights that the model's training began with: what training has to add something to.

    Raises:
        ModelError, CheckpointError: they are not known, or cannot be had.
    """
    if model.start is None:
        exported = bool(model.origin) and Path(model.origin).is_dir()  # public encoders never say it
        fix = "; export it again" if exported else ""
        raise ModelError(f"{model.name} does not say what its training began with{fix}")
    init = model.start.init
    if model.run is not None or is_public(init) or init != short_init(init):  # older exports have its path
        return _anew(model, "start", model.start)
    lost = f"{model.name}: its training began with {init}, of which an exported model has the name only"
    if not init.startswith(RUN) or model.start.sha256 is None:  # another file here may have that name
        raise ModelError(f"{lost}; give the run that it was exported from")
    try:
        return _anew(model, "start", model.start)
    except ModelError:
        raise ModelError(
            f"{lost}; give the run that it was exported from, or start this in the folder that holds "
            f"{init.removeprefix(RUN).partition('@')[0]}"
        ) from None


def _anew(model: LoadedModel, name: str, start: Start) -> LoadedModel:
    config = model.config.model_copy(update={"init": start.init})
    found = warm_start.find(config, None, None)
    if found is not None and start.sha256 not in (None, found.sha256):
        raise CheckpointError(
            f"{found.run}: its checkpoint of step {found.step} is not that which {model.name} began with"
        )
    if found is None and start.sha256 not in (None, first_weights.digest(config)):
        raise ModelError(
            f"{start.init}: not the weights that {model.name} began with, or no more; fetch them again"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start.seed)  # as training does before it makes its networks
        module = warm_start.encoder(config, found)
    return _like(model, finished(module, config, name, model.target))


def _like(model: LoadedModel, other: LoadedModel) -> LoadedModel:
    """Another one that is given the same images, and read out in the same way."""
    return with_readout(
        replace(other, size=model.size, patch=model.patch, fixed=model.fixed, mpps=model.mpps), model.readout
    )

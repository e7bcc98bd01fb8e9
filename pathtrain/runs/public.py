"""Opening a public encoder: its architecture, and all of its weights, from the hub or a file."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pathtrain.errors import ModelError
from pathtrain.models import weight_files
from pathtrain.models.any_network import any_network
from pathtrain.models.filling import fill, some
from pathtrain.models.folder import CONFIG_FILE, read_config
from pathtrain.models.hub_errors import explained
from pathtrain.models.patches import stride
from pathtrain.models.transformers_config import epsilon
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.finishing import finished, with_readout
from pathtrain.runs.meant import Meant
from pathtrain.runs.model import LoadedModel

log = logging.getLogger(__name__)


def open_public(known: Meant, weights: Path | None = None) -> LoadedModel:
    """With its published weights, on the CPU.

    Args:
        weights: a file of them, or a folder as it was fetched; None fetches them from the hub.

    Raises:
        ModelError: they cannot be had, or do not fit; it says what to do.
    """
    source = f"{known.name}: {weights or known.repository}"
    place = fetched(known) if weights is None else _given(known, weights)
    state = _read(known, place)
    known = _with_epsilon(known, place)
    config = _on_grid(known.config, state)
    network = _shape(config)
    try:
        filled = fill(network, state, config.positions)
    except ModelError as error:
        raise ModelError(f"{source} {error}: these are not its weights, or not all of them") from None
    if filled.left_out:
        log.info("%s: left out, no feature passes them: %s", source, some(filled.left_out))
    told = _told(known, config, network)
    # a file of the right shape is taken at its word: files of features say which it was
    return (
        told
        if weights is None or str(weights) == told.origin
        else replace(told, origin=f"{told.origin}, weights {weights.name}")
    )


def open_random(known: Meant, seed: int) -> LoadedModel:
    """The architecture with random weights: what published ones are compared with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = any_network(known.config)
    # neither its weights' licence, nor its name alone in files of features, which are given away
    told = replace(_told(known, known.config, network), licence=None, origin="")
    return replace(told, name=f"{known.name}, random weights")


def _told(known: Meant, config: ModelConfig, network: nn.Module) -> LoadedModel:
    made = finished(network, config, known.name, None, known.epsilon)
    made = replace(made, size=known.size, mpps=known.mpps, licence=known.licence, origin=known.origin)
    return made if known.readout is None else with_readout(made, known.readout)


def _with_epsilon(known: Meant, place: Path) -> Meant:
    """With what the config.json of transformers' beside weights in a folder says of norms: a file alone says
    nothing.
    """
    if not (place / CONFIG_FILE).is_file():
        return known
    try:
        found = epsilon(read_config(place))
    except (TypeError, ValueError):
        raise ModelError(f"{place / CONFIG_FILE}: its layer_norm_eps is no number; fetch it again") from None
    return known if found is None else replace(known, epsilon=found)


def fetched(known: Meant) -> Path:
    """The file or folder of its weights in the hub's cache, fetched if need be.

    Raises:
        ModelError: they cannot be.
    """
    if known.repository is None:
        raise ModelError(
            f"{known.name}: its weights are not on the Hugging Face hub; fetch them"
            f"{f' from {known.url}' if known.url else ''} and give the file: `weights` FILE"
        )
    try:
        return weight_files.fetched(known.repository, known.revision, known.file)
    except Exception as error:
        raise explained(error, known.repository, known.licence, f"{known.name}: ") from None


def _given(known: Meant, weights: Path) -> Path:
    if not weights.exists():
        raise ModelError(
            f"{known.name}: {weights}: no such file; `weights` is trained, start, random or a file"
        )
    return weights


def _read(known: Meant, place: Path) -> Mapping[str, Tensor]:
    try:
        return weight_files.read(place)
    except ModelError as error:
        raise ModelError(f"{known.name}: {error}") from None


def _shape(config: ModelConfig) -> nn.Module:
    """The network to be filled; of a plain transformer its shape alone, since drawing a billion random
    numbers takes longer than reading them.
    """
    with torch.device("meta"):
        network = any_network(config)
    # others have tables that are no weights, which a shape has not
    return network if type(network) is VisionTransformer else any_network(config)


def _on_grid(config: ModelConfig, state: Mapping[str, Tensor]) -> ModelConfig:
    """The architecture with the weights' own grid of positions, from which others are resampled."""
    with torch.device("meta"):
        network = any_network(config)
    trunk = getattr(network, "trunk", network)
    own = getattr(trunk, "pos_embed", None)
    endings = ("pos_embed", "embeddings.position_embeddings")
    there = next((value for key, value in state.items() if key.endswith(endings)), None)
    if not isinstance(trunk, VisionTransformer) or own is None or there is None or there.ndim != 3:
        return config
    prefix = own.shape[1] - math.prod(trunk.patch_embed.grid_size)
    for before in (prefix, 1, 0):
        side = math.isqrt(max(there.shape[1] - before, 0))
        if side and side * side + before == there.shape[1]:
            break
    else:
        return config
    if (side, side) == tuple(trunk.patch_embed.grid_size):
        return config
    size = side * (stride(trunk) or 1)
    return config.model_copy(update={"kwargs": {**config.kwargs, "img_size": size}})

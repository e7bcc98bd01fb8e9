"""Backbones: timm vision transformers that take images of several sizes and return one vector each.

``build`` makes the architecture with random weights (a checkpoint is then loaded into it); ``create``
also fills it with the first weights that the recipe names. Unlike timm's own loading, a weight file
that lacks a weight of the architecture, or has weights it does not know, is an error.
"""

import pickle
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import load_state_dict_from_hf
from timm.models._hub import hf_split
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from pathtrain.errors import ModelError
from pathtrain.recipes.recipe import ModelConfig

State = dict[str, torch.Tensor]
ANSWER_S = 10  # seconds that the hub may take to answer


def build(model: ModelConfig, drop_path: float = 0.0) -> nn.Module:
    """The architecture with random weights.

    Args:
        model: its name and arguments; ``init`` is not looked at.
        drop_path: stochastic depth of the last block; it climbs linearly from 0 over the blocks.

    Returns:
        images (B, 3, H, W), H and W multiples of the patch size -> pooled features (B, D).

    Raises:
        ModelError: timm does not know the architecture or refuses an argument.
    """
    # A backbone returns features, so no classes; views come in several sizes, so a dynamic one.
    fixed = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": drop_path}
    taken = sorted(fixed.keys() & model.kwargs.keys())
    if taken:
        raise ModelError(f"model.kwargs: {', '.join(taken)} is set by pathtrain itself; remove it")
    try:
        return cast(nn.Module, timm.create_model(model.name, pretrained=False, **fixed, **model.kwargs))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        said = _first_line(error)
        if "dynamic_img_size" in said:  # which any that can has
            said = "it is no vision transformer that takes images of several sizes"
        raise ModelError(f"model: timm cannot make {model.name}: {said}") from None


@torch.no_grad()
def check(backbone: nn.Module, model: ModelConfig, sizes: Mapping[str, int]) -> None:
    """Try it on a blank image of each size.

    Args:
        sizes: recipe key to side in pixels.

    Raises:
        ModelError: it does not take a size, or gives something else than a vector per image.
    """
    before, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    for key, size in sizes.items():
        try:
            shape = tuple(backbone(torch.zeros(1, 3, size, size, device=device)).shape)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(f"{key}={size}: {model.name} cannot take it: {_first_line(error)}") from None
        if shape != (1, backbone.num_features):
            raise ModelError(
                f"model.kwargs: {model.name} gives {' x '.join(map(str, shape[1:]))} numbers per image with "
                "them, where one vector is needed; is it global_pool?"
            )
    backbone.train(before)


def create(model: ModelConfig, drop_path: float = 0.0) -> nn.Module:
    """``build``, with the weights that ``model.init`` names.

    A file holds a state dict, bare or under ``teacher``, ``student``, ``state_dict`` or ``model`` (the
    first that is there); prefixes ``module.`` and ``backbone.`` and the weights of heads are left out.
    Position embeddings of another grid are resampled as timm does.

    Raises:
        ModelError: as ``build``; or the weights cannot be had or do not fit.
    """
    backbone = build(model, drop_path)
    if model.init == "random":
        return backbone
    if model.init == "imagenet":
        _fill(backbone, _imagenet(model.name), f"imagenet weights of {model.name}")
    else:
        _fill(backbone, _read(Path(model.init)), model.init)
    return backbone


def checkpoint_activations(backbone: nn.Module, model: ModelConfig) -> None:
    """Run each block again in the backward pass instead of keeping what it computed.

    Raises:
        ModelError: the architecture cannot.
    """
    switch = getattr(backbone, "set_grad_checkpointing", None)
    try:
        if switch is None:
            raise AssertionError
        switch(True)
    except AssertionError:  # timm's architectures without it assert that it is not wanted
        raise ModelError(f"model.checkpoint: {model.name} has no activation checkpointing") from None


def _imagenet(name: str) -> State:
    """timm's default weights of an architecture, from the local cache or the network."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or not config.hf_hub_id:
        raise ModelError(f"model.init: timm has no imagenet weights of {name}; give random or a file")
    try:
        _find(config.hf_hub_id)
        return cast(State, load_state_dict_from_hf(config.hf_hub_id, weights_only=True))
    except (OSError, HTTPError) as error:  # what a download raises, by the version of the hub's client
        raise ModelError(
            f"model.init: imagenet weights of {name} cannot be fetched ({_first_line(error)}); fetch "
            f"model.safetensors of {config.hf_hub_id} elsewhere and give it: model.init=/path/to/file"
        ) from None


def _find(hub_id: str) -> None:
    """Ask once for weights that are not in the cache; the hub's client asks for minutes if nobody answers."""
    repository, revision = hf_split(hub_id)
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names):
        return
    with suppress(EntryNotFoundError):  # there under the other name
        get_hf_file_metadata(hf_hub_url(repository, names[0], revision=revision), timeout=ANSWER_S)


def _read(path: Path) -> State:
    """The state dict in a .safetensors file or a torch checkpoint."""
    try:
        if path.suffix == ".safetensors":
            return cast(State, load_file(path))
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"model.init: {path} cannot be read: {_first_line(error)}") from None
    for key in ("teacher", "student", "state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    # pathtrain's own checkpoints nest once more
    if isinstance(value, dict) and isinstance(value.get("backbone"), dict):
        value = value["backbone"]
    if not isinstance(value, dict) or not all(isinstance(v, torch.Tensor) for v in value.values()):
        raise ModelError(f"model.init: {path} holds no state dict")
    return cast(State, value)


def _fill(backbone: nn.Module, state: State, source: str) -> None:
    state = {re.sub(r"^(module\.)?(backbone\.)?", "", key): value for key, value in state.items()}
    # DINO's projection head is `head.*`, a classifier is `head.*` or `fc.*`; a backbone has neither
    state = {key: value for key, value in state.items() if not key.startswith(("head", "fc."))}
    own: dict[str, Any] = backbone.state_dict()
    try:
        state = checkpoint_filter_fn(state, backbone)
        backbone.load_state_dict(
            state, strict=False
        )  # shapes; names are checked below, with a shorter message
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"model.init: {source} does not fit: {_first_line(error)}") from None
    for what, names in (("lacks", own.keys() - state.keys()), ("has too much:", state.keys() - own.keys())):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ModelError(
                f"model.init: {source} {what} {len(names)} weights ({shown}); "
                "check model.name and model.kwargs"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

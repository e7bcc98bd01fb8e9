"""Backbones: timm vision transformers that take images of several sizes and return one vector each.

``build`` makes the architecture with random weights (a checkpoint is then loaded into it); ``create``
also fills it with the first weights that the recipe names. Unlike timm's own loading, a weight file
that lacks a weight of the architecture, or has weights it does not know, is an error.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from pathtrain.errors import ModelError
from pathtrain.models import first_weights, layouts
from pathtrain.models.layouts import State
from pathtrain.models.positions import KEEP_GRID
from pathtrain.models.weight_files import first_line
from pathtrain.recipes.model import ModelConfig


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
    except (RuntimeError, TypeError, ValueError, AssertionError, ArithmeticError, LookupError) as error:
        said = first_line(error)[:200]
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
            raise ModelError(f"{key}={size}: {model.name} cannot take it: {first_line(error)}") from None
        if shape != (1, backbone.num_features):
            raise ModelError(
                f"model.kwargs: {model.name} gives {' x '.join(map(str, shape[1:]))} numbers per image with "
                "them, where one vector is needed; is it global_pool?"
            )
    backbone.train(before)


def create(model: ModelConfig, drop_path: float = 0.0, extras: dict[str, Any] | None = None) -> nn.Module:
    """``build``, with the weights that ``model.init`` names (pathtrain.models.first_weights).

    A file holds a state dict, bare or under ``teacher``, ``student``, ``state_dict`` or ``model`` (the
    first that is there), in a layout that pathtrain.models.layouts knows; heads are left out. Position
    embeddings of another grid are resampled as timm does, if ``model.positions`` is ``once``.

    Args:
        extras: gets ``mask_token`` (1, D), what stands for a masked patch, if the weights have one.

    Raises:
        ModelError: as ``build``; or the weights cannot be had or do not fit.
    """
    backbone = build(model, drop_path)
    state = first_weights.read(model)
    if state is not None:
        mask_token = _fill(backbone, state, first_weights.said(model), model)
        if extras is not None and mask_token is not None:
            extras["mask_token"] = mask_token
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


def freeze_patches(backbone: nn.Module, model: ModelConfig) -> None:
    """Take the patch embedding out of training (MoCo v3: Chen, Xie and He 2021, section 4.2).

    Raises:
        ModelError: the architecture has none.
    """
    patches = getattr(backbone, "patch_embed", None)
    if not isinstance(patches, nn.Module):
        raise ModelError(f"model.freeze_patch_embed: {model.name} has no patch embedding")
    patches.requires_grad_(False)


def _fill(backbone: nn.Module, given: State, source: str, model: ModelConfig) -> torch.Tensor | None:
    """Load weights of any known layout; returns the mask token, if there is one."""
    own: dict[str, Any] = backbone.state_dict()
    try:
        laid = layouts.read(given)
        state = laid.state
        if laid.layout != "timm" and {"pos_embed", "cls_token"} <= state.keys():
            if getattr(backbone, "no_embed_class", False):
                state = layouts.fold_class_position(laid)
            elif laid.registers:
                raise ModelError(
                    "does not fit: its register tokens have no positions; set "
                    "model.kwargs.no_embed_class=true, and reg_tokens to how many there are"
                )
        if model.positions in KEEP_GRID:
            _same_grid(state, own, model)
        state = checkpoint_filter_fn(state, backbone)
    except ModelError as error:
        raise ModelError(f"model.init: {source} {error}") from None
    except (KeyError, RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(f"model.init: {source} does not fit: {first_line(error)}") from None
    for what, names in (("lacks", own.keys() - state.keys()), ("has too much:", state.keys() - own.keys())):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ModelError(
                f"model.init: {source} {what} {len(names)} weights ({shown}); "
                "check model.name and model.kwargs"
            )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"model.init: {source} does not fit: {name} is {tuple(tensor.shape)}, {model.name} with "
                f"these arguments has {tuple(own[name].shape)}; check model.name and model.kwargs"
            )
    backbone.load_state_dict(state)
    return laid.mask_token


def _same_grid(state: State, own: State, model: ModelConfig) -> None:
    """Refuse weights of another grid, which the scheme of positions would keep."""
    there, here = (weights["pos_embed"].shape[1] for weights in (state, own))
    if there != here:
        patch = own["patch_embed.proj.weight"].shape[-1]
        raise ModelError(
            f"has {there} positions, {model.name} with these arguments {here}; model.positions "
            f"{model.positions} keeps the grid of the weights: set model.kwargs.img_size="
            f"{math.isqrt(there) * patch}, or model.positions=once"
        )

"""Backbones: timm vision transformers that take images of several sizes and return one vector each.

``build`` makes the architecture with random weights (a checkpoint is then loaded into it); ``create``
also fills it with the first weights that the recipe names. Unlike timm's own loading, a weight file
that lacks a weight of the architecture, or has weights it does not know, is an error.
"""

from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from torch import nn

from pathtrain.errors import ModelError
from pathtrain.models import first_weights
from pathtrain.models.filling import fill
from pathtrain.models.networks import NETWORKS
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
    if model.name in NETWORKS:
        raise ModelError(
            f"model: {model.name} is for features: it takes images of one size, and training needs several"
        )
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
        source = first_weights.said(model)
        try:
            filled = fill(backbone, state, model.positions)
        except ModelError as error:
            raise ModelError(f"model.init: {source} {error}; check model.name and model.kwargs") from None
        if extras is not None and filled.mask_token is not None:
            extras["mask_token"] = filled.mask_token
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

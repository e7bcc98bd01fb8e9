"""Weights into a network: of whatever layout, all of them, and none left over but heads.

Unlike timm's own loading, a file that lacks a weight of the network, or has one that it does not know, is an
error: features of a network that is partly random look like features.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from pathtrain.errors import ModelError
from pathtrain.models import layouts
from pathtrain.models.layouts import State
from pathtrain.models.positions import KEEP_GRID
from pathtrain.models.weight_files import first_line

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Filled:
    """What filling found beside the network's weights.

    Attributes:
        mask_token: (1, D), what stands for a masked patch, if there is one.
        left_out: names of heads and other towers, which no feature passes.
    """

    mask_token: Tensor | None
    left_out: list[str]


def fill(network: nn.Module, given: Mapping[str, Tensor], positions: str = "once") -> Filled:
    """Load weights of any known layout.

    Args:
        network: with numbers, or a shape alone (on torch's meta device).
        given: a state dict, as the file has it.
        positions: a recipe's ``model.positions``: ``once`` resamples those of another grid as timm does;
            schemes that keep the weights' grid refuse them.

    Raises:
        ModelError: they do not fit; the message begins with a verb: ``lacks 12 weights (...)``.
    """
    own: dict[str, Any] = network.state_dict()
    try:
        laid = layouts.read(given, own.keys())
        state = laid.state
        if laid.layout in ("DINOv2", "transformers") and {"pos_embed", "cls_token"} <= state.keys():
            if getattr(network, "no_embed_class", False):
                state = layouts.fold_class_position(laid)
            elif laid.registers:
                raise ModelError(
                    "does not fit: its register tokens have no positions; set "
                    "model.kwargs.no_embed_class=true, and reg_tokens to how many there are"
                )
        if positions in KEEP_GRID and "pos_embed" in own and "pos_embed" in state:
            _same_grid(state, own, positions)
        _same_patches(state, own)
        state = _filtered(state, network)
    except (KeyError, RuntimeError, ValueError, AssertionError, AttributeError) as error:
        raise ModelError(f"does not fit: {first_line(error)}") from None
    for what, names in (("lacks", own.keys() - state.keys()), ("has too much:", state.keys() - own.keys())):
        if names:
            raise ModelError(f"{what} {len(names)} weights ({some(names)})")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"does not fit: {name} is {tuple(tensor.shape)}, the network with these arguments has "
                f"{tuple(own[name].shape)}"
            )
    if _is_shape(
        network
    ):  # which the weights themselves become part of: in its type, and in memory of their own
        state = {name: value.to(own[name].dtype, copy=True) for name, value in state.items()}
        network.load_state_dict(state, assign=True)
    else:
        network.load_state_dict(state)
    return Filled(laid.mask_token, laid.left_out)


def some(names: Any) -> str:
    """A few names, sorted."""
    found = sorted(names)
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")


def _filtered(state: State, network: nn.Module) -> State:
    """In the names of timm's present version: what the network's own module makes of older files."""
    if isinstance(network, VisionTransformer):
        found: State = checkpoint_filter_fn(state, network)
        return found
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return state if convert is None else convert(state, network)


def _same_grid(state: State, own: State, positions: str) -> None:
    """Refuse weights of another grid, which the scheme of positions would keep."""
    there, here = (weights["pos_embed"].shape[1] for weights in (state, own))
    if there != here:
        patch = own["patch_embed.proj.weight"].shape[-1]
        raise ModelError(
            f"has {there} positions, the network with these arguments {here}; model.positions "
            f"{positions} keeps the grid of the weights: set model.kwargs.img_size="
            f"{math.isqrt(there) * patch}, or model.positions=once"
        )


def _same_patches(state: State, own: State) -> None:
    """Refuse weights of another patch size: timm would resample them, and those of another model pass."""
    ending = "patch_embed.proj.weight"
    there, here = (
        next((tuple(value.shape[2:]) for key, value in weights.items() if key.endswith(ending)), ())
        for weights in (state, own)
    )
    if there and here and there != here:
        raise ModelError(
            f"does not fit: it was trained on patches of {there[-1]} px, the network takes {here[-1]} px"
        )


def _is_shape(network: nn.Module) -> bool:
    return any(parameter.device == torch.device("meta") for parameter in network.parameters())

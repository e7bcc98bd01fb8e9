"""The optimiser, and what is done to gradients before its step."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import is_sharded, local
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import ModelError
from pathtrain.recipes.optim import OptimConfig


def adamw(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW in groups: those with weight decay, and those without (biases and anything of one dimension).

    Of one dimension are norms and LayerScale. Tokens, positions and the gain of a head's last layer have
    more, and decay, as DINOv2's do.

    Each group carries ``decays``, and ``lr_scale``, what the step's rate is multiplied by (``rate_scales``).
    ``schedule`` sets both at each step.

    Raises:
        ModelError: rates are to differ, and the network has no such layers.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    scales = rate_scales(network, config)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, p in named:
        decays = not (name.endswith(".bias") or p.ndim == 1)
        groups.setdefault((decays, scales[name]), []).append(p)
    made: list[dict[str, Any]] = [
        {"params": groups[key], "decays": key[0], "lr_scale": key[1], "weight_decay": 0.0}
        for key in sorted(groups, reverse=True)
    ]
    return torch.optim.AdamW(made, lr=config.lr, betas=config.betas, fused=True)


def rate_scales(network: nn.Module, config: OptimConfig) -> dict[str, float]:
    """Each parameter's factor of the learning rate: ``layer_scales``, of the patch embedding less.

    Raises:
        ModelError: as ``layer_scales``; or the patch embedding is to differ, and there is none.
    """
    scales = layer_scales(network, config.layer_decay)
    if config.patch_embed_scale != 1:
        patches = [name for name in scales if name.startswith("backbone.patch_embed.")]
        if not patches:
            raise ModelError("optim.patch_embed_scale: the backbone has no patch embedding; set it to 1")
        scales |= {name: scales[name] * config.patch_embed_scale for name in patches}
    return scales


def layer_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """Each parameter's factor of the learning rate, by its name: decay^(L + 1 - i) in a backbone of L blocks.

    Layer i is 0 for what comes before the blocks (patch embedding, positions, CLS, register and mask tokens),
    j + 1 for block j, and L + 1, factor 1, for all else: the last norm, heads, later stages. As BEiT (Bao et
    al. 2022) and DINOv2 count; timm counts the last norm with the last block.

    Raises:
        ModelError: ``decay`` is not 1, and the network has no ``backbone`` of numbered blocks.
    """
    names = [name for name, _ in network.named_parameters()]
    if decay == 1:
        return dict.fromkeys(names, 1.0)
    backbone = dict(network.named_children()).get("backbone")
    blocks, matcher = getattr(backbone, "blocks", None), getattr(backbone, "group_matcher", None)
    if blocks is None or matcher is None:
        raise ModelError("optim.layer_decay: the backbone has no numbered blocks; set it to 1")
    stem, last = re.compile(matcher()["stem"]), len(blocks) + 1
    found = {}
    for name in names:
        inner = name.removeprefix("backbone.")
        layer = last
        if _is_mask_token(inner):
            layer = 0
        elif inner != name:
            block = re.match(r"blocks\.(\d+)\.", inner)
            layer = int(block[1]) + 1 if block else 0 if stem.match(inner) else last
        found[name] = decay ** (last - layer)
    return found


def part_of(name: str) -> str:
    """The network that a student's parameter is of: its child's name; the mask token is the backbone's."""
    return "backbone" if _is_mask_token(name) else name.partition(".")[0]


def _is_mask_token(name: str) -> bool:
    return name.partition(".")[0] == "mask_token"


def schedule(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set a step's learning rate and weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


@torch.no_grad()
def scale_each(tensors: list[Tensor], factors: list[Tensor]) -> None:
    """Multiply each tensor by its factor, a scalar tensor, in place.

    Uncompiled a kernel a tensor: torch's multi-tensor kernels want factors of the tensors' shapes.
    """
    torch._foreach_mul_(tensors, factors)


@torch.no_grad()
def clip_each(
    parameters: Iterable[nn.Parameter],
    largest: float | None,
    ranks: Ranks | None = None,
    scale: Callable[[list[Tensor], list[Tensor]], None] = scale_each,
    parts: Sequence[str] | None = None,
) -> Tensor:
    """Scale each gradient whose L2 norm exceeds ``largest`` down to it.

    By tensor, as DINO's clip_gradients, or by network, as DINOv2, which calls clip_grad_norm_ on each.

    Args:
        parameters: with gradients, P of them.
        largest: None for no limit.
        ranks: which hold the other parts of sharded gradients.
        scale: ``scale_each``, or that compiled.
        parts: P names, of each parameter's network, to clip by these; None: each tensor alone.

    Returns:
        The L2 norm of each gradient before clipping, (P,).
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(0)
    held = local(grads)
    norms = torch.stack(torch._foreach_norm(held))
    if ranks is not None and is_sharded(grads):
        norms = ranks.sum(norms.square()).sqrt()
    if largest is not None:
        lengths = norms if parts is None else _together(norms, parts)
        scale(held, list((largest / (lengths + 1e-6)).clamp(max=1).unbind()))
    return norms


def _together(norms: Tensor, parts: Sequence[str]) -> Tensor:
    """(P,) of each parameter the norm of all of its part, from those of each alone.

    A card is not waited for.
    """
    squares: dict[str, list[Tensor]] = {}
    for part, square in zip(parts, norms.square().unbind(), strict=True):
        squares.setdefault(part, []).append(square)
    found = {part: torch.stack(own).sum().sqrt() for part, own in squares.items()}
    return torch.stack([found[part] for part in parts])

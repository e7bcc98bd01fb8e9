"""The optimiser, and what is done to gradients before its step."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import is_sharded, local
from pathtrain.distributed.ranks import Ranks
from pathtrain.recipes.recipe import OptimConfig


def adamw(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW in two groups: with weight decay, and without (biases and anything of one dimension)."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    plain = [p for name, p in named if name.endswith(".bias") or p.ndim == 1]
    decayed = [p for name, p in named if not (name.endswith(".bias") or p.ndim == 1)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


@torch.no_grad()
def clip_each(
    parameters: Iterable[nn.Parameter], largest: float | None, ranks: Ranks | None = None
) -> Tensor:
    """Scale each gradient tensor whose L2 norm exceeds ``largest`` down to it, as DINO's clip_gradients.

    Each tensor on its own, unlike torch's clip_grad_norm_, which scales all by their common norm.

    Args:
        parameters: with gradients, P of them.
        largest: None for no limit.
        ranks: which hold the other parts of sharded gradients.

    Returns:
        The L2 norm of each gradient before clipping, (P,).
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(0)
    parts = local(grads)
    norms = torch.stack(torch._foreach_norm(parts))
    if ranks is not None and is_sharded(grads):
        norms = ranks.sum(norms.square()).sqrt()
    if largest is not None:
        torch._foreach_mul_(parts, list((largest / (norms + 1e-6)).clamp(max=1).unbind()))
    return norms

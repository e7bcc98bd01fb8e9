"""A network in bfloat16 beside the float32 weights that are trained.

Under torch.autocast sums along a transformer's blocks, their LayerNorms and the saved activations are
float32, and every weight is cast in each pass. Here all of the network is bfloat16 but what says it must not
be; optimiser, moving average and checkpoints keep the float32 weights (master weights; Micikevicius et al.
2018, "Mixed precision training", section 3.1).
"""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
REDUCED = torch.bfloat16


def reduced(network: Network) -> Network:
    """A copy that computes in bfloat16.

    Of what a module lists in ``FULL``, parameters are the network's own, and buffers stay as they are.

    Its other parameters need gradients where the network's do; ``refresh`` brings them up to date.
    """
    copy = deepcopy(network)
    for own, other in zip(network.modules(), copy.modules(), strict=True):
        for name, parameter in own.named_parameters(recurse=False):
            made = parameter if name in getattr(own, "FULL", ()) else _reduced(parameter)
            setattr(other, name, made)
        for name, buffer in other.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in getattr(own, "FULL", ()):
                setattr(other, name, buffer.to(REDUCED))
    return copy


def _reduced(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(REDUCED), parameter.requires_grad)


def pairs(network: nn.Module, copy: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Parameters of a network and those of its copy, without what they share."""
    both = zip(network.parameters(), copy.parameters(), strict=True)
    return [(own, other) for own, other in both if own is not other]


@torch.no_grad()
def refresh(found: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Bring copies up to date, for all ``pairs`` at once."""
    if found:
        own, other = zip(*found, strict=True)
        torch._foreach_copy_(list[Tensor](other), list[Tensor](own))

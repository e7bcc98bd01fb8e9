"""Parameters divided among ranks (FSDP2), for backbones that do not fit one card with their optimiser.

Checkpoints hold whole tensors under the same names, whether or not a run is sharded, so that a run may go
on either way and on any number of ranks.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(networks: Iterable[nn.Module]) -> None:
    """Divide each network's parameters evenly among all ranks; blocks are gathered one at a time."""
    from torch.distributed.fsdp import fully_shard

    for network in networks:
        for backbone in _backbones(network):
            for block in backbone.blocks:  # type: ignore[union-attr]
                fully_shard(block)
        # a network without a backward pass, the teacher, would stay put together
        fully_shard(network, reshard_after_forward=True)


def compile_blocks(networks: Iterable[nn.Module], backend: Any = "inductor") -> None:
    """torch.compile of every block of every backbone, in place: names in checkpoints stay.

    By itself: gathering the weights of sharded ones is not compiled, and gradients come block by block, not
    all at the end of one compiled backward pass.
    """
    # a block of each depth, in training and not, for every size of view
    torch._dynamo.config.recompile_limit = 256
    for network in networks:
        for backbone in _backbones(network):
            for module in backbone.blocks:  # type: ignore[union-attr]
                module.compile(dynamic=False, backend=backend)


def _backbones(network: nn.Module) -> list[nn.Module]:
    """Every module in it that has ``blocks``, timm's name for a transformer's layers."""
    containers = nn.Sequential | nn.ModuleList
    return [m for m in network.modules() if isinstance(getattr(m, "blocks", None), containers)]


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether any of them is divided among ranks."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's parts: the tensors themselves where they are not divided."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def whole(value: Any, keep: bool = True) -> Any:
    """A state with every divided tensor put together, on the CPU. All ranks must call it.

    Args:
        keep: False on ranks that do not need the result: they help, and get None for every tensor.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, Tensor):
        return value if keep else None
    if isinstance(value, dict):
        return {key: whole(part, keep) for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part, keep) for part in value]
    return value


def divided_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's whole state as its sharded parameters need it; the state itself where they are not."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def divided(tensor: Any, parameter: Tensor) -> Any:
        if isinstance(parameter, DTensor) and isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
            return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
        return tensor

    return {
        **state,
        "state": {
            number: {key: divided(value, parameters[number]) for key, value in values.items()}
            for number, values in state["state"].items()
        },
    }

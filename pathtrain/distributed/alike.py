"""That all ranks begin with the same weights."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import TrainError


def check_alike(weights: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Compare a checksum of each tensor over ranks; all ranks must call it, before tensors are divided.

    Gradients are averaged and weights are not: ranks that begin apart stay apart, and nothing would tell.

    Args:
        weights: by name; the same names on every rank.

    Raises:
        TrainError: on all ranks, if they differ.
    """
    if ranks.world == 1 or not weights:
        return
    sums = torch.stack([_checksum(tensor) for tensor in weights.values()])
    least, most = sums.clone(), sums.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    other = [name for name, same in zip(weights, (least == most).tolist(), strict=True) if not same]
    if other:
        raise TrainError(
            f"the {ranks.world} ranks begin with different weights: {len(other)} of {len(weights)} tensors, "
            f"such as {other[0]}; is what model.init names, or the version of timm or torch, another on one "
            "of the machines?"
        )


def _checksum(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bytes, those of each place in its numbers by a weight of its own; int64."""
    whole = tensor.detach().contiguous().flatten()
    parts = whole.view(torch.uint8).view(-1, whole.element_size()).sum(dim=0, dtype=torch.int64)
    return (parts * torch.arange(1, len(parts) + 1, device=parts.device)).sum()

"""What losses are computed in: float32, whatever the networks are."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """The same values in float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()

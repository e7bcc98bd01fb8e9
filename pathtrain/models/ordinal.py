"""Ordered classes from one score: CORAL (Cao, Mirjalili and Raschka 2020, arXiv 1901.07884)."""

import torch
from torch import Tensor, nn


class Thresholds(nn.Module):
    """A score's logits of being above each of the C - 1 thresholds between C ordered classes.

    All share the score and differ by a bias, so that at the optimum they are in order.

    Args:
        classes: C, at least 2.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        # ordered at the start, as coral-pytorch's preinit_bias: from 1 towards 0
        self.bias = nn.Parameter(torch.arange(classes - 1, 0, -1, dtype=torch.float32) / (classes - 1))

    def forward(self, score: Tensor) -> Tensor:
        """(..., 1) -> (..., C - 1)."""
        return score + self.bias


def ordinal_head(dim: int, classes: int) -> nn.Module:
    """A linear score and its thresholds: (..., D) -> (..., C - 1)."""
    return nn.Sequential(nn.Linear(dim, 1, bias=False), Thresholds(classes))

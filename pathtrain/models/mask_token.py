"""What the student sees in place of a masked patch."""

import torch
from torch import Tensor, nn


class MaskToken(nn.Module):
    """A vector (D,) that is learnt; a module, so that ranks can divide it as they do all else.

    Args:
        dim: D.
        learnt: (1, D), that of public weights.
    """

    def __init__(self, dim: int, learnt: Tensor | None = None) -> None:
        super().__init__()
        first = torch.zeros(1, dim) if learnt is None else learnt.detach().clone().float().view(1, dim)
        self.token = nn.Parameter(first)

    def forward(self) -> Tensor:
        """(D,); a copy, as a divided parameter is whole only in here."""
        return self.token[0].clone()

"""DINO's projection head: an MLP, L2 normalisation, and a linear layer whose rows have length 1.

Caron et al. 2021, appendix C; github.com/facebookresearch/dino, vision_transformer.py, class DINOHead.
The weight normalisation of the last layer is written out (direction and length as plain parameters)
instead of using torch's parametrisation, so that checkpoints hold what the formula names.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.recipes.dino import HeadConfig


class DinoHead(nn.Module):
    """features (B, D) -> scores (B, out_dim), cosines if ``norm_last_layer``.

    Normalisation and last layer are float32 also under autocast and in a reduced network (float64 stays):
    near 1, bfloat16 has steps of 1/128, which a temperature of .04 makes .2 nats of.

    Args:
        dim: D.
        config: ``layers`` counts the linear layers of the MLP, with GELU between them; with
            ``norm_last_layer`` the lengths of the last layer's rows stay 1, otherwise they are learnt.
    """

    FULL = ("last_direction", "last_length")  # pathtrain.models.reduced leaves them as they are

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        widths = [dim, *[config.hidden_dim] * (config.layers - 1), config.bottleneck_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            linear = nn.Linear(before, after)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_direction = nn.Parameter(torch.empty(config.out_dim, config.bottleneck_dim))
        nn.init.kaiming_uniform_(self.last_direction, a=math.sqrt(5))  # nn.Linear's own
        self.last_length = nn.Parameter(
            torch.ones(config.out_dim, 1), requires_grad=not config.norm_last_layer
        )

    def forward(self, x: Tensor, part: Literal["whole", "vectors", "last"] = "whole") -> Tensor:
        """Scores; or of its two halves one.

        Args:
            x: features (B, D); of ``last``, what ``vectors`` gives.
            part: ``vectors``: up to the normalisation, (B, bottleneck_dim), a fraction of the scores' size;
                ``last``: the last layer alone.
        """
        if part != "last":
            x = self.mlp(x)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.last_direction)
            if part != "last":
                x = functional.normalize(x, dim=-1)
            if part == "vectors":
                return x
            weight = functional.normalize(self.last_direction, dim=-1) * self.last_length
            return functional.linear(x, weight)

    def last_layer(self) -> list[nn.Parameter]:
        """The parameters that stay fixed at the start of a run."""
        return [self.last_direction, self.last_length]

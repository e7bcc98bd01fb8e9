"""TransMIL: two layers of Nystroem attention over a slide's tiles, with convolutions between them.

Shao et al. 2021 (arXiv 2106.00908) and its released code. Exact: 512 wide, 8 heads, 256 landmarks, 6 steps
of the pseudo-inverse, a convolution of 33 over the values, dropout .1 after attention; tiles are laid into
the smallest square, which the first ones fill up; convolutions of 7, 5 and 3 over it. Memory grows with the
tiles, not with their square: each attends to the landmarks, means of runs of tiles (Xiong et al. 2021).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.losses.precision import wide
from pathtrain.models.mil import BagLoss, bag_loss

WIDTH, HEADS, LANDMARKS, STEPS, KERNEL, DROPOUT = 512, 8, 256, 6, 33, 0.1


def pseudo_inverse(x: Tensor, steps: int) -> Tensor:
    """Moore and Penrose's, by the iteration of the Nystroemformer, of softmax matrices (H, m, m)."""
    rows, columns = x.abs().sum(dim=-1), x.abs().sum(dim=-2)
    z = x.transpose(-1, -2) / (rows.max() * columns.max())
    one = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    for _ in range(steps):
        xz = x @ z
        z = 0.25 * z @ (13 * one - xz @ (15 * one - xz @ (7 * one - xz)))
    return z


class NystromAttention(nn.Module):
    """Attention of n tokens in the memory of n times the landmarks.

    Args:
        width: of tokens, a multiple of ``heads``.
        heads, landmarks, steps: see the module.
        kernel: of the convolution along the tokens that is added to the values; odd.
        dropout: after the last layer.
    """

    def __init__(
        self,
        width: int = WIDTH,
        heads: int = HEADS,
        landmarks: int = LANDMARKS,
        steps: int = STEPS,
        kernel: int = KERNEL,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        self.heads, self.landmarks, self.steps = heads, landmarks, steps
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.residual = nn.Conv1d(heads, heads, kernel, padding=kernel // 2, groups=heads, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, width) -> the same, and what the first token gives to each (n,), the mean of the heads."""
        count, width = x.shape
        run = math.ceil(count / self.landmarks)
        # the paper's code pads at the front, with tokens of zeros, which count as keys
        padded = functional.pad(x, (0, 0, run * self.landmarks - count, 0))
        q, k, v = (
            part.reshape(len(padded), self.heads, -1).transpose(0, 1)
            for part in self.qkv(padded).chunk(3, -1)
        )
        q = q * (width // self.heads) ** -0.5
        marks = [t.reshape(self.heads, self.landmarks, run, -1).mean(dim=2) for t in (q, k)]
        reads = wide(q @ marks[1].transpose(-1, -2)).softmax(dim=-1)  # (heads, n, m)
        between = wide(marks[0] @ marks[1].transpose(-1, -2)).softmax(dim=-1)
        gives = wide(marks[0] @ k.transpose(-1, -2)).softmax(dim=-1)  # (heads, m, n)
        inverse = pseudo_inverse(between, self.steps)
        values = wide(v)
        mixed = (reads @ inverse) @ (gives @ values)
        depth = values.shape[-1]
        # one kernel a head along the tokens, for every number of the head alike
        flat = values.permute(2, 0, 1).reshape(depth, self.heads, -1)
        mixed = mixed + self.residual(flat).permute(1, 2, 0)
        first = len(padded) - count
        with torch.no_grad():
            looked = (reads[:, first : first + 1] @ inverse @ gives)[:, 0, first:].mean(dim=0)
        return self.out(mixed.transpose(0, 1).reshape(len(padded), width).to(x.dtype))[first:], looked


class Pyramid(nn.Module):
    """Depth-wise convolutions of 7, 5 and 3 over the square of tiles, added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, side, padding=side // 2, groups=width) for side in (7, 5, 3)
        )

    def forward(self, tiles: Tensor, side: int) -> Tensor:
        """(side * side, width), row by row -> the same."""
        square = tiles.T.reshape(1, -1, side, side)
        found: Tensor = square + sum(convolution(square) for convolution in self.convolutions)
        return found[0].flatten(1).T


class TransMil(nn.Module):
    """A slide's outputs from its tiles, in the order that they have.

    Args:
        dim: D, numbers per tile.
        outputs: O.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(dim, WIDTH), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.layers = nn.ModuleList(NystromAttention() for _ in range(2))
        self.pyramid = Pyramid(WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, outputs)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score a slide.

        Returns:
            Outputs (O,), what the slide's token takes from each tile in the last layer (1, N): it may be
            below 0, as the attention is an approximation; and the tiles after the first layer (N, 512).
        """
        h = self.embed(tiles)
        count, side = len(h), math.ceil(math.sqrt(len(h)))
        h = torch.cat([self.token.to(h.dtype), h, h[: side * side - count]])
        h = h + self.layers[0](self.norms[0](h))[0]
        h = torch.cat([h[:1], self.pyramid(h[1:], side)])
        mixed, looked = self.layers[1](self.norms[1](h))
        return self.classifier(self.norm((h + mixed)[0])), looked[None, 1 : count + 1], h[1 : count + 1]

    def loss(self, tiles: Tensor, label: int, of: BagLoss | None = None) -> Tensor:
        """The bag's loss; None: cross-entropy."""
        return (of or bag_loss)(self(tiles)[0], label)

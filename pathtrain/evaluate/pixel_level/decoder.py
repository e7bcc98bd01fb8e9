"""The published decoder on patch tokens, and its loss.

Of kaiko eva (ConvDecoderWithImage), which Midnight's segmentation figures are made with:

    patch grid (B, D, g, g) -> nearest, twice the side -> 3 x 3 convolution to 64, batch norm, ReLU
    -> bilinear to the image's side -> beside it the normalised RGB -> twice: 3 x 3 convolution to 32, batch
    norm, ReLU -> 1 x 1 convolution to the classes

The first convolution of the image's side is of an enlarged grid, bilinear from 32 cells to 224 px: most of
the work. Both are linear, so it is done on the grid and enlarged afterwards, each of its nine taps moved by
its place: the same to rounding, with a fifth of the products, and without 64 channels of the image's side.

Without tokens it is what remains: the RGB branch, which sees 5 x 5 pixels. That is the baseline ``colour``.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.data.segmented.truth import IGNORED
from pathtrain.losses.precision import wide

FIRST, SECOND = 64, 32  # channels
SMOOTH = 1e-5  # of the loss, above and below: MONAI's


class Decoder(nn.Module):
    """See the module's text.

    Args:
        dim: D, of the tokens; None for none.
        classes: C, with the background.
    """

    def __init__(self, dim: int | None, classes: int) -> None:
        super().__init__()
        self.tokens = None if dim is None else nn.Sequential(nn.Upsample(scale_factor=2), _block(dim, FIRST))
        self.image = nn.Sequential(_block(3 + (FIRST if dim else 0), SECOND), _block(SECOND, SECOND))
        self.classes = nn.Conv2d(SECOND, classes, 1)

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits (B, C, S, S).

        Args:
            images: (B, 3, S, S), normalised as the encoder takes them.
            tokens: (B, P, D), row by row of a square grid; None for a decoder without.
        """
        opening: Any = self.image[0]
        first: nn.Conv2d = opening[0]
        if self.tokens is None:
            seen = first(images)
        else:
            assert tokens is not None
            side = math.isqrt(tokens.shape[1])
            grid = self.tokens(tokens.transpose(1, 2).reshape(len(tokens), -1, side, side))
            seen = functional.conv2d(images, first.weight[:, FIRST:], first.bias, padding=1)
            seen = seen + enlarged_convolution(grid, first.weight[:, :FIRST], images.shape[-1])
        logits: Tensor = self.classes(self.image[1](opening[1:](seen)))
        return logits


def enlarged_convolution(grid: Tensor, weight: Tensor, size: int) -> Tensor:
    """A 3 x 3 convolution, padded with zeros, of a grid that is enlarged bilinearly.

    Args:
        grid: (B, C, g, g). weight: (O, C, 3, 3). size: S, the side that it is enlarged to.

    Returns:
        (B, O, S, S), as of conv2d(interpolate(grid, (S, S), mode="bilinear"), weight, padding=1).
    """
    batch, channels, cells, _ = grid.shape
    out = len(weight)
    kind = torch.float64 if grid.dtype == torch.float64 else torch.float32
    taps = _taps(cells, size, grid.device, kind)
    # b = batch, o = out, d and e = taps down and across, i and j = cells; y and x = pixels
    products = weight.permute(2, 0, 3, 1).reshape(-1, channels) @ grid.flatten(2)
    products = products.view(batch, 3, out, 3, cells, cells).permute(0, 2, 1, 4, 3, 5)  # b o d i e j
    wide_rows = products.reshape(batch, out, 3 * cells, 3 * cells) @ taps.permute(0, 2, 1).reshape(-1, size)
    return taps.permute(1, 0, 2).reshape(size, -1) @ wide_rows  # d i are summed


@cache
@torch.inference_mode(False)  # they are kept, and for training too
def _taps(cells: int, size: int, device: torch.device, kind: torch.dtype) -> Tensor:
    """(3, S, g): what pixels above, at and below each of a row take from cells; beyond the edge 0."""
    one = torch.eye(cells, dtype=torch.float64)[None]
    same = functional.interpolate(one, size=size, mode="linear")[0].T
    nothing = torch.zeros(1, cells, dtype=torch.float64)
    rows = [torch.cat([nothing, same[:-1]]), same, torch.cat([same[1:], nothing])]
    return torch.stack(rows).to(device, kind)


def _block(wide_in: int, wide_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)
    )


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """The Dice loss of MONAI as eva has it: softmax, summed over the batch, background included.

    Of pixels to be ignored eva sets the logits to 0 and the class to background: without a gradient, they
    count in the denominators all the same.

    Args:
        logits: (B, C, H, W); under autocast they are computed on in float32.
        classes: (B, H, W), 0 to C - 1, or IGNORED.

    Returns:
        The mean over classes of 1 - (2 sum(p y) + 1e-5) / (sum(p) + sum(y) + 1e-5).
    """
    with torch.autocast(logits.device.type, enabled=False):
        counts = classes != IGNORED
        shares = (wide(logits) * counts[:, None]).softmax(dim=1)
        goals = functional.one_hot(classes.long() * counts, logits.shape[1]).movedim(-1, 1)
        over = (0, 2, 3)
        both = (shares * goals).sum(over)
        dice = (2 * both + SMOOTH) / (shares.sum(over) + goals.sum(over) + SMOOTH)
        return 1 - dice.mean()

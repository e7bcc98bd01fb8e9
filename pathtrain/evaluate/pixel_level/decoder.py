"""The published decoder on patch tokens, and its loss.

Of kaiko eva (ConvDecoderWithImage), which Midnight's segmentation figures are made with:

    patch grid (B, D, g, g) -> nearest, twice the side -> 3 x 3 convolution to 64, batch norm, ReLU
    -> bilinear to the image's side -> beside it the normalised RGB -> twice: 3 x 3 convolution to 32, batch
    norm, ReLU -> 1 x 1 convolution to the classes

Without tokens it is what remains: the RGB branch, which sees 5 x 5 pixels. That is the baseline ``colour``.
"""

import math

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
        seen = images
        if self.tokens is not None:
            assert tokens is not None
            side = math.isqrt(tokens.shape[1])
            grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
            found = functional.interpolate(self.tokens(grid), images.shape[-2:], mode="bilinear")
            seen = torch.cat([found, images], dim=1)
        logits: Tensor = self.classes(self.image(seen))
        return logits


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

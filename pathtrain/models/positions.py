"""Position embeddings for grids of other sizes, resampled as DINO does.

A view of 96 px has 6 x 6 patches, and a ViT of 224 px has embeddings of 14 x 14. timm brings them to 6 x 6 by
antialiased bicubic interpolation; DINO (github.com/facebookresearch/dino, vision_transformer.py,
interpolate_pos_encoding) by plain bicubic interpolation with a factor of (6 + 0.1) / 14, the 0.1 against
rounding: it places samples by that factor too. The two differ by a relative L2 of .82 of random embeddings
and .05 to .3 of smooth ones. Weights that DINO has trained know its own.

Of the model's own size nothing is resampled, and so nothing differs: there features are those of plain timm.
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

OFFSET = 0.1  # cells


class AsDino(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """timm's transformer with DINO's resampling."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches (B, H, W, D) -> tokens (B, N, D) with their positions."""
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        positions = resampled(
            self.pos_embed[:, prefix:], self.patch_embed.grid_size, (x.shape[1], x.shape[2])
        )
        tokens = [
            token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        patches = x.flatten(1, 2)
        if self.no_embed_class:
            found = torch.cat([*tokens, patches + positions], dim=1)
        else:
            found = torch.cat([*tokens, patches], dim=1) + torch.cat(
                [self.pos_embed[:, :prefix], positions], dim=1
            )
        dropped: Tensor = self.pos_drop(found)
        return dropped


def resampled(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Embeddings (1, rows * columns, D) of one grid for another."""
    if old == new:
        return positions
    grid = positions.reshape(1, *old, -1).permute(0, 3, 1, 2)
    factors = [(there + OFFSET) / here for there, here in zip(new, old, strict=True)]
    return functional.interpolate(grid, scale_factor=factors, mode="bicubic").flatten(2).transpose(1, 2)


def as_dino(backbone: nn.Module) -> None:
    """Have a backbone resample as DINO does, from now on.

    Of timm's other architectures (deit, beit, eva, ...) DINO has none: they keep timm's way.
    """
    if type(backbone) is VisionTransformer and backbone.pos_embed is not None:
        backbone.__class__ = AsDino

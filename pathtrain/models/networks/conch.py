"""CONCH's image tower: a ViT-B/16 of 448 px, and a query that attends to its tokens (Lu et al. 2024).

The features are those that its authors give for all but comparison with text: the pooled query, normed,
before the projection (github.com/mahmoodlab/CONCH, conch/open_clip_custom: encode_image with
proj_contrast=False, normalize=False). The pooling is CoCa's (Yu et al. 2022): one learnt query, 8 heads, keys
and values of all tokens, CLS too.
"""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

POOLED, HEADS = 512, 8


class Pooling(nn.Module):
    """Tokens (B, N, C) -> (B, D): what a learnt query finds in them."""

    def __init__(self, dim: int, context: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, dim) * dim**-0.5)
        self.attn = nn.MultiheadAttention(dim, heads, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(context)

    def forward(self, tokens: Tensor) -> Tensor:
        """The one query's answer to each image."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        found: Tensor = self.attn(query, keys, keys, need_weights=False)[0][:, 0]
        return found


class Conch(nn.Module):
    """Images (B, 3, H, W) -> (B, 512)."""

    def __init__(
        self, img_size: int = 448, pooled: int = POOLED, pool_heads: int = HEADS, **arguments: Any
    ) -> None:
        """With random weights.

        Args:
            img_size: the grid of its positions, pixels.
            pooled: width of the features.
            pool_heads: of the pooling.
            arguments: of timm's VisionTransformer.
        """
        super().__init__()
        self.trunk = VisionTransformer(
            img_size=img_size, patch_size=16, num_classes=0, dynamic_img_size=True, **arguments
        )
        self.attn_pool_contrast = Pooling(pooled, self.trunk.num_features, pool_heads)
        self.ln_contrast = nn.LayerNorm(pooled)
        self.num_features = pooled

    @property
    def patch_embed(self) -> nn.Module:
        """Of the trunk, which says sizes."""
        found: nn.Module = self.trunk.patch_embed
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The pooled features."""
        found: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(images)))
        return found

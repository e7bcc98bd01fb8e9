"""MUSK's image tower: the half of BEiT-3 that sees images (Xiang et al. 2025; Wang et al. 2022, BEiT-3).

A ViT-L/16 of 384 px with norms before attention and feed-forward and, of Magneto (Wang et al. 2022), within
them: before the last product of each. Weights of images and text lie side by side, A and B; these are A.
Position embeddings begin at the third row, as fairseq's do (github.com/lilab-stanford/MUSK, musk/torchscale).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5  # torchscale's
UNUSED = 2  # rows of positions


class Block(nn.Module):
    """Tokens (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(dim, EPSILON) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.inner_norm = nn.LayerNorm(dim, EPSILON)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.hidden_norm = nn.LayerNorm(hidden, EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attention and feed-forward, each added to what it was given."""
        inner = self.norm1(tokens)
        parts = [
            each(inner).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        ]
        mixed = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(self.inner_norm(mixed))
        hidden = functional.gelu(self.fc1(self.norm2(tokens)).float())
        found: Tensor = tokens + self.fc2(self.hidden_norm(hidden))
        return found


class PatchEmbed(nn.Module):
    """Images (B, 3, H, W) -> patches (B, N, D)."""

    def __init__(self, side: int, patch: int, dim: int) -> None:
        super().__init__()
        self.img_size, self.patch_size = (side, side), (patch, patch)
        self.grid_size = (side // patch, side // patch)
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Patches in rows."""
        found: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return found


class Musk(nn.Module):
    """Images (B, 3, S, S) of one size -> CLS (B, D)."""

    fixed_size = True
    num_prefix_tokens = 1
    has_class_token = True

    def __init__(
        self,
        img_size: int = 384,
        patch_size: int = 16,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.num_features = embed_dim
        self.patch_embed = PatchEmbed(img_size, patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        count = (img_size // patch_size) ** 2 + 1
        self.pos_embed = nn.Parameter(torch.randn(1, count, embed_dim) * embed_dim**-0.5)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, int(embed_dim * mlp_ratio)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, EPSILON)

    def tokens(self, images: Tensor, blocks: int) -> list[Tensor]:
        """(B, 1 + N, D) after each of the last blocks, before the last norm."""
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        found: list[Tensor] = []
        for block in self.blocks:
            tokens = block(tokens)
            found = [*found, tokens][-blocks:]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The CLS token, normed."""
        found: Tensor = self.norm(self.tokens(images, 1)[0][:, 0])
        return found

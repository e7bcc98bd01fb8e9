"""CTransPath: a Swin-T whose patches are cut by convolutions (Wang et al. 2022, Medical Image Analysis 81).

timm's Swin, with another patch embedding: two 3 x 3 convolutions of stride 2, each with batch norm and ReLU,
and a 1 x 1 convolution (github.com/Xiyue-Wang/TransPath, ctran.py). Its features are the mean of the 7 x 7
last ones. Images are of 224 px only, as published: windows of 7 divide no other grid as they were learnt.
"""

from collections.abc import Callable
from typing import Any

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

SIDE, PATCH = 224, 4


class ConvStem(nn.Module):
    """Images (B, 3, H, W) -> patches (B, H / 4, W / 4, D), normed."""

    def __init__(
        self,
        img_size: int = SIDE,
        patch_size: int = PATCH,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Callable[..., nn.Module] | None = None,
        **rest: Any,  # how timm's own stem would lay its patches out
    ) -> None:
        super().__init__()
        if patch_size != PATCH or embed_dim % 8:
            raise ValueError(
                f"a stem of two strides of 2 has patches of {PATCH} px and a multiple of 8 channels"
            )
        self.img_size, self.patch_size = (img_size, img_size), (PATCH, PATCH)
        self.grid_size = (img_size // PATCH, img_size // PATCH)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, 2, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Patches in rows and columns, channels last, as timm's Swin takes them."""
        found: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return found


def ctranspath(**arguments: Any) -> nn.Module:
    """The network with random weights, without a classifier; drop_path_rate 0."""
    given = {"img_size": SIDE, "num_classes": 0, "drop_path_rate": 0.0, "embed_layer": ConvStem, **arguments}
    network: nn.Module = SwinTransformer(**given)
    network.fixed_size = True  # type: ignore[assignment]
    return network

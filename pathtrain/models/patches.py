"""How many pixels of an image's side a network's patch stands for."""

from typing import Any

from torch import nn


def stride(network: nn.Module) -> int | None:
    """Side in pixels of what one patch token stands for; None of a network that does not say.

    Before the patches of timm's hybrids (vit_tiny_r_s16_p8_224) lies a convolutional stem, whose stride
    counts as well: its ``patch_size`` is one of the stem's pixels.
    """
    embed: Any = getattr(network, "patch_embed", None)
    if hasattr(embed, "feat_ratio"):
        return int(embed.feat_ratio())
    size = getattr(embed, "patch_size", None)
    return None if size is None else int(size if isinstance(size, int) else size[0])

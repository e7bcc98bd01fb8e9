"""One forward pass for views of several sizes, and masked patches: what DINOv2 asks of a transformer.

Views of one size are a group. All groups' tokens lie behind one another, (1, T, D): norms, linear layers and
MLPs take them together, which is one large product of matrices in place of several, and only attention
(torch's scaled_dot_product_attention) is called once for each group (pathtrain.models.packed_blocks).

That is of timm's VisionTransformer with its plain blocks. Other transformers of timm run group by group.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers import Attention, DropPath, PatchEmbed
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pathtrain.errors import ModelError
from pathtrain.models.packed_blocks import DropBy, PackedBlock, SubsetEvaBlock, rate_of, split


class MaskablePatches(PatchEmbed):  # type: ignore[misc]
    """timm's patch embedding, some of whose patches may be replaced in the next pass."""

    instead: tuple[Tensor, Tensor] | None = None  # masks (B, N), and the token (D,)

    def forward(self, x: Tensor) -> Tensor:
        """Images -> patches (B, N, D) or (B, H, W, D)."""
        patches: Tensor = super().forward(x)
        return patches if self.instead is None else masked(patches, *self.instead)


class OfGroups(nn.Module):
    """What makes ``tokens`` a backbone's forward pass, which compilers and FSDP look at."""

    def forward(self, x: Any, masks: Tensor | None = None, mask_token: Tensor | None = None) -> Any:
        """Images (B, 3, H, W) as timm's; of a list of groups, and masks of the first, ``tokens``."""
        return super().forward(x) if isinstance(x, Tensor) else tokens(self, x, masks, mask_token)


def as_packed(backbone: nn.Module, drop_by: DropBy = "sample") -> None:
    """Prepare a backbone for ``tokens``, in place, before it is copied, compiled or sharded.

    It takes images as before; by then, too, a block drops paths by ``drop_by``. Names in its state stay.

    Args:
        backbone: one of timm's transformers.
        drop_by: how stochastic depth is drawn.

    Raises:
        ModelError: its patches cannot be masked, or it cannot drop by subsets.
    """
    name = type(backbone).__name__
    if not isinstance(getattr(backbone, "patch_drop", None), nn.Identity | None):
        raise ModelError("model.kwargs: patch_drop_rate cannot be used where patches are masked; remove it")
    blocks = getattr(backbone, "blocks", ())
    kind = type(backbone)
    if _plain(backbone):
        for block in blocks:
            block.__class__ = PackedBlock
            block.drop_by = drop_by
        backbone.__class__ = type(kind.__name__, (OfGroups, kind), {})
        return
    embedding = getattr(backbone, "patch_embed", None)
    if type(embedding) is not PatchEmbed or not blocks:
        raise ModelError(
            f"model.name: a {name} of timm whose patches cannot be masked; take a plain vision transformer "
            "(vit_..._dinov2) or one of EVA's kind (vit_..._dinov3)"
        )
    embedding.__class__ = MaskablePatches
    if drop_by == "subset" and any(rate_of(module) for module in backbone.modules()):
        if any(type(block) is not EvaBlock for block in blocks):
            raise ModelError(f"drop_path_by=subset: {name} of timm cannot; set sample, or drop_path=0")
        for block in blocks:
            block.__class__ = SubsetEvaBlock
    backbone.__class__ = type(kind.__name__, (OfGroups, kind), {})


def drop_alike(backbone: nn.Module, rate: float) -> None:
    """Give all blocks the same rate of stochastic depth, as DINOv2 has it; timm lets it rise from 0.

    Raises:
        ModelError: its blocks have no stochastic depth of timm's.
    """
    for block in getattr(backbone, "blocks", ()) if rate else ():
        if not (hasattr(block, "drop_path1") and hasattr(block, "drop_path2")):
            name = type(backbone).__name__
            raise ModelError(f"drop_path_depth=even: {name} of timm cannot; set rising, or drop_path=0")
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)


def tokens(
    backbone: nn.Module,
    groups: Sequence[Tensor],
    masks: Tensor | None = None,
    mask_token: Tensor | None = None,
) -> list[Tensor]:
    """All tokens of images of several sizes, after the last norm.

    Args:
        backbone: after ``as_packed``.
        groups: images (B_g, 3, H_g, W_g), each group of one size.
        masks: (B_0, N_0) bool, of the first group: which patches the mask token replaces, before positions
            are added; None for none.
        mask_token: (D,) or (1, D); needed with masks.

    Returns:
        (B_g, P + N_g, D): P prefix tokens (class, registers), then patches row by row.
    """
    if (masks is None) != (mask_token is None):
        raise ValueError("masks and mask_token go together")
    instead = None if masks is None or mask_token is None else (masks, mask_token)
    if not (isinstance(backbone, VisionTransformer) and _packed(backbone)):
        return [_alone(backbone, images, None if number else instead) for number, images in enumerate(groups)]
    embedded = []
    for number, images in enumerate(groups):
        patches = backbone.patch_embed(images)
        if instead is not None and not number:
            patches = masked(patches, *instead)
        embedded.append(backbone.norm_pre(backbone._pos_embed(patches)))
    shapes = tuple((x.shape[0], x.shape[1]) for x in embedded)
    x = torch.cat([x.reshape(1, -1, x.shape[2]) for x in embedded], dim=1)
    for block in backbone.blocks:
        if backbone.grad_checkpointing and torch.is_grad_enabled():
            x = cast(Tensor, checkpoint(block, x, shapes=shapes, use_reentrant=False))
        else:
            x = block(x, shapes=shapes)
    return split(backbone.norm(x), shapes)


def masked(patches: Tensor, masks: Tensor, token: Tensor) -> Tensor:
    """Patches (B, N, D) or (B, H, W, D) with the token (D,) where masks (B, N) are."""
    return torch.where(masks.view(*patches.shape[:-1], 1), token.to(patches.dtype), patches)


def _alone(backbone: Any, images: Tensor, instead: tuple[Tensor, Tensor] | None) -> Tensor:
    if instead is None:
        return cast(Tensor, backbone.forward_features(images))
    backbone.patch_embed.instead = instead
    try:
        return cast(Tensor, backbone.forward_features(images))
    finally:
        backbone.patch_embed.instead = None


def _plain(backbone: nn.Module) -> bool:
    """Whether it computes as VisionTransformer with plain blocks does."""
    return (
        isinstance(backbone, VisionTransformer)
        and type(backbone).forward_features is VisionTransformer.forward_features
        and all(type(block) in (Block, PackedBlock) for block in backbone.blocks)
        and all(type(block.attn) is Attention for block in backbone.blocks)
    )


def _packed(backbone: VisionTransformer) -> bool:
    return all(isinstance(block, PackedBlock) for block in backbone.blocks)

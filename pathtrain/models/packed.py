"""One forward pass for views of several sizes, and masked patches: what DINOv2 asks of a transformer.

Views of one size are a group. All groups' tokens lie behind one another, (1, T, D): norms, linear layers and
MLPs take them together, which is one large product of matrices in place of several, and only attention
(torch's scaled_dot_product_attention) is called once for each group.

Stochastic depth is drawn per sample, as timm does it (a sample's branch is computed and multiplied by 0), or
by subsets of a batch, as DINOv2 does: of a group's b samples max(int(b (1 - p)), 1) are taken by a random
permutation, the branch is computed of these alone and multiplied by b over their number. Attention and MLP
and each group have draws of their own. It saves the share p of the computation.
Oquab et al. 2024, "DINOv2: Learning robust visual features without supervision", section 5.

That is of timm's VisionTransformer with its plain blocks. Other transformers of timm run group by group.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from timm.layers import Attention, DropPath, PatchEmbed
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pathtrain.errors import ModelError

DropBy = Literal["sample", "subset"]
Shapes = tuple[tuple[int, int], ...]  # of each group: samples, and tokens of each
Branch = Callable[[Tensor, Shapes], Tensor]


class PackedBlock(Block):  # type: ignore[misc]  # timm is untyped
    """timm's block for packed tokens too."""

    drop_by: DropBy = "sample"

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        shapes: Shapes | None = None,
    ) -> Tensor:
        """Tokens (B, N, D) as timm's; or with ``shapes`` those of several groups, (1, T, D)."""
        if attn_mask is not None or is_causal:
            return super().forward(x, attn_mask, is_causal)  # type: ignore[no-any-return]
        if shapes is None:
            count, length, width = x.shape
            shapes = ((count, length),)
            return self.forward(x.reshape(1, -1, width), shapes=shapes).view(count, length, width)
        x = self._added(x, shapes, self._attention, self.drop_path1)
        return self._added(x, shapes, self._perceptron, self.drop_path2)

    def _attention(self, x: Tensor, shapes: Shapes) -> Tensor:
        found: Tensor = self.ls1(attended(self.attn, self.norm1(x), shapes))
        return found

    def _perceptron(self, x: Tensor, shapes: Shapes) -> Tensor:
        found: Tensor = self.ls2(self.mlp(self.norm2(x)))
        return found

    def _added(self, x: Tensor, shapes: Shapes, branch: Branch, drop: nn.Module) -> Tensor:
        rate = _rate(drop) if self.training else 0.0
        if not rate:
            return x + branch(x, shapes)
        if self.drop_by == "sample":
            return x + branch(x, shapes) * _kept(x, shapes, rate)
        rows, taken = _subsets(x.device, shapes, rate)
        found = branch(x.index_select(1, torch.cat(rows)), taken).to(x.dtype)
        parts = torch.split(found, [count * length for count, length in taken], dim=1)
        for number, (part, places) in enumerate(zip(parts, rows, strict=True)):
            # the first makes a new tensor, which the others may write to
            add = x.index_add_ if number else x.index_add
            x = add(1, places, part, alpha=shapes[number][0] / taken[number][0])
        return x


class SubsetEvaBlock(EvaBlock):  # type: ignore[misc]
    """timm's block of EVA and DINOv3 with stochastic depth by subsets of the batch."""

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Tokens (B, N, D)."""
        if not self.training:
            return super().forward(x, rope, attn_mask, is_causal)  # type: ignore[no-any-return]

        def attention(x: Tensor) -> Tensor:
            found: Tensor = self.attn(self.norm1(x), rope=rope, attn_mask=attn_mask, is_causal=is_causal)
            return found if self.gamma_1 is None else self.gamma_1 * found

        def perceptron(x: Tensor) -> Tensor:
            found: Tensor = self.mlp(self.norm2(x))
            return found if self.gamma_2 is None else self.gamma_2 * found

        for branch, drop in ((attention, self.drop_path1), (perceptron, self.drop_path2)):
            few = _few(len(x), _rate(drop))
            samples = torch.randperm(len(x), device=x.device)[:few]
            x = x.index_add(0, samples, branch(x[samples]).to(x.dtype), alpha=len(x) / few)
        return x


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
    if drop_by == "subset" and any(_rate(module) for module in backbone.modules()):
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
    return _split(backbone.norm(x), shapes)


def masked(patches: Tensor, masks: Tensor, token: Tensor) -> Tensor:
    """Patches (B, N, D) or (B, H, W, D) with the token (D,) where masks (B, N) are."""
    return torch.where(masks.view(*patches.shape[:-1], 1), token.to(patches.dtype), patches)


def attended(attention: Attention, x: Tensor, shapes: Shapes) -> Tensor:
    """timm's attention (1, T, D) -> (1, T, D) within each sample of each group.

    Its dropout and its norms are kept; positions are in the tokens already.
    """
    dropout = attention.attn_drop.p if attention.training else 0.0
    gate = None if attention.gate is None else attention.gate(x).sigmoid()
    found = []
    for part, (count, length) in zip(_split(attention.qkv(x), shapes), shapes, strict=True):
        heads = part.view(count, length, 3, attention.num_heads, attention.head_dim)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        out = functional.scaled_dot_product_attention(
            attention.q_norm(q), attention.k_norm(k), v, dropout_p=dropout
        )
        found.append(out.transpose(1, 2).reshape(1, count * length, attention.attn_dim))
    x = attention.norm(found[0] if len(found) == 1 else torch.cat(found, dim=1))
    x = attention.proj(x if gate is None else x * gate)
    return cast(Tensor, attention.proj_drop(x))


def _alone(backbone: Any, images: Tensor, instead: tuple[Tensor, Tensor] | None) -> Tensor:
    if instead is None:
        return cast(Tensor, backbone.forward_features(images))
    backbone.patch_embed.instead = instead
    try:
        return cast(Tensor, backbone.forward_features(images))
    finally:
        backbone.patch_embed.instead = None


def _split(x: Tensor, shapes: Shapes) -> list[Tensor]:
    """(1, T, D) -> (B_g, N_g, D) of each group."""
    parts = torch.split(x, [count * length for count, length in shapes], dim=1)
    return [part.view(*shape, -1) for part, shape in zip(parts, shapes, strict=True)]


def _kept(x: Tensor, shapes: Shapes, rate: float) -> Tensor:
    """(1, T, 1): 0 for the samples whose branch is dropped, else 1 / (1 - rate)."""
    draws = x.new_empty(sum(count for count, _ in shapes)).bernoulli_(1 - rate)
    if rate < 1:
        draws = draws / (1 - rate)
    parts = torch.split(draws, [count for count, _ in shapes])
    spread = [part[:, None].expand(shape).flatten() for part, shape in zip(parts, shapes, strict=True)]
    return torch.cat(spread)[None, :, None]


def _subsets(device: torch.device, shapes: Shapes, rate: float) -> tuple[list[Tensor], Shapes]:
    """The samples of each group that keep a branch: their tokens' places among all, and their shapes."""
    rows, taken, start = [], [], 0
    for count, length in shapes:
        few = _few(count, rate)
        samples = torch.randperm(count, device=device)[:few]
        places = start + samples[:, None] * length + torch.arange(length, device=device)
        rows.append(places.flatten())
        taken.append((few, length))
        start += count * length
    return rows, tuple(taken)


def _few(count: int, rate: float) -> int:
    return max(int(count * (1 - rate)), 1)


def _rate(module: nn.Module) -> float:
    return float(module.drop_prob) if isinstance(module, DropPath) else 0.0


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

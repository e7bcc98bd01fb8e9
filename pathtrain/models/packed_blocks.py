"""Blocks of a transformer for tokens of several groups at once, and stochastic depth by subsets of a batch.

Stochastic depth is drawn per sample, as timm does it (a sample's branch is computed and multiplied by 0), or
by subsets of a batch, as DINOv2 does: of a group's b samples max(int(b (1 - p)), 1) are taken by a random
permutation, the branch is computed of these alone and multiplied by b over their number. Attention and MLP
and each group have draws of their own. It saves the share p of the computation.
Oquab et al. 2024, "DINOv2: Learning robust visual features without supervision", section 5.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from timm.layers import Attention, DropPath
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

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
        rate = rate_of(drop) if self.training else 0.0
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
            few = _few(len(x), rate_of(drop))
            samples = torch.randperm(len(x), device=x.device)[:few]
            x = x.index_add(0, samples, branch(x[samples]).to(x.dtype), alpha=len(x) / few)
        return x


def attended(attention: Attention, x: Tensor, shapes: Shapes) -> Tensor:
    """timm's attention (1, T, D) -> (1, T, D) within each sample of each group.

    Its dropout and its norms are kept; positions are in the tokens already.
    """
    dropout = attention.attn_drop.p if attention.training else 0.0
    gate = None if attention.gate is None else attention.gate(x).sigmoid()
    found = []
    for part, (count, length) in zip(split(attention.qkv(x), shapes), shapes, strict=True):
        heads = part.view(count, length, 3, attention.num_heads, attention.head_dim)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        out = functional.scaled_dot_product_attention(
            attention.q_norm(q), attention.k_norm(k), v, dropout_p=dropout
        )
        found.append(out.transpose(1, 2).reshape(1, count * length, attention.attn_dim))
    x = attention.norm(found[0] if len(found) == 1 else torch.cat(found, dim=1))
    x = attention.proj(x if gate is None else x * gate)
    return cast(Tensor, attention.proj_drop(x))


def split(x: Tensor, shapes: Shapes) -> list[Tensor]:
    """(1, T, D) -> (B_g, N_g, D) of each group."""
    parts = torch.split(x, [count * length for count, length in shapes], dim=1)
    return [part.view(*shape, -1) for part, shape in zip(parts, shapes, strict=True)]


def rate_of(module: nn.Module) -> float:
    """Of stochastic depth; 0 of what is none."""
    return float(module.drop_prob) if isinstance(module, DropPath) else 0.0


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

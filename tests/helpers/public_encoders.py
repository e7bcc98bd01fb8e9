"""Random weights under the names of public encoders' files, and what such a network gives, by hand.

The forward passes are written from the names alone, in float64: torchscale's encoder (MUSK) and open_clip's
CoCa (CONCH).
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

State = dict[str, Tensor]


def drawn(network: nn.Module, seed: int = 0) -> State:
    """Weights for a network, none of them as it begins: also scales, biases and running means."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            state[name] = value.clone()
            continue
        around = 1.0 if name.endswith(("norm.weight", "gamma", "running_var")) or "norm" in name else 0.0
        noise = torch.randn(value.shape, generator=rng) * (
            0.2 if value.ndim < 2 else value[0].numel() ** -0.5
        )
        state[name] = (
            (around * (not name.endswith("bias")) + noise).abs()
            if "running_var" in name
            else (around * name.endswith("weight") + noise)
        )
    return state


def old_swin(state: State) -> dict[str, State]:
    """As ctranspath.pth has them: of timm 0.5, tables among the weights, downsampling a stage early."""
    found = {}
    for key, value in state.items():
        key = re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        found[key] = value
    for stage, blocks in enumerate((2, 2, 6, 2)):
        for block in range(blocks):
            found[f"layers.{stage}.blocks.{block}.attn.relative_position_index"] = torch.zeros(49, 49).long()
            if block % 2 and stage < 3:
                found[f"layers.{stage}.blocks.{block}.attn_mask"] = torch.zeros(64 >> 2 * stage, 49, 49)
    return {"model": found}


def musk(
    dim: int = 24, depth: int = 2, hidden: int = 96, side: int = 4, patch: int = 16, seed: int = 0
) -> State:
    """As xiangjx/musk has them, both halves."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*size: int, around: float = 0.0) -> Tensor:
        return around + 0.2 * torch.randn(*size, generator=rng)

    state = {
        "beit3.text_embed.weight": draw(7, dim),
        "beit3.vision_embed.mask_token": draw(1, 1, dim),
        "beit3.vision_embed.cls_token": draw(1, 1, dim),
        "beit3.vision_embed.proj.weight": 0.2 * draw(dim, 3, patch, patch),
        "beit3.vision_embed.proj.bias": draw(dim),
        "beit3.encoder.embed_positions.A.weight": draw(side * side + 3, dim),
        "beit3.encoder.embed_positions.B.weight": draw(9, dim),
        "vision_head.weight": draw(dim, dim),
        "language_head.weight": draw(dim, dim),
        "logit_scale": torch.tensor(2.0),
    }
    for half in "AB":
        state |= {
            f"beit3.encoder.layer_norm.{half}.weight": draw(dim, around=1),
            f"beit3.encoder.layer_norm.{half}.bias": draw(dim),
        }
        for number in range(depth):
            block = f"beit3.encoder.layers.{number}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                state[f"{block}.self_attn.{name}.{half}.weight"] = draw(dim, dim)
                state[f"{block}.self_attn.{name}.{half}.bias"] = draw(dim)
            for name, size in (
                (f"self_attn.inner_attn_ln.{half}", dim),
                (f"self_attn_layer_norm.{half}", dim),
                (f"final_layer_norm.{half}", dim),
                (f"ffn.{half}.ffn_layernorm", hidden),
            ):
                state[f"{block}.{name}.weight"], state[f"{block}.{name}.bias"] = (
                    draw(size, around=1),
                    draw(size),
                )
            for name, shape in ((f"ffn.{half}.fc1", (hidden, dim)), (f"ffn.{half}.fc2", (dim, hidden))):
                state[f"{block}.{name}.weight"], state[f"{block}.{name}.bias"] = draw(*shape), draw(shape[0])
    return state


def musk_forward(state: State, images: Tensor, heads: int) -> Tensor:
    """All tokens (B, N, D) float64 after the last norm, from the half for images."""
    w = {key.removeprefix("beit3."): value.double() for key, value in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    kernel = w["vision_embed.proj.weight"]
    x = functional.conv2d(images.double(), kernel, w["vision_embed.proj.bias"], kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["vision_embed.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + w["encoder.embed_positions.A.weight"][2 : 2 + x.shape[1]]  # fairseq counts from two
    number = 0
    while f"encoder.layers.{number}.final_layer_norm.A.weight" in w:
        block, (batch, count, dim) = f"encoder.layers.{number}", x.shape
        inner = norm(x, f"{block}.self_attn_layer_norm.A")
        q, k, v = (
            linear(inner, f"{block}.self_attn.{part}_proj.A").view(batch, count, heads, -1).transpose(1, 2)
            for part in "qkv"
        )
        shares = (q @ k.transpose(2, 3) / (dim // heads) ** 0.5).softmax(-1)
        mixed = (shares @ v).transpose(1, 2).reshape(batch, count, dim)
        x = x + linear(norm(mixed, f"{block}.self_attn.inner_attn_ln.A"), f"{block}.self_attn.out_proj.A")
        hidden = functional.gelu(linear(norm(x, f"{block}.final_layer_norm.A"), f"{block}.ffn.A.fc1"))
        x = x + linear(norm(hidden, f"{block}.ffn.A.ffn_layernorm"), f"{block}.ffn.A.fc2")
        number += 1
    return norm(x, "encoder.layer_norm.A")


def conch(trunk: State, dim: int, context: int, seed: int = 0) -> State:
    """As MahmoodLab/conch has them: the image tower with both poolings, and a few of the text's."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*size: int, around: float = 0.0) -> Tensor:
        return around + 0.2 * torch.randn(*size, generator=rng)

    state = {f"visual.trunk.{key}": value for key, value in trunk.items()}
    for pooling, wide in (("contrast", dim), ("caption", context)):
        name = f"visual.attn_pool_{pooling}"
        state |= {
            f"{name}.query": draw(1, wide),
            f"{name}.attn.in_proj_bias": draw(3 * wide),
            f"{name}.attn.out_proj.weight": draw(wide, wide),
            f"{name}.attn.out_proj.bias": draw(wide),
            f"{name}.ln_q.weight": draw(wide, around=1),
            f"{name}.ln_q.bias": draw(wide),
            f"{name}.ln_k.weight": draw(context, around=1),
            f"{name}.ln_k.bias": draw(context),
            f"visual.ln_{pooling}.weight": draw(wide, around=1),
            f"visual.ln_{pooling}.bias": draw(wide),
        }
    for part, size in (("q", dim), ("k", context), ("v", context)):
        state[f"visual.attn_pool_contrast.attn.{part}_proj_weight"] = draw(dim, size)
    state["visual.attn_pool_caption.attn.in_proj_weight"] = draw(3 * context, context)
    return state | {
        "visual.proj_contrast": draw(dim, dim),
        "text.token_embedding.weight": draw(5, dim),
        "text_decoder.text_projection": draw(dim, 5),
        "logit_scale": torch.tensor(4.6),
    }


def conch_pooled(state: State, tokens: Tensor, heads: int) -> Tensor:
    """What CONCH's query finds in tokens (B, N, C) of its trunk: (B, D) float64."""
    w = {k.removeprefix("visual."): v.double() for k, v in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    pool = "attn_pool_contrast"
    keys = norm(tokens.double(), f"{pool}.ln_k")
    query = norm(w[f"{pool}.query"], f"{pool}.ln_q")
    dim = query.shape[1]
    biases = w[f"{pool}.attn.in_proj_bias"].chunk(3)
    q, k, v = (
        (x @ w[f"{pool}.attn.{part}_proj_weight"].T + bias).unflatten(-1, (heads, -1)).movedim(-2, -3)
        for part, x, bias in zip("qkv", (query, keys, keys), biases, strict=True)
    )
    shares = (q @ k.transpose(-1, -2) / (dim // heads) ** 0.5).softmax(-1)
    mixed = (shares @ v).movedim(-3, -2).flatten(-2)[:, 0]
    found = mixed @ w[f"{pool}.attn.out_proj.weight"].T + w[f"{pool}.attn.out_proj.bias"]
    return norm(found, "ln_contrast")

"""Random weights under the names of public DINOv2 checkpoints, and what such a network gives, by hand.

The forward pass is written from the names alone, in float64: facebookresearch/dinov2,
models/vision_transformer.py, layers/block.py, attention.py, mlp.py, swiglu_ffn.py and layer_scale.py.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """A small DINOv2 network.

    Attributes:
        grid: rows and columns of positions.
        hidden: width of the feed-forward layer, of SwiGLU half of what its first layer gives.
    """

    dim: int = 24
    depth: int = 3
    heads: int = 2
    patch: int = 14
    grid: int = 5
    registers: int = 0
    swiglu: bool = False
    hidden: int = 64


def hub(shape: Shape, seed: int = 0) -> State:
    """As torch.hub's files have them: dinov2_vit*14_pretrain.pth, *_reg4_pretrain.pth."""
    rng = torch.Generator().manual_seed(seed)
    d, wide = shape.dim, shape.hidden

    def draw(*size: int, around: float = 0.0, by: float = 0.2) -> Tensor:
        return around + by * torch.randn(*size, generator=rng)

    state = {
        "cls_token": draw(1, 1, d),
        "pos_embed": draw(1, 1 + shape.grid**2, d),
        "mask_token": draw(1, d),
        "patch_embed.proj.weight": draw(d, 3, shape.patch, shape.patch, by=0.05),
        "patch_embed.proj.bias": draw(d),
        "norm.weight": draw(d, around=1),
        "norm.bias": draw(d),
    }
    if shape.registers:
        state["register_tokens"] = draw(1, shape.registers, d)
    for number in range(shape.depth):
        block = {
            "norm1.weight": draw(d, around=1),
            "norm1.bias": draw(d),
            "attn.qkv.weight": draw(3 * d, d),
            "attn.qkv.bias": draw(3 * d),
            "attn.proj.weight": draw(d, d),
            "attn.proj.bias": draw(d),
            "ls1.gamma": draw(d, around=1),
            "norm2.weight": draw(d, around=1),
            "norm2.bias": draw(d),
            "ls2.gamma": draw(d, around=1),
        }
        first, second = ("w12", "w3") if shape.swiglu else ("fc1", "fc2")
        inner = 2 * wide if shape.swiglu else wide
        block |= {
            f"mlp.{first}.weight": draw(inner, d),
            f"mlp.{first}.bias": draw(inner),
            f"mlp.{second}.weight": draw(d, wide),
            f"mlp.{second}.bias": draw(d),
        }
        state |= {f"blocks.{number}.{name}": value for name, value in block.items()}
    return state


def chunked(state: State, size: int = 2) -> State:
    """With blocks in chunks, as FSDP training has them: a block keeps its number within its chunk."""
    return {
        re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // size}.{m[1]}.", key): value
        for key, value in state.items()
    }


def training(state: State) -> dict[str, State]:
    """A teacher_checkpoint.pth: chunked blocks, and the heads of DINO and iBOT."""
    teacher = {f"backbone.{key}": value for key, value in chunked(state).items()}
    for head in ("dino_head", "ibot_head"):
        names = ("mlp.0.weight", "mlp.0.bias", "last_layer.weight_g", "last_layer.weight_v")
        teacher |= {f"{head}.{name}": torch.zeros(2, 2) for name in names}
    return {"teacher": teacher}


def whole_training(state: State) -> dict[str, State]:
    """A model_final.rank_0.pth: student and teacher, and what the losses remember (dinov2 issue 235)."""
    teacher = training(state)["teacher"]
    student = {f"student.{key}": torch.zeros_like(value) for key, value in teacher.items()}
    centres = {"dino_loss.center": torch.zeros(1, 2), "ibot_patch_loss.center": torch.zeros(1, 1, 2)}
    return {"model": {**student, **{f"teacher.{key}": value for key, value in teacher.items()}, **centres}}


def transformers(state: State, prefix: str = "") -> State:
    """As transformers' Dinov2Model and Dinov2WithRegistersModel have them."""
    tables = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inner = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    found: State = {}
    for key, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if match is None:
            found[tables[key]] = value
            continue
        layer, name = f"encoder.layer.{match[1]}", match[2]
        if name.startswith("attn.qkv."):
            kind = name.rpartition(".")[2]
            for third, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{layer}.attention.attention.{third}.{kind}"] = part.clone()
            continue
        for ours, theirs in inner.items():
            name = name.replace(ours, theirs)
        found[f"{layer}.{name}"] = value
    return {f"{prefix}{key}": value for key, value in found.items()}


def forward(state: State, images: Tensor, shape: Shape, antialias: bool = False) -> Tensor:
    """The normed CLS token (B, D) float64 of images (B, 3, H, W) from a hub's weights.

    Args:
        antialias: positions as the hub's networks with registers, else as those without.
    """
    w = {key: value.double() for key, value in state.items()}
    d, rows, columns = shape.dim, images.shape[2] // shape.patch, images.shape[3] // shape.patch
    x = functional.conv2d(
        images.double(), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], shape.patch
    )
    x = torch.cat([w["cls_token"].expand(len(x), 1, d), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + _positions(w["pos_embed"], shape.grid, rows, columns, antialias)
    if shape.registers:
        x = torch.cat([x[:, :1], w["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    for number in range(shape.depth):
        b = {
            k.removeprefix(f"blocks.{number}."): v for k, v in w.items() if k.startswith(f"blocks.{number}.")
        }
        x = x + b["ls1.gamma"] * _attention(b, _norm(x, b, "norm1"), shape.heads)
        x = x + b["ls2.gamma"] * _feed_forward(b, _norm(x, b, "norm2"))
    return _norm(x, w, "norm")[:, 0]


def _positions(held: Tensor, grid: int, rows: int, columns: int, antialias: bool) -> Tensor:
    if (rows, columns) == (grid, grid):
        return held
    patches = held[:, 1:].view(1, grid, grid, -1).permute(0, 3, 1, 2)
    if antialias:
        found = functional.interpolate(patches, size=(rows, columns), mode="bicubic", antialias=True)
    else:
        factors = [(rows + 0.1) / grid, (columns + 0.1) / grid]
        found = functional.interpolate(patches, scale_factor=factors, mode="bicubic")
    return torch.cat([held[:, :1], found.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], dim=1)


def _norm(x: Tensor, w: State, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)


def _attention(b: State, x: Tensor, heads: int) -> Tensor:
    batch, tokens, d = x.shape
    qkv = x @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]
    q, k, v = qkv.view(batch, tokens, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    shares = (q @ k.transpose(2, 3) / (d // heads) ** 0.5).softmax(-1)
    mixed = (shares @ v).transpose(1, 2).reshape(batch, tokens, d)
    return mixed @ b["attn.proj.weight"].T + b["attn.proj.bias"]


def _feed_forward(b: State, x: Tensor) -> Tensor:
    if "mlp.w12.weight" in b:
        gate, value = (x @ b["mlp.w12.weight"].T + b["mlp.w12.bias"]).chunk(2, dim=-1)
        return (gate * gate.sigmoid() * value) @ b["mlp.w3.weight"].T + b["mlp.w3.bias"]
    inner = functional.gelu(x @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"])
    return inner @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"]

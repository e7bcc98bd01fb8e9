"""Public layouts of a vision transformer's weights, in timm's names.

Known by their keys:

    timm            cls_token, pos_embed, blocks.N.attn.qkv.weight, blocks.N.mlp.fc1.weight, reg_token
    DINOv2          the same with mask_token and register_tokens; SwiGLU as mlp.w12 and mlp.w3; blocks also
                    in chunks, blocks.CHUNK.N.; of its training checkpoints backbone., teacher.backbone. and
                    heads
    transformers    Dinov2Model and ViTModel: embeddings.*, encoder.layer.N.attention.attention.query.weight;
                    SwiGLU as mlp.weights_in and mlp.weights_out. Its version 5 has other names in memory
                    (layers.N.attention.q_proj, mlp.gate_proj) and these in files; both are read
    towers          the image encoder of a larger model (pathtrain.models.towers)

Sources of the names: facebookresearch/dinov2, models/vision_transformer.py; huggingface/transformers,
models/dinov2, dinov2_with_registers and vit. What is not known keeps its name, so that loading names it.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pathtrain.errors import ModelError
from pathtrain.models.towers import image_tower

State = dict[str, Tensor]
Layout = Literal["timm", "DINOv2", "transformers"]

# What wraps modules: DataParallel, FSDP, torch.compile and activation checkpointing
_WRAPPERS = re.compile(r"(^|(?<=\.))(module|_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.")
# Heads of DINO, iBOT and classifiers, a pooler that no feature passes, and what losses remember
_HEADS = re.compile(
    r"(head|fc\.|dino_head\.|ibot_head\.|classifier\.|pooler\.|dino_loss\.|ibot_patch_loss\.)"
)

# Of convolutions blocks.0.0. is a block of a stage: without a CLS token it is no chunk
_OF_DINOV2 = re.compile(r"(mask_token|register_tokens)$|blocks\.\d+\.(\d+\.|mlp\.w12\.)")

_TRANSFORMERS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_TRANSFORMERS_BLOCK = {
    "norm1": "norm1",
    "layernorm_before": "norm1",
    "norm2": "norm2",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "mlp.down_proj": "mlp.fc2",
    "attention.o_proj": "attn.proj",
}
# What timm holds as one: query, key and value; and the two halves of SwiGLU's first layer, the gate first
_QKV, _GATED = ("query", "key", "value"), ("gate_proj", "up_proj")
_PARTS = {
    **{f"attention.attention.{part}": (part, "attn.qkv") for part in _QKV},
    **{f"attention.{part[0]}_proj": (part, "attn.qkv") for part in _QKV},
    **{f"mlp.{part}": (part, "mlp.fc1") for part in _GATED},
}


@dataclass(frozen=True)
class Laid:
    """A backbone's weights.

    Attributes:
        state: in timm's names; ``pos_embed`` (1, N, D) as it was: outside timm that of CLS comes first.
        layout: that they came in.
        mask_token: (1, D), what stands for a masked patch, if there is one.
        left_out: names of heads and the like, which a backbone has not.
    """

    state: State
    layout: Layout
    mask_token: Tensor | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def registers(self) -> bool:
        """Whether there are register tokens."""
        return "reg_token" in self.state


def read(given: Mapping[str, Tensor], own: Container[str] = ()) -> Laid:
    """Weights in timm's names, of whatever layout they are.

    Args:
        own: names of the network that they are for: what is called as a head elsewhere may be part of it.

    Raises:
        ModelError: a part of an attention's query, key and value is missing.
    """
    state, left_out = _backbone(given, own)
    layout: Layout = "timm"
    if any(key.startswith("embeddings.") for key in state):
        layout, state = "transformers", _of_transformers(state)
    elif "cls_token" in state and any(_OF_DINOV2.match(key) for key in state):
        layout = "DINOv2"
    if layout != "timm":
        state = {_of_dinov2(key): value for key, value in state.items()}
    mask_token = state.pop("mask_token", None)
    if mask_token is not None:
        mask_token = mask_token.reshape(1, -1)
    return Laid(state, layout, mask_token, left_out)


def fold_class_position(laid: Laid) -> State:
    """The weights for a network whose CLS token has no position: the token takes up its own.

    Tokens and positions are added up, so nothing else changes (as timm holds DINOv2 with registers).
    """
    positions, token = laid.state["pos_embed"], laid.state["cls_token"]
    return laid.state | {"cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


def _backbone(given: Mapping[str, Tensor], own: Container[str]) -> tuple[State, list[str]]:
    """Without wrappers' names, heads and, of a whole training, the other network; and what was left out."""
    state = {_WRAPPERS.sub("", key): value for key, value in given.items()}
    state, left_out = image_tower(state) or (state, [])
    for network in ("teacher.", "student."):
        if any(key.startswith(f"{network}backbone.") for key in state):
            other = "student." if network == "teacher." else "teacher."
            left_out += [key for key in state if key.startswith(other)]
            state = {key.removeprefix(network): v for key, v in state.items() if not key.startswith(other)}
            break
    for prefix in ("backbone.", "dinov2.", "dinov2_with_registers.", "vit."):
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    heads = [key for key in state if key not in own and _HEADS.match(key)]
    for key in heads:
        del state[key]
    return state, [*left_out, *heads]


def _of_dinov2(key: str) -> str:
    key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)
    key = re.sub(r"^(blocks\.\d+\.mlp)\.w12\.", r"\1.fc1.", key)
    key = re.sub(r"^(blocks\.\d+\.mlp)\.w3\.", r"\1.fc2.", key)
    return "reg_token" if key == "register_tokens" else key


def _of_transformers(given: State) -> State:
    state: State = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for key, value in given.items():
        found = re.fullmatch(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)", key)
        if found is None:
            state[_TRANSFORMERS.get(key, key)] = value
            continue
        number, inner = found.groups()
        name, _, kind = inner.rpartition(".")
        if name in _PARTS and kind in ("weight", "bias"):
            part, whole = _PARTS[name]
            joined.setdefault(f"blocks.{number}.{whole}.{kind}", {})[part] = value
        elif inner in _TRANSFORMERS_BLOCK:  # a LayerScale
            state[f"blocks.{number}.{_TRANSFORMERS_BLOCK[inner]}"] = value
        elif name in _TRANSFORMERS_BLOCK and kind in ("weight", "bias"):
            state[f"blocks.{number}.{_TRANSFORMERS_BLOCK[name]}.{kind}"] = value
        else:
            state[key] = value
    for name, parts in joined.items():
        wanted = _QKV if ".attn." in name else _GATED
        missing = [part for part in wanted if part not in parts]
        if missing:
            _, number, block, _, kind = name.split(".")
            inner = f"attention.attention.{missing[0]}" if block == "attn" else f"mlp.{missing[0]}"
            raise ModelError(f"lacks encoder.layer.{number}.{inner}.{kind}; fetch the weights again")
        state[name] = torch.cat([parts[part] for part in wanted])
    return state

"""Image encoders out of larger models: their weights in our networks' names; the rest is left.

    CONCH           visual.trunk., visual.attn_pool_contrast., visual.ln_contrast.; beside them text.,
                    text_decoder., the pooling for captions and the projection for comparison with text
    MUSK            beit3.vision_embed., beit3.encoder.layers.N.*.A., the half for images; B. is that for text
    EXAONE Path 2.0 model_first_stg.; beside it the stages over regions and slides

Sources of the names: github.com/mahmoodlab/CONCH, conch/open_clip_custom; github.com/lilab-stanford/MUSK,
musk/torchscale; huggingface.co/LGAI-EXAONE/EXAONE-Path-2.0.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from pathtrain.models.networks.musk import UNUSED

State = dict[str, Tensor]

_CONCH_REST = ("attn_pool_caption.", "ln_caption.", "proj_contrast")
_FIRST_STAGE = "model_first_stg."
_MUSK = {
    "vision_embed.cls_token": "cls_token",
    "vision_embed.proj.weight": "patch_embed.proj.weight",
    "vision_embed.proj.bias": "patch_embed.proj.bias",
    "encoder.embed_positions.A.weight": "pos_embed",
    "encoder.layer_norm.A.weight": "norm.weight",
    "encoder.layer_norm.A.bias": "norm.bias",
}
_MUSK_BLOCK = {
    "self_attn.q_proj.A": "query",
    "self_attn.k_proj.A": "key",
    "self_attn.v_proj.A": "value",
    "self_attn.out_proj.A": "out",
    "self_attn.inner_attn_ln.A": "inner_norm",
    "self_attn_layer_norm.A": "norm1",
    "final_layer_norm.A": "norm2",
    "ffn.A.fc1": "fc1",
    "ffn.A.fc2": "fc2",
    "ffn.A.ffn_layernorm": "hidden_norm",
}
# Of the half for text, and what compares both
_MUSK_REST = re.compile(
    r"beit3\.(text_embed\.|vision_embed\.mask_token$|.*\.B\.)|vision_head\.|language_head\.|logit_scale$"
)


def image_tower(given: Mapping[str, Tensor]) -> tuple[State, list[str]] | None:
    """Weights of the image encoder, and the names of what is left out; None if it is none of these models.

    What of the image encoder has a name that is not known keeps it, so that loading names it.
    """
    for marks, read in (
        (("visual.attn_pool_contrast.",), _conch),
        (("beit3.vision_embed.",), _musk),
        ((_FIRST_STAGE,), _first_stage),
    ):
        if any(key.startswith(marks) for key in given):
            return read(given)
    return None


def _conch(given: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    state, left_out = State(), list[str]()
    for key, value in given.items():
        name = key.removeprefix("visual.")
        if key.startswith("visual.") and not name.startswith(_CONCH_REST):
            state[name] = value
        else:
            left_out.append(key)
    return state, left_out


def _musk(given: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    state, left_out = State(), list[str]()
    for key, value in given.items():
        if _MUSK_REST.match(key):
            left_out.append(key)
            continue
        name = key.removeprefix("beit3.")
        found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in _MUSK:
            state[_MUSK[name]] = value[None, UNUSED:] if _MUSK[name] == "pos_embed" else value
        elif found is not None and found[2] in _MUSK_BLOCK:
            state[f"blocks.{found[1]}.{_MUSK_BLOCK[found[2]]}.{found[3]}"] = value
        else:
            state[key] = value
    return state, left_out


def _first_stage(given: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    state = {
        key.removeprefix(_FIRST_STAGE): value for key, value in given.items() if key.startswith(_FIRST_STAGE)
    }
    return state, [key for key in given if not key.startswith(_FIRST_STAGE)]

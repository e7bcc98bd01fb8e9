"""What a recipe, or an exported model's config.json, may ask timm for.

Recipes and models are passed on. timm takes more than sizes: ``checkpoint_path`` is a file that it unpickles,
``pretrained_cfg`` names a file or a URL, ``hf_hub:`` before a name fetches it. So there is a list of what
shapes a vision transformer, of plain values; all else is refused, whatever a later timm makes of it.
"""

import re
from collections.abc import Mapping
from typing import Any

# The arguments of timm's VisionTransformer, Eva and Beit that are plain values and shape the network
ARGUMENTS = frozenset(
    [
        "img_size",
        "patch_size",
        "global_pool",
        "embed_dim",
        "depth",
        "num_heads",
        "num_kv_heads",
        "mlp_ratio",
        "qkv_bias",
        "qkv_fused",
        "qk_norm",
        "proj_bias",
        "scale_attn_norm",
        "scale_mlp_norm",
        "scale_mlp",
        "scale_attn_inner",
        "attn_type",
        "attn_only_layer_scale",
        "init_values",
        "class_token",
        "reg_tokens",
        "num_reg_tokens",
        "pos_embed",
        "no_embed_class",
        "use_abs_pos_emb",
        "use_rot_pos_emb",
        "use_rel_pos_bias",
        "use_shared_rel_pos_bias",
        "rope_type",
        "rope_grid_offset",
        "rope_grid_indexing",
        "rope_temperature",
        "rope_rotate_half",
        "rope_shift_coords",
        "rope_jitter_coords",
        "rope_rescale_coords",
        "rope_mrope_section",
        "ref_feat_shape",
        "swiglu_mlp",
        "swiglu_align_to",
        "pre_norm",
        "final_norm",
        "fc_norm",
        "use_fc_norm",
        "use_post_norm",
        "use_pre_transformer_norm",
        "use_post_transformer_norm",
        "attn_pool_num_heads",
        "attn_pool_mlp_ratio",
        "pool_include_prefix",
        "dynamic_img_pad",
        "drop_rate",
        "pos_drop_rate",
        "patch_drop_rate",
        "proj_drop_rate",
        "attn_drop_rate",
        "weight_init",
        "fix_init",
        "head_init_scale",
        "act_layer",
        "norm_layer",
        "embed_norm_layer",
    ]
)
# Of all networks here; pathtrain.models.backbone sets them, and refuses them by a sentence of its own
FIXED = frozenset({"num_classes", "dynamic_img_size", "drop_path_rate"})
LARGEST, DEEPEST = (
    65_536,
    1_000,
)  # of a whole number, and of blocks: no network is larger, a typing error may be
NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?")


def check_name(name: str) -> str:
    """A name of timm's own list, such as ``vit_base_patch16_224``.

    Raises:
        ValueError: it is a place instead: ``hf_hub:``, ``local-dir:``, a path.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is no name of a timm architecture, such as vit_base_patch16_224; weights from "
            "elsewhere are named by model.init"
        )
    return name


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an architecture.

    Raises:
        ValueError: one is not of ARGUMENTS, or no plain value.
    """
    for key, value in arguments.items():
        if key not in ARGUMENTS | FIXED:
            raise ValueError(
                f"{key[:80]!r} is not passed to timm: only what shapes the network is, such as img_size, "
                "patch_size, depth, embed_dim, num_heads or global_pool; remove it"
            )
        parts = value if isinstance(value, list | tuple) else (value,)
        if len(parts) > 16 or not all(
            part is None or type(part) in (bool, int, float, str) for part in parts
        ):
            raise ValueError(f"{key} is no number, text, true, false or null, nor a short list of them")
        limit = DEEPEST if key == "depth" else LARGEST
        if any(isinstance(part, int | float) and not -limit <= part <= limit for part in parts):
            raise ValueError(f"{key} is beyond {limit:,}; is it a typing error?")
        if any(isinstance(part, str) and not re.fullmatch(r"[A-Za-z0-9_]{0,40}", part) for part in parts):
            raise ValueError(f"{key} is not one of timm's words; they are letters, digits and _")
    return dict(arguments)

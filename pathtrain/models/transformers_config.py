"""config.json of Hugging Face's transformers as an architecture of timm's: ViTModel and Dinov2Model.

Their weights are read by pathtrain.models.layouts. Position embeddings are brought to other grids as their
modules do: ``transformers`` (to the size, no antialiasing), with registers ``registers``.
"""

from dataclasses import dataclass
from typing import Any

from pathtrain.errors import ModelError
from pathtrain.recipes.model import ModelConfig

KINDS = ("vit", "dinov2", "dinov2_with_registers")


@dataclass(frozen=True)
class Described:
    """An architecture, and what timm takes no argument for.

    Attributes:
        config: of timm. epsilon: of its norms.
    """

    config: ModelConfig
    epsilon: float


def epsilon(values: dict[str, Any]) -> float | None:
    """Of the norms; None where a configuration is of another kind.

    Raises:
        TypeError, ValueError: it is no number.
    """
    kind = values.get("model_type")
    return float(values.get("layer_norm_eps", 1e-12 if kind == "vit" else 1e-6)) if kind in KINDS else None


def described(values: dict[str, Any], init: str) -> Described:
    """What a configuration stands for.

    Args:
        values: of config.json.
        init: what messages call the weights.

    Raises:
        ModelError: it is another kind of model, or has what timm's have not.
    """
    kind = values.get("model_type")
    if kind not in KINDS:
        raise ModelError(
            f"its config.json is of a {kind or 'model without model_type'}; known are {', '.join(KINDS)}"
        )
    try:
        if values.get("hidden_act", "gelu") != "gelu" or not values.get("apply_layernorm", True):
            raise ModelError("its config.json asks for another activation than GELU, or for no last norm")
        width, patch = int(values["hidden_size"]), int(values["patch_size"])
        arguments: dict[str, Any] = {
            "img_size": int(values["image_size"]),
            "patch_size": patch,
            "embed_dim": width,
            "depth": int(values["num_hidden_layers"]),
            "num_heads": int(values["num_attention_heads"]),
            "qkv_bias": bool(values.get("qkv_bias", True)),
        }
        name = "vit_base_patch16_224"
        if kind == "vit":
            arguments["mlp_ratio"] = int(values["intermediate_size"]) / width
        else:
            registers = kind == "dinov2_with_registers"
            hidden = int(width * float(values.get("mlp_ratio", 4)))
            name = f"vit_base_patch14_{'reg4_' * registers}dinov2"
            arguments |= {"init_values": 1.0, "mlp_ratio": hidden / width}
            if registers:
                arguments["reg_tokens"] = int(values["num_register_tokens"])
            if values.get("use_swiglu_ffn", False):
                name = name.replace("base", "giant")
                half = (int(hidden * 2 / 3) + 7) // 8 * 8
                arguments["mlp_ratio"] = (2 * half + 0.5) / width  # timm rounds down
        return Described(
            ModelConfig(
                name=name,
                kwargs=arguments,
                init=init,
                positions="registers" if kind == "dinov2_with_registers" else "transformers",
            ),
            epsilon(values) or 1e-6,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"its config.json is damaged ({type(error).__name__}: {error}); fetch it again"
        ) from None

"""What a recipe says of its backbone."""

from typing import Any, Literal

from pydantic import Field, field_validator

from pathtrain.recipes.architecture import check_arguments, check_name
from pathtrain.recipes.strict import Positive, Share, Strict

Channels = tuple[Share, Share, Share]

# Kornblith-era constants that timm and torchvision carry for ImageNet weights.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What ``model.init`` begins with where it names a tag of timm, a repository of the hub, or another run
TIMM, HUB, RUN = "timm:", "hf:", "run:"


class ModelConfig(Strict):
    """A backbone: a timm architecture, its arguments, and where its first weights come from.

    Attributes:
        name: a timm architecture without a pretrained tag, such as ``vit_base_patch16_224``.
        kwargs: arguments of that architecture (``img_size``, ``patch_size``, ``depth``, ``embed_dim``, ...),
            of those that pathtrain.recipes.architecture lists.
        init: ``random``; ``imagenet``, timm's default weights of the architecture; ``timm:NAME.TAG``, those
            of a tag, such as ``timm:vit_base_patch16_224.dino``; ``hf:OWNER/NAME``, a repository of the
            Hugging Face hub, ``hf:OWNER/NAME@REVISION``; the path of a .safetensors or .pth file, or of a
            folder that was exported or fetched; a public encoder's name, such as ``uni2-h``; or
            ``run:FOLDER``, another run's newest checkpoint with heads and centre, ``run:FOLDER@STEP`` that of
            a step.
        mean, std: what a pixel in 0 to 1 is normalised with, per channel.
        checkpoint: activation checkpointing: each block is run again in the backward pass instead of
            keeping what it computed, about a third more time for a fraction of the memory.
        freeze_patch_embed: leave the patch embedding as it begins, as MoCo v3 does for stability.
        positions: how position embeddings are brought to an image's grid; see pathtrain.models.positions.
            ``once``: first weights are resampled to the model's own grid when loaded, and from there as DINO
            does; ``hub`` and ``registers``: as DINOv2 without and with registers, from the grid of its
            weights, whose ``img_size`` kwargs then need; ``transformers``: as that library does, likewise;
            ``auto``: what goes with the first weights.
    """

    name: str
    kwargs: dict[str, Any] = Field(default={})
    init: str = "random"
    mean: Channels = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    checkpoint: bool = False
    freeze_patch_embed: bool = False
    positions: Literal["once", "hub", "registers", "transformers", "auto"] = "once"

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name(name)

    @field_validator("kwargs")
    @classmethod
    def _arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        return check_arguments(arguments)


def is_public(init: str) -> bool:
    """Whether ``model.init`` names nothing that lies on this machine."""
    return init in ("random", "imagenet") or init.startswith((TIMM, HUB))

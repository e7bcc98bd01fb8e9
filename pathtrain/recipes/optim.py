"""What a recipe says about the optimiser."""

from typing import Annotated, Literal

from pydantic import Field

from pathtrain.recipes.strict import Count, Positive, Strict


class Ramp(Strict):
    """A value that goes from ``start`` to ``end`` over the whole run along half a cosine."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)


class OptimConfig(Strict):
    """AdamW.

    Attributes:
        lr: peak, absolute, of the whole batch.
        min_lr: what the cosine ends at.
        warmup_steps: linear climb from 0 to ``lr``.
        weight_decay: of matrices; biases, norms and other vectors get none.
        clip: largest L2 norm of a gradient; null for none.
        clip_by: whose gradient that is: of each parameter ``tensor`` alone, as DINO; or of each ``network``
            together, backbone and each head, as DINOv2.
        layer_decay: the rate of block j of L is multiplied by layer_decay^(L - j), that of patch embedding,
            positions and tokens by layer_decay^(L + 1); heads, later stages and the last norm keep it all. 1:
            one rate for all. For a start that should keep what it knows: .65 to .9 is usual.
        patch_embed_scale: the patch embedding's rate is multiplied by it, beside ``layer_decay``; DINOv2 has
            .2, since that layer is the first to lose what it knows.
        freeze_backbone_steps: first steps in which only heads are trained: new ones tell an encoder that
            knows much nothing but noise. Backbone and mask token take no step then, lose nothing to weight
            decay, and the optimiser remembers nothing of them.
    """

    lr: Positive
    min_lr: float = Field(ge=0)
    warmup_steps: Count
    weight_decay: Ramp
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
    clip: Positive | None
    clip_by: Literal["tensor", "network"] = "tensor"
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    patch_embed_scale: float = Field(default=1.0, gt=0, le=1)
    freeze_backbone_steps: Count = 0

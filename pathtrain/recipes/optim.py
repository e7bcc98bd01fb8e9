"""What a recipe says about the optimiser."""

from typing import Annotated

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
        clip: largest L2 norm of one parameter tensor's gradient; null for none.
        layer_decay: the rate of block j of L is multiplied by layer_decay^(L - j), that of patch embedding,
            positions and tokens by layer_decay^(L + 1); heads, later stages and the last norm keep it all. 1:
            one rate for all. For a start that should keep what it knows: .65 to .9 is usual.
    """

    lr: Positive
    min_lr: float = Field(ge=0)
    warmup_steps: Count
    weight_decay: Ramp
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
    clip: Positive | None
    layer_decay: float = Field(default=1.0, gt=0, le=1)

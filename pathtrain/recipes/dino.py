"""What a recipe of DINO says beyond the shared keys."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pathtrain.recipes.optim import Ramp
from pathtrain.recipes.recipe import Recipe
from pathtrain.recipes.strict import Count, Positive, Share, Strict


class HeadConfig(Strict):
    """The projection head of DINO; see pathtrain.models.dino_head."""

    out_dim: int = Field(gt=1)
    hidden_dim: int = Field(gt=0)
    bottleneck_dim: int = Field(gt=0)
    layers: int = Field(ge=1)
    norm_last_layer: bool


class Warmed(Strict):
    """A value that climbs linearly from ``start`` to ``end`` over ``steps`` and stays there."""

    start: Positive
    end: Positive
    steps: Count


class DinoConfig(Strict):
    """What is DINO's own; see pathtrain.methods.dino."""

    head: HeadConfig
    student_temp: Positive
    teacher_temp: Warmed
    center_momentum: Share
    momentum: Ramp
    freeze_last_layer_steps: Count
    drop_path: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _momentum(self) -> Self:
        if max(self.momentum.start, self.momentum.end) > 1:
            raise ValueError("momentum must be at most 1")
        return self


class WithDino(Recipe):
    """A run that has DINO on tiles as a part or as the whole."""

    dino: DinoConfig

    def outputs(self) -> dict[str, int]:
        """One loss, whose keys are those of the method."""
        return {"": self.dino.head.out_dim}


class DinoRecipe(WithDino):
    """A run of DINO on tiles."""

    method: Literal["dino"]

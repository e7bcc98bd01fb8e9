"""What a recipe of DINOv2 says beyond DINO's keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pathtrain.recipes.dino import DinoConfig, HeadConfig, WithDino
from pathtrain.recipes.strict import Positive, Share, Strict

Ratio = Annotated[float, Field(gt=0, lt=1)]


class Dinov2Config(DinoConfig):
    """DINO as DINOv2 has it; see pathtrain.methods.dinov2.

    Attributes:
        centring: what keeps the teacher from saying the same of all: ``mean``, DINO's moving centre (with
            ``center_momentum``, of patches too); or ``sinkhorn``, which has every output used alike in each
            step, over the whole batch.
        iterations: of sinkhorn.
        drop_path_by: ``sample``: a dropped sample's branch is computed and set to 0; ``subset``: branches
            are computed for the others alone, so that a drop path of .4 saves two fifths of the student.
        drop_path_depth: ``even``: ``drop_path`` is the rate of all blocks, as DINOv2 has it; ``rising``:
            that of the last one, and it climbs linearly from 0 over the blocks.
        weight: of this loss in the sum.
    """

    centring: Literal["mean", "sinkhorn"]
    iterations: int = Field(default=3, gt=0)
    drop_path_by: Literal["sample", "subset"]
    drop_path_depth: Literal["even", "rising"]
    weight: float = Field(default=1.0, ge=0)


class IbotConfig(Strict):
    """iBOT: the student says of masked patches what the teacher says of the whole view.

    Attributes:
        weight: of this loss in the sum.
        head: of patches; null: they share that of the class token.
        share: of the global views of a batch that are masked.
        ratio: smallest and largest share of a masked view's patches.
        fill: fill masks up, patch by patch at random, where the last blocks do not fit, to numbers that are
            the same in every step, as DINOv3 does; else blocks leave a few less than were drawn.
    """

    weight: float = Field(ge=0)
    head: HeadConfig | None
    share: Share
    ratio: tuple[Ratio, Ratio]
    fill: bool

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.ratio[0] > self.ratio[1]:
            raise ValueError("ratio needs the smaller value first")
        return self


class RegulariserConfig(Strict):
    """What spreads the student's class tokens of global views, for each view of the tiles by itself.

    Attributes:
        kind: ``none``; ``koleo`` (Sablayrolles et al. 2019), the nearest neighbour's distance; ``kde``, a von
            Mises-Fisher kernel density estimate at each vector from the others (Virchow2); ``uniformity``
            (Wang and Isola 2020), one log of the mean over all pairs.
        weight: of the sum over the global views.
        kappa: concentration of the kernel; of uniformity's exp(-t |x - y|^2) it is 2 t.
        group: tiles of a step, one after the other, whose vectors are looked at together; null: all of it.
            Where a group is more than the devices take at once, the student goes through the step twice.
        rise: shares of the run at which the weight begins to climb from 0, linearly, and has arrived.
    """

    kind: Literal["none", "koleo", "kde", "uniformity"]
    weight: float = Field(ge=0)
    kappa: Positive
    group: Annotated[int, Field(gt=1)] | None
    rise: tuple[Share, Share] = (0.0, 0.0)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.rise[0] > self.rise[1]:
            raise ValueError("rise needs the smaller value first")
        return self

    def weight_at(self, step: int, total: int) -> float:
        """The weight at a step of ``total``."""
        start, end = (share * total for share in self.rise)
        if self.kind == "none" or step < start:
            return 0.0
        return self.weight if step >= end else self.weight * (step - start) / (end - start)


class Dinov2Recipe(WithDino):
    """A run of DINOv2 on tiles."""

    method: Literal["dinov2"]
    dino: Dinov2Config
    ibot: IbotConfig
    regulariser: RegulariserConfig

    @model_validator(mode="after")
    def _groups(self) -> Self:
        group = self.regulariser.group
        if group is not None and self.batch % group:
            raise ValueError(f"regulariser.group={group} does not divide batch={self.batch}")
        if self.regulariser.kind != "none" and self.batch < 2:
            raise ValueError("regulariser compares tiles with each other: batch must be at least 2")
        return self

    def outputs(self) -> dict[str, int]:
        """That of the class token; patches of one tile are alike, which is no collapse."""
        return {"tile_": self.dino.head.out_dim}

"""What a recipe may say. Every key acts; a key that nothing reads does not exist here.

One number stands for one thing: lengths and warm-ups are counted in optimiser steps, a learning rate
is absolute (not per 256 samples), probabilities and shares are 0 to 1, colours are 0 to 1.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pathtrain.recipes.model import ModelConfig
from pathtrain.recipes.online import OnlineConfig
from pathtrain.recipes.optim import OptimConfig
from pathtrain.recipes.probes import Probe
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.recipes.strict import Count, Positive, Share, Strict


class Crop(Strict):
    """One kind of view.

    Attributes:
        count: views of this kind per tile.
        size: pixels, square.
        scale: smallest and largest share of the tile's area.
        blur, solarise: probabilities; one number for every view of the kind, or one per view.
    """

    count: Count
    size: int = Field(gt=0)
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
    blur: tuple[Share, ...]
    solarise: tuple[Share, ...]

    @model_validator(mode="after")
    def _per_view(self) -> Self:
        for name in ("blur", "solarise"):
            given = len(getattr(self, name))
            if given not in (1, self.count):
                raise ValueError(f"count is {self.count}, {name} has {given} values: give 1, or one per view")
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale needs the smaller value first")
        return self


class Jitter(Strict):
    """Colour jitter with torchvision's ranges: a factor in [max(0, 1 - x), 1 + x], a hue shift in [-x, x]."""

    p: Share
    brightness: float = Field(ge=0)
    contrast: float = Field(ge=0)
    saturation: float = Field(ge=0)
    hue: float = Field(ge=0, le=0.5)


class ViewsConfig(Strict):
    """The augmented crops of a tile; ``globals`` go to student and teacher, ``locals`` to the student.

    Attributes:
        ratio: width to height of a crop, smallest and largest.
        flip, flip_vertical: probability that a view is mirrored left and right, top and bottom.
        turn: probability that it is turned by 1 to 3 quarters, each as likely: 0.75 makes all four directions
            as likely. Tissue has no up and no left; DINO, of natural images, turns none.
        greyscale: probability.
        blur_sigma: pixels of the view, smallest and largest.
    """

    globals: Crop
    locals: Crop
    ratio: tuple[Positive, Positive]
    flip: Share
    flip_vertical: Share = 0.0
    turn: Share = 0.0
    jitter: Jitter
    greyscale: Share
    blur_sigma: tuple[Positive, Positive]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.globals.count < 2:
            raise ValueError("globals.count must be at least 2: the loss pairs different views")
        for name in ("ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} needs the smaller value first")
        return self


class StainConfig(Strict):
    """What is done to stain; see pathtrain.stain.stage.

    Whole tiles are normalised, before their views are cut. Jitter is drawn ``per`` view or tile; where whole
    tiles are trained on, once for each region and slide.

    Attributes:
        mode: ``none``; ``normalize`` to a target by the fits that the dataset stores; or ``jitter``, which
            keeps each tile's own stains and changes them at random.
        target: of ``normalize``: a file from `pathprep target`; null for the field's reference.
        concentration: the amount of each stain is multiplied by 1 + u, u uniform in +-concentration.
        angle: degrees; each stain's vector is turned in a random direction, at most so far.
        shift: optical density (natural logarithm); an amount of each stain, uniform in +-shift, is added to
            every pixel, glass too.
        basis: what ``jitter`` takes for the stains: ``fit``, the tile's own; ``hed``, fixed haematoxylin,
            eosin and DAB, which needs no fits.
        fit: where a tile's fit comes from: ``stored`` with the dataset; or ``load``, made of the tile when it
            has been read, for datasets without; then tiles that cannot be fitted stay as they are.
        p: probability that a view (or tile, region or slide) is jittered; the others keep their stain.
        per: ``view``: jitter is drawn for each view, and acts after its crop. ``tile``: it is drawn once for
            the whole tile, and acts before its views are cut, which then share it.
        expect: what the tiles must be when they go into training: ``any``, or ``normalised``, by mode
            normalize or when they were stored; plain ones are refused then.

    With ``normalize``, concentration, angle and shift jitter what is normalised.
    """

    mode: Literal["none", "normalize", "jitter"] = "none"
    target: Path | None = None
    concentration: Share = 0.0
    angle: float = Field(default=0.0, ge=0, le=45)
    shift: Share = 0.0
    basis: Literal["fit", "hed"] = "fit"
    fit: Literal["stored", "load"] = "stored"
    p: Annotated[float, Field(gt=0, le=1)] = 1.0
    per: Literal["view", "tile"] = "view"
    expect: Literal["any", "normalised"] = "any"

    @model_validator(mode="after")
    def _acts(self) -> Self:
        rules = [
            (
                self.mode == "none" and self.jitters,
                "concentration, angle and shift need mode normalize or jitter",
            ),
            (
                not self.jitters and (self.p != 1 or self.per != "view"),
                "p and per are of jitter: set concentration, angle or shift above 0",
            ),
            (self.mode != "normalize" and self.target is not None, "target needs mode normalize"),
            (
                self.mode == "jitter" and not self.jitters,
                "mode jitter needs concentration, angle or shift above 0",
            ),
            (self.mode != "jitter" and self.basis == "hed", "basis hed needs mode jitter"),
            (self.mode == "none" and self.fit == "load", "fit load needs mode normalize or jitter"),
            (self.basis == "hed" and self.fit == "load", "basis hed needs no fit: its stains are fixed"),
            (self.basis == "hed" and self.angle > 0, "basis hed has no angle: its stains are fixed"),
        ]
        for broken, message in rules:
            if broken:
                raise ValueError(message)
        return self

    @property
    def jitters(self) -> bool:
        """Whether anything is random."""
        return max(self.concentration, self.angle, self.shift) > 0

    @property
    def needs_fits(self) -> bool:
        """Whether each tile's own stains are needed."""
        return self.mode != "none" and self.basis == "fit"


class LoaderConfig(Strict):
    """Reading tiles while training.

    Attributes:
        max_damaged: damaged tiles that a process passes over before training stops.
    """

    max_damaged: Count = 100


class CheckpointConfig(Strict):
    """What is kept of a run.

    Attributes:
        every: steps between two checkpoints, from which the run goes on; there is one at the end as well.
        keep: the newest ones that stay.
        milestones: steps between two encoders that stay for ever, in RUN/encoders; null for none.
    """

    every: int = Field(gt=0)
    keep: int = Field(gt=0)
    milestones: Annotated[int, Field(gt=0)] | None = None


class Recipe(Strict):
    """A whole training run but for its data and its folder: what every method's recipe has.

    Attributes:
        method: the training method; pathtrain.methods lists them.
        seed: of sample order, augmentations, initial weights and drop path.
        steps, epochs: length; exactly one of them.
        batch: tiles per optimiser step, over all devices.
        precision: of the networks. bfloat16: DINO's compute in it, from copies of their weights; what else a
            method has, and what ``sharding`` divides, under torch.autocast. Losses are float32, and the
            weights that the optimiser moves.
        log_every: steps between two rows of log.jsonl.
        micro_batch: largest number of tiles that go through the networks of one device at once; their
            gradients are added up (accumulated), and the step is that of the whole batch. null: all at once.
        compile: torch.compile of DINO's networks and loss: a minute's start, then faster steps on a card.
            ``auto``: on cards that torch's compiler writes for, if there are a C compiler and Python.h.
        sharding: ``full`` divides weights, gradients and optimiser among the ranks (FSDP2).
        sampling: how often each tile comes.
        online: how tiles are drawn from slides, where these are trained on, through a survey.
        probes: what the teacher's encoder is measured by while training. Those of one kind have names.
        rank_timeout: minutes that ranks wait for each other's gradients before the run ends; one that reads
            slowly holds up the others. While rank 0 measures probes they wait two hours.
        warn_after: steps that a run may look collapsed before it is said, or before ``--stop-on-collapse``
            stops it; 0 for never.
    """

    method: str
    seed: int = Field(ge=0, lt=2**63)
    steps: Annotated[int, Field(gt=0)] | None = None
    epochs: Positive | None = None
    batch: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"]
    model: ModelConfig
    stain: StainConfig = StainConfig()
    sampling: SamplingConfig = SamplingConfig()
    loader: LoaderConfig = LoaderConfig()
    online: OnlineConfig = OnlineConfig()
    views: ViewsConfig
    optim: OptimConfig
    checkpoint: CheckpointConfig
    log_every: int = Field(gt=0)
    micro_batch: Annotated[int, Field(gt=0)] | None = None
    compile: Literal["auto"] | bool = "auto"
    sharding: Literal["none", "full"] = "none"
    probes: tuple[Probe, ...] = ()
    rank_timeout: Positive = 30.0
    warn_after: Count = 500

    @field_validator("probes")
    @classmethod
    def _told_apart(cls, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
        keys = [probe.key for probe in probes]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{keys.count(key)} are called {key}; give each its own `name`")
        return probes

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.steps is not None and self.optim.freeze_backbone_steps >= self.steps:
            raise ValueError("optim.freeze_backbone_steps must be below steps: else only heads are trained")
        return self

    def span(self, step: int, total: int) -> tuple[int, int, OptimConfig]:
        """What the learning rate follows at a step: the place and length of what it spans, and its peak."""
        return step, total, self.optim

    def outputs(self) -> dict[str, int]:
        """How the log's keys of each loss over outputs begin, and how many outputs K it has."""
        return {}

    def rate_key(self, step: int) -> str:
        """The key of the learning rate at a step."""
        return "optim.lr"

    def total_steps(self, tiles: int) -> int:
        """Optimiser steps of the run on a dataset of ``tiles`` tiles; epochs are rounded up to a step."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, -(-int(self.epochs * tiles) // self.batch))

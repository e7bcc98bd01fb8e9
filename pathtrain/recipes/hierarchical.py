"""What a recipe of the hierarchical method says beyond the shared keys."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pathtrain.recipes.dino import HeadConfig, WithDino
from pathtrain.recipes.optim import OptimConfig
from pathtrain.recipes.strict import Count, Positive, Share, Strict

Number = Annotated[int, Field(gt=0)]


class StageConfig(Strict):
    """Stage 2 or 3; see pathtrain.models.grid_vit.

    Attributes:
        dim: width; a multiple of 4 (positions) and of ``heads``.
        depth, heads: of the transformer.
        pool: the grid's vector: ``token``, the class token's; or ``mean``, of all cells' tokens, which passes
            a gradient to each cell from the first step on and is learnt faster from few slides.
        dropout: of attention and the layers' outputs.
        drop_path: stochastic depth of the last block; it climbs linearly from 0 over the blocks.
    """

    dim: Number
    depth: Number
    heads: Number
    pool: Literal["token", "mean"] = "token"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % 4 or self.dim % self.heads:
            raise ValueError("dim must be a multiple of 4 and of heads")
        return self


class GridCrops(Strict):
    """Square crops of a region's grid of vectors: views of DINO on regions."""

    count: Count
    size: Number


class TileDino(Strict):
    """DINO on tiles; views, head and temperatures are the recipe's ``views`` and ``dino``.

    Attributes:
        weight: of its loss.
        batch: tiles a step, over all devices.
        lr: peak of its own steps, where the phase takes its objectives in turn; null: the phase's.
    """

    weight: Positive
    batch: Number
    lr: Positive | None = None


class RegionDino(Strict):
    """DINO on the grids of stage-1 vectors of regions; trains stage 2 alone.

    Attributes:
        weight: of its loss.
        batch: regions a step, over all devices.
        lr: peak of its own steps, where the phase takes its objectives in turn; null: the phase's.
        side: k; a region is k x k tiles.
        min_tiles: share of a region's cells that must hold a tile for it to be drawn.
        globals, locals: crops; the teacher sees the globals.
        flip: probability of mirroring a crop, left-right and top-bottom each.
        teacher_temp: the teacher's temperature on regions; null: that of ``dino``, with its warm-up. Few
            regions a step need a softer teacher than many tiles do, or it collapses.
        center_momentum: of the centre on regions; null: that of ``dino``.
    """

    weight: Positive
    batch: Number
    lr: Positive | None = None
    side: Annotated[int, Field(ge=2)]
    min_tiles: Annotated[float, Field(gt=0, le=1)]
    globals: GridCrops
    locals: GridCrops
    flip: Share
    teacher_temp: Positive | None = None
    center_momentum: Share | None = None

    @model_validator(mode="after")
    def _crops(self) -> Self:
        if self.globals.count < 2:
            raise ValueError("globals.count must be at least 2: the loss pairs different views")
        if max(self.globals.size, self.locals.size) > self.side:
            raise ValueError(f"a crop does not fit into {self.side} x {self.side} cells")
        return self


class SlideTasks(Strict):
    """The losses of the tasks through all three stages.

    Attributes:
        weight: of its loss.
        batch: slides a step, over all devices.
        lr: peak of its own steps, where the phase takes its objectives in turn; null: the phase's.
        side: k; stage 2 sees k x k tiles at a time.
        draw: regions of each slide that a step takes, at random; null: all of them. Slides are always scored
            by all of their regions.
        orient: whether each tile is turned by quarters and mirrored at random.
        class_weights: ``balanced`` weighs a class by the inverse of its frequency, ``none`` does not.
        regression_loss: of tasks of numbers, ``mse`` or ``huber``, in standard deviations.
        stage1: ``trained``, with the gradient into stage 1; or ``frozen``.
        pixels: where a slide's tiles are kept between the two passes: ``host`` (pinned) or ``device``.
        chunk: tiles through stage 1 at a time; null: as many as the free memory holds.
        regions: through stage 2 at a time.
        checkpointing: whether stages 2 and 3 compute their activations again going back.
    """

    weight: Positive
    batch: Number
    lr: Positive | None = None
    side: Annotated[int, Field(ge=2)]
    draw: Number | None = None
    orient: bool = False
    class_weights: Literal["balanced", "none"]
    regression_loss: Literal["mse", "huber"] = "mse"
    stage1: Literal["trained", "frozen"] = "trained"
    pixels: Literal["host", "device"] = "host"
    chunk: Number | None = None
    regions: Number = 8
    checkpointing: bool = True


class Phase(Strict):
    """A part of the curriculum; its learning rate, warm-up included, spans its own steps.

    All else runs on from phase to phase: weight decay over the steps of the run, each teacher's momentum over
    the steps in which it moves (``trainers``), its temperature's warm-up over the steps of its objective.

    Attributes:
        name: for the log.
        steps: optimiser steps.
        alternate: ``together``: every step adds the gradients of all objectives; ``in_turn``: a step takes
            one objective, tile, region, slide and again from the start.
        tile, region, slide: the objectives; null for none.
        validate_every: steps between two validations; at its end the phase always validates if it has slides.
        lr, warmup_steps: null takes the recipe's ``optim``. Steps of the phase, whatever their objective.
    """

    name: str
    steps: Number
    alternate: Literal["together", "in_turn"]
    tile: TileDino | None = None
    region: RegionDino | None = None
    slide: SlideTasks | None = None
    validate_every: Number | None = None
    lr: Positive | None = None
    warmup_steps: Count | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.objectives:
            raise ValueError("needs at least one of tile, region, slide")
        if self.alternate == "together" and len(self.objectives) > 1:
            for name in self.objectives:
                if getattr(self, name).lr is not None:
                    raise ValueError(
                        f"{name}.lr needs alternate in_turn: a step of several objectives has one rate; set "
                        "the phase's lr, and their weights"
                    )
        return self

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of those it has, in their order."""
        return tuple(name for name in ("tile", "region", "slide") if getattr(self, name) is not None)

    def due(self, step: int, objective: str) -> bool:
        """Whether a step of the phase has this objective."""
        names = self.objectives
        if objective not in names:
            return False
        return self.alternate == "together" or names[step % len(names)] == objective

    def first_due(self, step: int) -> str:
        """The objective of a step; of several, the first."""
        return next(name for name in self.objectives if self.due(step, name))

    def turns(self, step: int, *objectives: str) -> int:
        """How many steps of the phase before ``step`` had one of these objectives, or several."""
        names = self.objectives
        places = [names.index(name) for name in objectives if name in names]
        if self.alternate == "together":
            return step if places else 0
        return sum((step - place + len(names) - 1) // len(names) for place in places)

    def trainers(self, teacher: str) -> tuple[str, ...]:
        """The objectives whose steps train the student of a teacher, ``tile`` or ``region``.

        Slides train stage 2, which the teacher of regions follows, and stage 1, which that of tiles follows,
        unless it is frozen.
        """
        if teacher == "tile" and self.slide is not None and self.slide.stage1 == "frozen":
            return (teacher,)
        return (teacher, "slide")

    def rate(self, objective: str) -> tuple[str, float | None]:
        """The learning rate of an objective's steps and its key in the phase; None: that of ``optim``."""
        own = getattr(self, objective).lr
        return ("lr", self.lr) if own is None else (f"{objective}.lr", own)


class Hierarchy(Strict):
    """The hierarchy and its curriculum.

    Attributes:
        tile: side in pixels that tiles of slides and regions are resized to for stage 1.
        stage2, stage3: their sizes.
        region_head: DINO's head on regions.
        tasks: columns of the labels file that are learnt, as pathtrain.params.tasks reads them: ``msi``,
            ``grade:ordinal``, ``age:regression``, ``OS_MONTHS,OS_STATUS:survival``; null for all of classes.
        phases: in their order.
    """

    tile: Number
    stage2: StageConfig
    stage3: StageConfig
    region_head: HeadConfig
    tasks: tuple[str, ...] | None = None
    phases: tuple[Phase, ...] = Field(min_length=1)


class HierarchicalRecipe(WithDino):
    """A run of three stages: ``model`` is stage 1, and the phases give length and batches."""

    method: Literal["hierarchical"]
    batch: int = 0  # each objective has its own
    hierarchy: Hierarchy

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None or self.epochs is not None:
            raise ValueError("steps and epochs are those of hierarchy.phases")
        if self.batch:
            raise ValueError("batch is that of each objective in hierarchy.phases")
        if self.sharding != "none":
            raise ValueError("sharding full is not for this method: a rank's slide needs whole weights")
        return self

    def total_steps(self, tiles: int) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.hierarchy.phases)

    def outputs(self) -> dict[str, int]:
        """Those of DINO on tiles and on regions."""
        return {"tile_": self.dino.head.out_dim, "region_": self.hierarchy.region_head.out_dim}

    def span(self, step: int, total: int) -> tuple[int, int, OptimConfig]:
        """A phase's learning rate spans its own steps; its peak is that of the step's objective."""
        number, local = self.place(step)
        phase = self.hierarchy.phases[number]
        return local, phase.steps, self.optim_of(phase, phase.first_due(local))

    def optim_of(self, phase: Phase, objective: str) -> OptimConfig:
        """The optimiser of an objective's steps in a phase."""
        changed = {"lr": phase.rate(objective)[1], "warmup_steps": phase.warmup_steps}
        return self.optim.model_copy(update={k: v for k, v in changed.items() if v is not None})

    def rate_key(self, step: int) -> str:
        """The objective's own or the phase's, if they have one."""
        number, local = self.place(step)
        phase = self.hierarchy.phases[number]
        key, rate = phase.rate(phase.first_due(local))
        return super().rate_key(step) if rate is None else f"hierarchy.phases.{number}.{key}"

    def turns(self, step: int, objective: str) -> int:
        """How many steps of the run before ``step`` had an objective."""
        return sum(phase.turns(done, objective) for phase, done in self._done(step))

    def moves(self, step: int, teacher: str) -> int:
        """How many steps of the run before ``step`` trained a teacher's student, ``tile`` or ``region``."""
        return sum(phase.turns(done, *phase.trainers(teacher)) for phase, done in self._done(step))

    def _done(self, step: int) -> Iterator[tuple[Phase, int]]:
        """Every phase, and how many of its steps lie before ``step``."""
        for phase in self.hierarchy.phases:
            yield phase, max(0, min(step, phase.steps))
            step -= phase.steps

    def place(self, step: int) -> tuple[int, int]:
        """The phase that a step lies in, and its number within the phase."""
        for number, phase in enumerate(self.hierarchy.phases):
            if step < phase.steps:
                return number, step
            step -= phase.steps
        raise ValueError("beyond the last phase")

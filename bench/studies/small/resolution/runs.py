"""The trainings of part 4: regularisers of one recipe; a parent trained on, with larger views or its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pathprep.errors import UsageError
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.load import load
from pathtrain.recipes.strict import Positive, Share, Strict
from small.core.config import Study
from small.core.pool import pool
from small.core.training import Job, trained
from small.dense.nuclei import Segmentation

KDE, KOLEO, NONE = "DINOv2, KDE", "DINOv2, KoLeo", "DINOv2, no regulariser"
LARGER, LONGER = "post-trained on larger views", "trained on at its own size"
MILESTONES = 4  # encoders that each run keeps, for part 5


class Settings(Strict):
    """What is trained and scored.

    Attributes:
        recipe: of DINOv2: a packaged one's name, a YAML file beside the configuration, or ``chosen``.
        changes: of it, ``key=value``, in every training.
        steps: of each regulariser. more: of the post-training and its control.
        kde, koleo: weights of the regularisers.
        large, large_local: side of the larger global and local views, pixels.
        scored: sides that images are scored at, of the first arms and of the larger views; none: those of the
            global views. Where views are parts of a tile, whole tiles are to be scored larger than them.
        lr: of the post-training and its control.
        left: share of the parent that is left in the teacher after them.
        segmentation: how decoders are trained.
    """

    recipe: str = "midnight-tiny"
    changes: tuple[str, ...] = ()
    steps: Annotated[int, Field(ge=1)] = 250
    more: Annotated[int, Field(ge=1)] = 75
    kde: Positive = 0.05
    koleo: Positive = 0.1
    large: Annotated[int, Field(ge=32)] = 112
    large_local: Annotated[int, Field(ge=16)] = 56
    scored: tuple[int, int] | None = None
    lr: Positive = 0.0003
    left: Share = 0.1
    segmentation: Segmentation = Segmentation()

    @property
    def momentum(self) -> float:
        """Of the teacher while post-training, the same in every step."""
        return float(self.left ** (1 / self.more))

    def sizes(self, recipe: Dinov2Recipe) -> tuple[int, int]:
        """Sides that images are scored at: own, and larger."""
        return self.scored or (recipe.views.globals.size, self.large)


def recipe_of(study: Study, settings: Settings) -> Dinov2Recipe:
    """The recipe with its changes.

    Raises:
        UsageError: it is none of DINOv2, which alone has a regulariser.
    """
    found = load(_source(study, settings), settings.changes)
    if not isinstance(found, Dinov2Recipe):
        raise UsageError(
            f"{study.config}: resolution.recipe {settings.recipe}: its method is {found.method}; "
            "give one of dinov2, such as midnight-tiny"
        )
    return found


def _source(study: Study, settings: Settings) -> Path | str:
    if settings.recipe == "chosen":
        return study.recipe
    beside = study.config.parent / settings.recipe
    return beside if beside.is_file() else settings.recipe


def trainings(study: Study, settings: Settings, recipe: Dinov2Recipe) -> dict[str, list[Path]]:
    """Run folders by arm, one per seed."""
    data, source, seeds = pool(study, "final"), _source(study, settings), range(study.common.seeds)

    def job(word: str, seed: int, changes: Sequence[str]) -> Job:
        return Job(f"resolution-{word}-{seed}", source, data, (*settings.changes, *changes, f"seed={seed}"))

    ends = _ending(settings.steps)
    arms = {KDE: "kde", KOLEO: "koleo", NONE: "none"}
    first = {
        (name, seed): job(word, seed, (*ends, *_regularised(word, settings)))
        for seed in seeds
        for name, word in arms.items()
    }
    found = trained(study, list(first.values()))
    second = {
        (name, seed): job(
            word,
            seed,
            (
                *_regularised("kde", settings),
                *post_training(recipe, settings, found[first[KDE, seed].name]),
                *views,
            ),
        )
        for seed in seeds
        for name, word, views in (
            (LONGER, "longer", ()),
            (
                LARGER,
                "larger",
                (f"views.globals.size={settings.large}", f"views.locals.size={settings.large_local}"),
            ),
        )
    }
    found |= trained(study, list(second.values()))
    every = first | second
    return {
        name: [found[every[name, seed].name] for seed in seeds]
        for name in dict.fromkeys(name for name, _ in every)
    }


def _ending(steps: int) -> tuple[str, ...]:
    return (
        f"steps={steps}",
        f"checkpoint.every={steps}",
        f"checkpoint.milestones={max(1, steps // MILESTONES)}",
    )


def _regularised(word: str, settings: Settings) -> tuple[str, ...]:
    if word == "none":
        return ("regulariser.kind=none",)
    return (f"regulariser.kind={word}", f"regulariser.weight={getattr(settings, word)}")


def post_training(recipe: Dinov2Recipe, settings: Settings, parent: Path) -> tuple[str, ...]:
    """Changes of the recipe for training on: its schedules at the values that the parent ended with."""
    warm, decay = recipe.dino.teacher_temp.end, recipe.optim.weight_decay.end
    return (
        f"model.init=run:{parent}",
        *_ending(settings.more),
        f"dino.momentum={{start: {settings.momentum}, end: {settings.momentum}}}",
        f"dino.teacher_temp={{start: {warm}, end: {warm}, steps: 0}}",
        "dino.freeze_last_layer_steps=0",
        f"optim.lr={settings.lr}",
        f"optim.warmup_steps={settings.more // 10}",
        f"optim.weight_decay={{start: {decay}, end: {decay}}}",
    )

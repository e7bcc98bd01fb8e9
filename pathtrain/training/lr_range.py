"""A learning rate range test: a run's first steps at rates that climb, to see which it can bear.

Smith 2017, arXiv 1506.01186, section 3.3; here the rate climbs by one factor a step, not linearly. Weight
decay, temperatures and momentum are those of the run's first steps; the backbone learns from the first one
on, also of a recipe that freezes it at first (``optim.freeze_backbone_steps``). Nothing is kept: no run
folder is made or looked at, but for one that ``model.init`` names.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from pathprep.errors import UsageError
from pathprep.params.running import AnyPath
from pathtrain import methods
from pathtrain.data.opening import opened
from pathtrain.data.source import NO_TILES
from pathtrain.distributed import ranks as distributed
from pathtrain.errors import TrainError
from pathtrain.features.progress import TileProgress
from pathtrain.recipes.dino import DinoRecipe
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import beginning, warm_start
from pathtrain.stain import suits
from pathtrain.stain.target import settle
from pathtrain.training import lr_curve, step
from pathtrain.training.loop import Loop
from pathtrain.training.lr_curve import Reading

log = logging.getLogger(__name__)

FEWEST = 20  # steps of which a curve can be read


@dataclass(frozen=True)
class LrRange:
    """What a test found.

    Attributes:
        lr, loss, teacher_entropy, told, gradient_norm: (N,) of each step, before it; nats but for rate and
            norm. ``told`` is what an output says of its tile; see pathtrain.training.lr_curve.
        reading: what the curve shows.
        not_finite: the rate after which loss or gradient were not finite; the test ends there.
        recipe_lr: the recipe's own peak rate.
        batch: tiles a step.
        said: all that in words.
    """

    lr: list[float]
    loss: list[float]
    teacher_entropy: list[float]
    told: list[float]
    gradient_norm: list[float]
    reading: Reading
    not_finite: float | None
    recipe_lr: float
    batch: int
    said: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def lr_range(
    datasets: AnyPath | Iterable[AnyPath] = "dataset",
    recipe: Recipe | str | Path = "smoke",
    *,
    settings: Mapping[str, Any] | Sequence[str] = (),
    steps: int = 100,
    low: float = 1e-6,
    high: float = 1.0,
) -> LrRange:
    """Take a run's first steps at rates that climb from ``low`` to ``high``; under torchrun on all ranks.

    Args:
        datasets: as of ``pretrain``.
        recipe: of the method dino or dinov2.
        settings: values that go before those of a named recipe.
        steps: N, at least 20. More show more, and let the network learn more on the way.
        low, high: learning rates of the first and the last step.

    Raises:
        RecipeError: no such recipe, or a value is wrong.
        UsageError: the method has several losses; the limits or the batch are wrong.
        PathprepError: the dataset or the model is wrong.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load(recipe, settings)
    if not isinstance(recipe, DinoRecipe | Dinov2Recipe):
        raise UsageError(
            f"the method {recipe.method} has several losses, in turn and together, and no one rate for them: "
            "test a recipe of the method dino or dinov2 with the same model, views and batch"
        )
    if steps < FEWEST:
        raise UsageError(f"`steps` {steps}: at least {FEWEST} are needed to read a curve")
    if not 0 < low < high < math.inf:
        raise UsageError(f"`low` {low} and `high` {high}: give rates above 0, the lower one first")
    optim = recipe.optim.model_copy(update={"freeze_backbone_steps": 0})
    recipe = recipe.model_copy(update={"model": beginning.settled(recipe.model, None), "optim": optim})
    rates = [low * (high / low) ** (number / (steps - 1)) for number in range(steps)]
    with distributed.ranks(timedelta(minutes=recipe.rank_timeout)) as ranks:
        ranks.share(recipe.batch)
        data = opened(datasets, recipe)
        target = settle(recipe.stain, None)
        suits.check(data.stained, recipe.stain, target)
        setup = methods.setup(recipe, data, None)
        total = max(steps, recipe.total_steps(len(data)))
        start = ranks.decide(lambda: warm_start.find(recipe.model, None, None))
        torch.manual_seed(recipe.seed)
        method = setup.method(total, ranks.device, fresh=start is None)
        if start is not None:
            warm_start.adopt(method, recipe, start)
        made = Loop(recipe, method, Path(), total, "", ranks)
        done: list[step.Done] = []
        progress = TileProgress(steps * recipe.batch, "learning rates")
        with closing(setup.source(0, ranks, target, NO_TILES)) as batches:
            for number, batch in zip(range(steps), batches, strict=False):
                taken = made.stepper.take(batch, number, stop=False, lr=rates[number]).read()
                if not taken.taken:
                    break
                done.append(taken)
                progress.advance(recipe.batch)
    return _found(recipe, rates, done)


def _found(recipe: Recipe, rates: list[float], done: list[step.Done]) -> LrRange:
    (kind,) = recipe.outputs()  # the log's keys of DINO's loss begin so
    entropy = [one.means[f"{kind}teacher_entropy"] for one in done]
    told = [one.means[f"{kind}output_entropy"] - one.means[f"{kind}teacher_entropy"] for one in done]
    # the step that is not finite shows what the one before did
    not_finite = rates[max(0, len(done) - 1)] if len(done) < len(rates) else None
    if not done:
        raise TrainError(
            f"the loss is not finite at the first step, of rate {rates[0]:.2g}: see the model's start"
        )
    reading = lr_curve.read(rates[: len(done)], [one.means[f"{kind}kl"] for one in done], told)
    return LrRange(
        rates[: len(done)],
        [one.loss for one in done],
        entropy,
        told,
        [one.gradient_norm for one in done],
        reading,
        not_finite,
        recipe.optim.lr,
        recipe.batch,
        _said(reading, not_finite, recipe.optim.lr),
    )


def _said(reading: Reading, not_finite: float | None, own: float) -> list[str]:
    lines = []
    if reading.steepest is None:
        lines.append(
            "The curve falls at no rate more than by chance: try lower ones, more steps, another start."
        )
    else:
        lines.append(
            f"Falls steepest at {reading.steepest:.2g}, is lowest at {reading.lowest:.2g}"
            + (f", rises again from {reading.rises:.2g}." if reading.rises else ", and does not rise again.")
        )
    if not_finite is not None:
        lines.append(f"Loss or gradient are not finite after {not_finite:.2g}.")
    if reading.collapsed is not None:
        lines.append(
            f"From {reading.collapsed:.2g} on outputs say next to nothing of their tile: collapsed. What "
            "falls there is no learning."
        )
    if reading.range is not None:
        low, high = reading.range
        where = "below it" if own < low else "above it" if own > high else "in it"
        lines.append(
            f"A peak rate to try lies from {low:.2g} to {high:.2g}; the recipe's {own:.2g} is {where}."
        )
    lines.append(
        "This is how some steps from this start went, without warm-up: a bound, not a choice. What holds "
        "over a whole run, for features and against collapse, only runs tell."
    )
    return lines

"""One optimiser step over all ranks and all parts of a batch.

Gradients and the method's means are those of the whole batch: a part counts by its share of the rank's
tiles, and ranks count alike. A step waits for its numbers once, after the backward pass is queued; several
ranks also wait to know which parameters have gradients.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pathtrain.distributed.fsdp import is_sharded
from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.spread import MOMENT, RANK
from pathtrain.methods import schedules
from pathtrain.methods.base import Batch, Method
from pathtrain.recipes.recipe import Recipe
from pathtrain.training.optim import clip_each, schedule


@dataclass(frozen=True)
class Done:
    """What a step was; the same on all ranks but for ``each``.

    Attributes:
        loss: of the whole batch, before the step.
        gradient_norm: L2, of all gradients together, before clipping.
        wait: seconds that ranks were held up for data, on average.
        stop: whether any rank was asked to stop.
        means: for the log: the method's means of one element and its figures, and ``gradient_norm_<part>``
            of the student's parts that have gradients, before clipping.
        moments: the method's means whose effective rank is logged, by the name of the rank.
        each: (B,) this rank's losses by tile.
        taken: whether the weights moved: False where loss or gradient are not finite.
    """

    loss: float
    gradient_norm: float
    wait: float
    stop: bool
    means: dict[str, float]
    moments: dict[str, Tensor]
    each: Tensor
    taken: bool


def scheduled(recipe: Recipe, method: Method, total: int, step: int) -> dict[str, float]:
    """Every value that follows from the step alone."""
    at, span, optim = recipe.span(step, total)
    decay = recipe.optim.weight_decay
    return {
        "lr": schedules.learning_rate(at, span, optim),
        "weight_decay": schedules.cosine(step, total, decay.start, decay.end),
        **method.schedule(step),
    }


def take(
    method: Method,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    ranks: Ranks,
    batch: Batch,
    step: int,
    total: int,
    stop: bool,
    lr: float | None = None,
) -> Done:
    """Do step number ``step`` (the first is 0); nothing moves if loss or gradient are not finite.

    Args:
        lr: in place of the schedule's.
    """
    now = scheduled(recipe, method, total, step)
    schedule(optimizer, now["lr"] if lr is None else lr, now["weight_decay"])
    torch.manual_seed(random_state(recipe.seed, step, ranks.rank))
    optimizer.zero_grad(set_to_none=True)
    own = len(batch.tiles)
    loss = torch.zeros((), device=ranks.device)
    means: dict[str, Tensor] = {}
    each = []
    for part in method.split(batch.views, recipe.micro_batch or own):
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            outcome = method.loss(part, step)
        share = len(outcome.each) / own
        (outcome.loss * share).backward()  # type: ignore[no-untyped-call]
        loss += outcome.loss.detach().float() * share
        for name, value in outcome.means.items():
            means[name] = means[name] + value * share if name in means else value * share
        each.append(outcome.each)
    for parameter in method.frozen(step):
        parameter.grad = None  # AdamW then leaves it alone, weight decay included
    parameters = dict(method.student.named_parameters())
    if not is_sharded(parameters.values()):  # sharded gradients are averaged in the backward pass
        ranks.average_gradients(parameters.values())
    trained = {name: parameter for name, parameter in parameters.items() if parameter.grad is not None}
    norms = clip_each(trained.values(), recipe.optim.clip, ranks)
    names = list(means)
    flat = [loss.view(1), loss.new_tensor([batch.wait, float(stop)]), *(means[n].flatten() for n in names)]
    mean = ranks.sum(torch.cat(flat)) / ranks.world  # float64 if one of them is
    parts = torch.split(mean, [1, 2, *(means[n].numel() for n in names)])
    means = {
        name: part.view_as(means[name]).to(means[name]) for name, part in zip(names, parts[2:], strict=True)
    }
    shown = {name: value for name, value in means.items() if value.numel() == 1}
    shown |= method.figures(means) | _norms(trained, norms)
    together = torch.linalg.vector_norm(norms)
    numbers = [parts[0], together.view(1), parts[1], *(value.view(1) for value in shown.values())]
    value, length, wait, asked, *rest = torch.cat(numbers).tolist()
    taken = math.isfinite(value) and math.isfinite(length)
    if taken:
        optimizer.step()
        method.update(means, step)
    moments = {
        name.removesuffix(MOMENT) + RANK: value for name, value in means.items() if name.endswith(MOMENT)
    }
    logged = dict(zip(shown, rest, strict=True))
    return Done(value, length, wait, asked > 0, logged, moments, torch.cat(each), taken)


def _norms(names: Iterable[str], norms: Tensor) -> dict[str, Tensor]:
    """The norm of each part of the student, from those (P,) of its parameters."""
    parts: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        parts.setdefault(name.partition(".")[0], []).append(number)
    return {f"gradient_norm_{part}": torch.linalg.vector_norm(norms[rows]) for part, rows in parts.items()}


def random_state(seed: int, step: int, rank: int) -> int:
    """What torch's random generator starts a step with, so that a resume needs no saved state."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8]) >> 1

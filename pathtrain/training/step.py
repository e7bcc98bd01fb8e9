"""One optimiser step over all ranks and all parts of a batch.

Gradients and the method's means are those of the whole batch: a part counts by its share of the rank's
tiles, and ranks count alike. A step is queued on the device, and its numbers are read later, so that the
device need not wait for the next batch. Whether loss and gradient are finite is therefore decided on the
device: where they are not, neither this step nor a later one moves the weights.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import is_sharded
from pathtrain.distributed.gradients import Gradients
from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.spread import MOMENT, RANK
from pathtrain.methods import schedules
from pathtrain.methods.base import Batch, Method
from pathtrain.recipes.recipe import Recipe
from pathtrain.training.optim import clip_each, part_of, scale_each, schedule


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


class Queued:
    """A step whose numbers are on their way from the device.

    Args:
        numbers: on the device: loss, gradient norm, wait, stop, and what ``shown`` names.
        shown, moments, each: as of Done.
    """

    def __init__(self, numbers: Tensor, shown: list[str], moments: dict[str, Tensor], each: Tensor) -> None:
        self._shown, self._moments, self._each = shown, moments, each
        self._numbers = numbers.to("cpu", non_blocking=True)  # pinned, from a card
        self._there = torch.cuda.Event() if numbers.is_cuda else None  # type: ignore[no-untyped-call]
        if self._there is not None:
            self._there.record(torch.cuda.current_stream(numbers.device))

    def read(self) -> Done:
        """Wait until the step has its numbers."""
        if self._there is not None:
            self._there.synchronize()
        loss, norm, wait, asked, *rest = self._numbers.tolist()
        taken = math.isfinite(loss) and math.isfinite(norm)
        means = dict(zip(self._shown, rest, strict=True))
        return Done(loss, norm, wait, asked > 0, means, self._moments, self._each, taken)


def scheduled(recipe: Recipe, method: Method, total: int, step: int) -> dict[str, float]:
    """Every value that follows from the step alone."""
    at, span, optim = recipe.span(step, total)
    decay = recipe.optim.weight_decay
    return {
        "lr": schedules.learning_rate(at, span, optim),
        "weight_decay": schedules.cosine(step, total, decay.start, decay.end),
        **method.schedule(step),
    }


class Stepper:
    """Takes the steps of a run.

    Args:
        method, optimizer: of one another; divided among ranks already, if they are to be.
        recipe: its ``seed``, ``optim``, ``precision`` and ``micro_batch``.
        ranks: all processes.
        total: steps that the schedules span.
    """

    def __init__(
        self, method: Method, optimizer: torch.optim.Optimizer, recipe: Recipe, ranks: Ranks, total: int
    ) -> None:
        self.method, self.optimizer, self.recipe, self.ranks = method, optimizer, recipe, ranks
        self.total = total
        self._parameters = dict(method.student.named_parameters())
        self._gradients = Gradients(self._parameters.values(), method.computing(), ranks, method.uniform)
        self._sharded = is_sharded(self._parameters.values())
        # not 0 from the first step on that was not finite; the optimiser's kernel looks at it
        self._broken = torch.zeros((), device=ranks.device)
        self._scale = scale_each
        self._start = [p for name, p in self._parameters.items() if part_of(name) == "backbone"]
        if not self._sharded:
            optimizer.found_inf = self._broken  # type: ignore[attr-defined]

    def compile(self, backend: Any = "inductor") -> None:
        """torch.compile of the method's networks and of what is done to gradients, with one of its backends.

        Shapes are the same in every step: it compiles in the first one, and again where there are no frozen
        parameters any more. What is done to gradients is left as it is where the method is not
        ``uniform``: its steps have gradients of other parameters, and each kind would be compiled by itself.
        """
        self.method.compile(backend, blocks=self.ranks.world > 1)  # which average what has come
        if self.method.uniform:
            self._scale = torch.compile(scale_each, dynamic=False, backend=backend)

    def take(self, batch: Batch, step: int, stop: bool, lr: float | None = None) -> Queued:
        """Queue step number ``step`` (the first is 0); nothing moves if loss or gradient are not finite.

        A teacher may follow a student that has not moved: of a run that ends so nothing is kept.

        Args:
            stop: whether this rank is asked to stop.
            lr: in place of the schedule's.
        """
        method, recipe, ranks = self.method, self.recipe, self.ranks
        now = scheduled(recipe, method, self.total, step)
        schedule(self.optimizer, now["lr"] if lr is None else lr, now["weight_decay"])
        torch.manual_seed(random_state(recipe.seed, step, ranks.rank))
        method.refresh()
        self._gradients.clear()
        own = len(batch.tiles)
        loss = torch.zeros((), device=ranks.device)
        means: dict[str, Tensor] = {}
        each = []
        pieces = method.split(batch.views, recipe.micro_batch or own)
        with self._cast():
            pieces = method.prepare(pieces, step, ranks)
        for number, part in enumerate(pieces, 1):
            with self._cast():
                outcome = method.loss(part, step)
            share = len(outcome.each) / own
            with self._gradients.part(last=number == len(pieces)):
                (outcome.loss * share).backward()  # type: ignore[no-untyped-call]
            loss += outcome.loss.detach().float() * share
            for name, value in outcome.means.items():
                means[name] = means[name] + value * share if name in means else value * share
            each.append(outcome.each)
        self._gradients.average()
        for parameter in [*method.frozen(step), *self._frozen(step)]:
            parameter.grad = None  # AdamW then leaves it alone, weight decay included
        trained = {name: p for name, p in self._parameters.items() if p.grad is not None}
        parts = [part_of(name) for name in trained] if recipe.optim.clip_by == "network" else None
        norms = clip_each(trained.values(), recipe.optim.clip, ranks, self._scale, parts)
        names = list(means)
        flat = [
            loss.view(1),
            torch.tensor([batch.wait, float(stop)]).to(loss, non_blocking=True),
            *(means[n].flatten() for n in names),
        ]
        mean = ranks.sum(torch.cat(flat)) / ranks.world  # float64 if one of them is
        split = torch.split(mean, [1, 2, *(means[n].numel() for n in names)])
        means = {
            name: part.view_as(means[name]).to(means[name])
            for name, part in zip(names, split[2:], strict=True)
        }
        shown = {name: value for name, value in means.items() if value.numel() == 1}
        shown |= method.figures(means) | _norms(trained, norms)
        together = torch.linalg.vector_norm(norms)
        moments = {
            name.removesuffix(MOMENT) + RANK: value for name, value in means.items() if name.endswith(MOMENT)
        }
        numbers = [split[0], together.view(1), split[1], *(value.view(1) for value in shown.values())]
        queued = Queued(torch.cat(numbers), list(shown), moments, torch.cat(each))
        finite = split[0].isfinite().all() & together.isfinite()
        torch.maximum(self._broken, (~finite).to(self._broken), out=self._broken)
        # divided parameters cannot take the flag: there the step is waited for
        if not self._sharded or queued.read().taken:
            self.optimizer.step()
            method.update(means, step, self._broken == 0)
        return queued

    def _cast(self) -> torch.autocast:
        reduced = self.recipe.precision == "bfloat16"
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=reduced)

    def _frozen(self, step: int) -> list[nn.Parameter]:
        """The backbone's parameters in a frozen start."""
        return self._start if step < self.recipe.optim.freeze_backbone_steps else []


def _norms(names: Iterable[str], norms: Tensor) -> dict[str, Tensor]:
    """The norm of each part of the student, from those (P,) of its parameters."""
    parts: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        parts.setdefault(name.partition(".")[0], []).append(number)
    return {
        f"gradient_norm_{part}": torch.linalg.vector_norm(norms[rows[0] : rows[-1] + 1])
        for part, rows in parts.items()
    }


def random_state(seed: int, step: int, rank: int) -> int:
    """What torch's random generator starts a step with, so that a resume needs no saved state."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8]) >> 1

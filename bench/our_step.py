"""The step of `pathtrain pretrain`, with all that it checks and reports, for benches that bring batches."""

from typing import Any

import torch

from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Batch
from pathtrain.recipes.recipe import Recipe
from pathtrain.training import compiling, step
from pathtrain.training.optim import adamw


class OurStep:
    """The steps of one method.

    Args:
        make: a method's class.
        recipe: of the method.
        device: where everything lives.
        total: steps that the schedules span.
    """

    def __init__(self, make: Any, recipe: Recipe, device: torch.device, total: int) -> None:
        torch.manual_seed(0)
        self.recipe, self.ranks = recipe, Ranks(0, 1, device)
        self.method = make(recipe, total, device)
        optimizer = adamw(self.method.student, recipe.optim)
        self.stepper = step.Stepper(self.method, optimizer, recipe, self.ranks, total)
        if compiling.wanted(recipe.compile, device):
            self.stepper.compile()
        self.done = 0
        self.queued: step.Queued | None = None

    def __call__(self, batch: Batch) -> None:
        """Take a step."""
        queued = self.stepper.take(batch, self.done, stop=False)
        self.done += 1
        if self.queued is not None and not self.queued.read().taken:  # a step late, as the loop does
            raise RuntimeError("the loss is not finite")
        self.queued = queued

"""A row of the log: means over the steps since the last row, and the run's speed in them."""

import time
from typing import Any

import torch
from torch import Tensor

from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.spread import effective_rank
from pathtrain.methods.base import Batch, Method
from pathtrain.recipes.recipe import Recipe
from pathtrain.training import flops
from pathtrain.training.logs import Row
from pathtrain.training.step import Done

FEW = 8  # tiles whose operations are counted: masks differ from tile to tile


class Meter:
    """Adds up steps and gives a row of them; MFU on cards whose peak is known, else null.

    A step that does not have a value (in turn with others, an objective) does not count for its mean.
    """

    def __init__(self, recipe: Recipe, method: Method, ranks: Ranks) -> None:
        self._recipe, self._method, self._ranks = recipe, method, ranks
        # samples of several kinds, where the recipe's batch is 0, have no one cost
        self._peak = flops.peak(ranks.device, recipe.precision) if recipe.batch else None
        self._flops = 0.0  # a tile
        self.restart()

    def learn(self, batch: Batch) -> None:
        """Count the operations of a tile, once, before the first step; the time that it takes is left out."""
        if self._peak is not None:
            began = time.perf_counter()
            few = min(FEW, len(batch.tiles))
            part = self._method.split(batch.views, few)[0]
            found = flops.count(self._method, part, self._recipe.precision, self._ranks.device)
            self._flops = found / few
            self._since += time.perf_counter() - began

    def count(self, done: Done) -> None:
        """A step is done."""
        self._timed += 1
        self._images += len(done.each) * self._ranks.world
        self._waited += done.wait
        self._steps += 1
        own: dict[str, Any] = {"loss": done.loss, "gradient_norm": done.gradient_norm}
        own |= done.means | done.moments
        for name, value in own.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1

    @property
    def loss(self) -> float:
        """The mean since the last row; at least one step was counted."""
        total, count = self._sums["loss"]
        return float(total) / count

    def row(self) -> Row:
        """The steps since the last row: how many, means, effective ranks and rates."""
        seconds = time.perf_counter() - self._since
        images = self._images / seconds
        means = {name: total / count for name, (total, count) in self._sums.items()}
        return {
            "steps": self._steps,
            **{name: effective_rank(m) if isinstance(m, Tensor) else m for name, m in means.items()},
            "images_s": images,
            "data_wait": self._waited / seconds,
            "seconds_step": seconds / self._timed,
            "mfu": images * self._flops / (self._peak * self._ranks.world) if self._peak else None,
        }

    def restart(self) -> None:
        """Begin the next row."""
        self._since, self._waited, self._timed, self._images = time.perf_counter(), 0.0, 0, 0
        self._steps = 0
        self._sums: dict[str, tuple[float | Tensor, int]] = {}

    def state(self) -> dict[str, Any]:
        """The row that is begun, for a checkpoint; times are not in it."""
        sums = {
            name: {"sum": torch.as_tensor(total, dtype=torch.float64), "steps": count}
            for name, (total, count) in self._sums.items()
        }
        return {"steps": self._steps, "sums": sums}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on with a row that was begun."""
        self._steps = state["steps"]
        for name, part in state["sums"].items():
            total: Tensor = part["sum"]
            value = total.to(self._ranks.device) if total.ndim else total.item()
            self._sums[name] = value, part["steps"]

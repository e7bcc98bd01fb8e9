"""What a run's speed is, between two rows of its log."""

import time

from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Batch, Method
from pathtrain.recipes.recipe import Recipe
from pathtrain.training import flops
from pathtrain.training.logs import Row
from pathtrain.training.step import Done


class Meter:
    """Counts steps and gives a row's rates; MFU on cards whose peak is known, else null."""

    def __init__(self, recipe: Recipe, method: Method, ranks: Ranks) -> None:
        self._recipe, self._method, self._ranks = recipe, method, ranks
        # samples of several kinds, where the recipe's batch is 0, have no one cost
        self._peak = flops.peak(ranks.device, recipe.precision) if recipe.batch else None
        self._flops = 0  # a tile
        self._last: Done | None = None
        self.restart()

    def learn(self, batch: Batch) -> None:
        """Count the operations of a tile, once, before the first step; the time that it takes is left out."""
        if self._peak is not None:
            began = time.perf_counter()
            tile = self._method.split(batch.views, 1)[0]
            self._flops = flops.count(self._method, tile, self._recipe.precision, self._ranks.device)
            self._since += time.perf_counter() - began

    def count(self, done: Done) -> None:
        """A step is done."""
        self._steps += 1
        self._images += len(done.each) * self._ranks.world
        self._waited += done.wait
        self._last = done

    def row(self) -> Row:
        """Rates since the last row, and the last step's own figures."""
        assert self._last is not None
        seconds = time.perf_counter() - self._since
        images = self._images / seconds
        return {
            "gradient_norm": self._last.gradient_norm,
            **self._last.means,
            "images_s": images,
            "data_wait": self._waited / seconds,
            "seconds_step": seconds / self._steps,
            "mfu": images * self._flops / (self._peak * self._ranks.world) if self._peak else None,
        }

    def restart(self) -> None:
        """Begin the next row."""
        self._since, self._waited, self._steps, self._images = time.perf_counter(), 0.0, 0, 0

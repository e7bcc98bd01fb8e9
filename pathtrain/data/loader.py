"""Batches of views from a dataset folder, in the computed order, from any step on.

Tiles are read by offset (a random read of a local tar costs under a fifth of a sequential one), checked
against their CRC32, and handed to DALI as JPEG bytes, so tiles of different native sizes may meet in one
batch. There is no state but the step: a loader that starts at step s gives what any other gives there.
"""

import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.utils.dlpack

from pathprep.errors import DatasetError
from pathprep.shards import Dataset
from pathprep.stain import Target, apply
from pathtrain.data import order, params, stain, views
from pathtrain.errors import TrainError
from pathtrain.recipes.schema import Recipe

# One batch in work while one is trained on; not swept, more costs memory.
DEPTH = 2


@dataclass(frozen=True)
class Batch:
    """One step's tiles on one rank.

    Attributes:
        views: one tensor (B, 3, size, size) float32, normalised, per view; globals first.
        tiles: (B,) tile numbers in the dataset's order.
        wait: seconds that the caller was held up for it.
    """

    views: list[torch.Tensor]
    tiles: npt.NDArray[np.int64]
    wait: float


class Loader:
    """Iterates over steps for ever; the caller stops.

    Args:
        dataset: its tiles are all used.
        recipe: views, normalisation, batch and seed.
        start_step: first step to give.
        rank, world: this process takes every world-th tile of a step, from ``rank`` on.
        device_id: GPU to decode on, or None for the CPU.
        threads: DALI's CPU threads.
        target: what the recipe's stain.mode normalize goes to; None for the one that it names.

    Raises:
        DatasetError: the dataset has no tiles; on iteration, a tile's bytes are not those written.
        TrainError: the dataset does not serve the recipe's stain mode; on iteration, DALI cannot decode a
            tile.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
        device_id: int | None = None,
        threads: int = 2,
        target: Target | None = None,
    ) -> None:
        self.dataset, self.recipe, self.start = dataset, recipe, start_step
        self.rank, self.world = rank, world
        self.index = dataset.tiles(["x", "y", "offset", "length", "crc32"])
        if not len(self.index):
            raise DatasetError(f"{dataset.root}: no tiles to train on; see `pathprep report {dataset.root}`")
        self._stain = stain.stage(dataset, recipe, target)
        self._views = params.views(recipe.views)
        self._columns = [views.columns(recipe, view) for view in self._views]
        largest = len(order.positions(0, recipe.batch, 0, world))
        io = None if self._stain is None else self._stain.io
        self._pipeline = views.pipeline(
            recipe, self._views, self._feed, largest, threads, device_id, DEPTH, io
        )

    def __len__(self) -> int:
        """Tiles in the dataset."""
        return len(self.index)

    def __iter__(self) -> Iterator[Batch]:
        step = self.start
        while True:
            started = time.perf_counter()
            try:
                outputs = self._pipeline.run()
            except RuntimeError as error:  # DALI's; the pipeline is dead after it
                raise TrainError(f"{self.dataset.root}: {self._blame(step, error)}") from None
            tensors = [torch.utils.dlpack.from_dlpack(output.as_tensor()) for output in outputs]
            yield Batch(tensors, self.tiles(step), time.perf_counter() - started)
            step += 1

    def tiles(self, step: int) -> npt.NDArray[np.int64]:
        """Tile numbers that this rank takes in a step."""
        return order.tiles(self._positions(step), len(self.index), self.recipe.seed)

    def stained(self, step: int, pixels: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]] | None:
        """A step's decoded tiles, in the order of ``tiles``, after the stain stage; None if there is none."""
        if self._stain is None:
            return None
        matrices = self._stain.matrices(self.tiles(step), self._positions(step))
        found: list[npt.NDArray[np.uint8]] = apply(pixels, matrices, io=self._stain.io)
        return found

    def name(self, tile: int) -> str:
        """A tile's slide and level-0 coordinates, for messages."""
        slide = self.index.slides[int(self.index.slide_of(tile))]
        return f"slide {slide}, tile {self.index.columns['x'][tile]}_{self.index.columns['y'][tile]}"

    def read(self, tile: int) -> bytes:
        """A tile's JPEG, checked.

        Raises:
            DatasetError: the bytes are not those that were written.
        """
        column = self.index.columns
        slide = self.index.slides[int(self.index.slide_of(tile))]
        data = self.dataset.read(slide, int(column["offset"][tile]), int(column["length"][tile]))
        if zlib.crc32(data) != column["crc32"][tile]:
            raise DatasetError(
                f"{self.dataset.root}: {self.name(tile)} is damaged (its CRC32 differs); "
                f"run `pathprep verify {self.dataset.root}`"
            )
        return data

    def _blame(self, step: int, error: RuntimeError) -> str:
        """Which tile made DALI stop: batches are prepared ahead, so it is one of the next few steps."""
        for tile in np.concatenate([self.tiles(step + ahead) for ahead in range(DEPTH + 1)]):
            try:
                simplejpeg.decode_jpeg(self.read(int(tile)))
            except ValueError as reason:
                return f"{self.name(int(tile))} cannot be decoded ({reason})"
        said = str(error).partition("encountered:")[2].strip() or str(error)  # DALI says where, then what
        return f"step {step + 1}: {said.splitlines()[0]}"

    def _positions(self, step: int) -> order.Ints:
        return order.positions(step, self.recipe.batch, self.rank, self.world)

    def _feed(self, iteration: int) -> list[Any]:
        """One step's input to the graph; DALI calls it some batches ahead."""
        positions = self._positions(self.start + iteration)
        tiles = order.tiles(positions, len(self.index), self.recipe.seed)
        fed: list[Any] = [[np.frombuffer(self.read(tile), np.uint8) for tile in tiles]]
        if self._stain is not None:
            fed.append(self._stain.matrices(tiles, positions))
        for number, (view, names) in enumerate(zip(self._views, self._columns, strict=True)):
            drawn = params.draw(self.recipe.views, view, number, positions, self.recipe.seed)
            fed += views.inputs(drawn, names)
        return fed

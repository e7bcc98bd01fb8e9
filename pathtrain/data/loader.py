"""Batches of views of what is trained on, in the computed order, from any step on.

    positions of a step -> tiles (pathtrain.data.source) -> JPEGs (jpeg_reader) -> DALI: decode, stain, views

Tiles of different native sizes may meet in one batch. There is no state but the step: a loader that starts
at step s gives what any other gives there, from the same bytes.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pathprep.errors import DatasetError, PathprepError
from pathprep.stain import Target
from pathprep.words import command
from pathtrain.data import order, view_graph, view_params
from pathtrain.data.ahead import Ahead
from pathtrain.data.damaged_tiles import Damage, Damaged
from pathtrain.data.jpeg_reader import JpegReader, Pixels
from pathtrain.data.mixed_source import MixedSource
from pathtrain.data.online import reader as online
from pathtrain.data.order import Ints
from pathtrain.data.plan import Plan, plan
from pathtrain.data.source import NO_TILES, DamagedTile
from pathtrain.data.trained_on import TrainingData, no_tiles
from pathtrain.distributed.ranks import ALONE, Ranks
from pathtrain.errors import TrainError
from pathtrain.recipes.model import Channels
from pathtrain.recipes.recipe import Recipe, StainConfig, ViewsConfig
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.stain.stage import stage

# One batch in work while one is trained on; not swept, more costs memory.
DEPTH = 2
# Steps whose tiles may have stopped DALI: it prepares DEPTH, and its reader is one ahead of that
SUSPECT = DEPTH + 2
PLANNED = 1  # steps whose views are drawn beyond those whose tiles are being read

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOptions:
    """What batches are made of.

    Attributes:
        views: the crops of a tile.
        mean, std: what a pixel in 0 to 1 is normalised with, per channel.
        stain: what is done to the stain of a whole tile before.
        batch: tiles a step, over all ranks.
        seed: of order, crops and stain jitter.
        sampling: how often each tile comes.
        max_damaged: damaged tiles that a process passes over before it stops.
    """

    views: ViewsConfig
    mean: Channels
    std: Channels
    stain: StainConfig
    batch: int
    seed: int
    sampling: SamplingConfig
    max_damaged: int

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Those of a recipe."""
        return cls(
            recipe.views,
            recipe.model.mean,
            recipe.model.std,
            recipe.stain,
            recipe.batch,
            recipe.seed,
            recipe.sampling,
            recipe.loader.max_damaged,
        )


@dataclass(frozen=True)
class Batch:
    """One step's tiles on one rank.

    Attributes:
        views: one tensor (B, 3, size, size) float32, normalised, per view; globals first.
        tiles: (B,) tile numbers in the dataset's order.
        wait: seconds that the caller was held up for it.
    """

    views: list[torch.Tensor]
    tiles: Ints
    wait: float


class Loader:
    """Iterates over steps for ever; the caller stops.

    Args:
        data: its tiles are all used, but for those held out.
        options: what batches are made of.
        start: first step to give.
        ranks: this process takes every world-th tile of a step, from its rank on, and decodes on its device.
        threads: DALI's CPU threads; None for those that ``ranks`` leaves to this process.
        target: what stain.mode normalize goes to; None for the one that it names.
        held_out: of a dataset, numbers of tiles (H,), rising, that do not come.

    Raises:
        DatasetError: the data has no tiles; on iteration, a tar is gone.
        TrainError: the data does not serve the stain mode, or a step has fewer tiles than there
            are processes; on iteration, too many tiles are damaged, or DALI stops for another reason.
    """

    def __init__(
        self,
        data: TrainingData,
        options: BatchOptions,
        start: int = 0,
        ranks: Ranks = ALONE,
        threads: int | None = None,
        target: Target | None = None,
        held_out: Ints = NO_TILES,
    ) -> None:
        self.options, self.start, self.ranks = options, start, ranks
        self.source = data.source(options.sampling, held_out)
        if not len(self.source):
            raise no_tiles(data)
        if options.batch < ranks.world:
            raise TrainError(f"batch={options.batch} is less than a tile for each of {ranks.world} processes")
        self._damage = Damage(self.source, options.seed, options.max_damaged)
        self._views = view_params.views(options.views)
        self._stain = stage(
            data.stained, options.stain, options.seed, self.source.fits, target, views=len(self._views)
        )
        self._threads = ranks.threads if threads is None else threads
        self._plans = Ahead(self._plan, PLANNED)
        self._jpegs = JpegReader(self.source, self._damage, self._places)
        self._online = online.started(self.source, options.seed, options.batch, ranks)
        self._failure: PathprepError | None = None
        self._told = 0
        self._end: int | None = None  # step before which readers.webdataset has read its stretch
        self._pipeline: view_graph.Views | None = None
        self._build(start)

    def __len__(self) -> int:
        """Tiles in the dataset."""
        return len(self.source)

    def __iter__(self) -> Iterator[Batch]:
        step = self.start
        while True:
            started = time.perf_counter()
            tensors = self._run(step)
            yield Batch(tensors, self.tiles(step), time.perf_counter() - started)
            step += 1

    def news(self) -> list[str]:
        """Damaged tiles, and slides, that were passed over since the last call, in words."""
        told, self._told = self._told, len(self.damaged)
        passed = [f"passed over {found}" for found in self.damaged[told:]]
        return passed if self._online is None else [*passed, *self._online.news()]

    def close(self) -> None:
        """Stop reading, and close files; iterating is over then. Tells of tiles that could not be fitted."""
        fitted, left = self.unfitted
        if left:
            log.warning("stain fitted on %d tiles, %d left as they are", fitted, left)
        self._jpegs.close()
        if self._online is not None:
            self._online.close()
        self._plans.close()
        self._pipeline = None
        self.source.close()

    @property
    def damaged(self) -> list[Damaged]:
        """Damaged tiles that this process has come upon and passed over, in the order of finding them."""
        return self._damage.found

    @property
    def unfitted(self) -> tuple[int, int]:
        """With stain.fit=load: tiles fitted so far, and those that could not be and stayed as they are."""
        return (0, 0) if self._stain is None else self._stain.counts()

    def tiles(self, step: int) -> Ints:
        """Tile numbers that this rank takes in a step; once it was given, with damaged ones replaced."""
        return self._places(step)[1]

    def stained(self, step: int, pixels: list[Pixels]) -> list[Pixels] | None:
        """A step's decoded tiles, in the order of ``tiles``, normalised; None if nothing is done to them."""
        if self._stain is None or not self._stain.on_tiles:
            return None
        given = self._stain.inputs(self.tiles(step), self._positions(step))[: self._stain.tile_width]
        return self._stain.apply(pixels, given, self._threads)[0]

    def name(self, tile: int) -> str:
        """A tile's slide and level-0 coordinates, for messages."""
        return self.source.name(tile)

    def read(self, tile: int) -> bytes:
        """A tile's JPEG, checked.

        Raises:
            DatasetError: the bytes are not those that were written.
        """
        try:
            return self.source.read(tile)
        except DamagedTile as reason:
            raise DatasetError(
                f"{self.source.home(tile)}: {self.name(tile)} is damaged: {reason}; "
                f"run {command('pathprep verify', self.source.home(tile))}"
            ) from None

    def _build(self, step: int) -> None:
        """Make the pipeline that begins with a step."""
        self._base, self._end, self._pipeline = step, None, None
        self._jpegs.forget()
        if self._online is not None:
            self._online.forget()
        reader = None
        # at a URL, threads fetch the tiles: DALI reads tars of a disk only
        if isinstance(self.source, MixedSource) and isinstance(self.source.root, Path):
            reader = self._reader(self.source, step)
        self._pipeline = view_graph.Views(
            self._views,
            self.options.mean,
            self.options.std,
            self._feed,
            len(self._positions(step)),
            self._threads,
            self.ranks.device_id,
            DEPTH,
            self._stain,
            reader,
            decoded=self._online is not None,
        )

    def _run(self, step: int) -> list[torch.Tensor]:
        """One step's views; the pipeline is made again at the end of a stretch, and without a tile that
        it cannot decode."""
        while True:
            assert self._pipeline is not None  # closed
            try:
                return self._pipeline.run()
            except StopIteration:
                self._build(step)
            except RuntimeError as error:  # DALI's; the pipeline is dead after it
                if self._failure is not None:
                    raise self._failure from None
                if self._online is not None:
                    raise TrainError(
                        f"{self.source.root}: step {step + 1}: {view_graph.said(error)}"
                    ) from None
                suspects = np.concatenate([self.tiles(step + ahead) for ahead in range(SUSPECT)])
                if not self._jpegs.blame(suspects, self.ranks.device_id):
                    said = view_graph.said(error)
                    raise TrainError(f"{self.source.said}: step {step + 1}: {said}") from None
                self._build(step)

    def _positions(self, step: int) -> Ints:
        return order.positions(step, self.options.batch, self.ranks.rank, self.ranks.world)

    def _feed(self, iteration: int) -> list[Any]:
        """One step's input to the graph; DALI calls it some batches ahead."""
        step = self._base + iteration
        if self._end is not None and step >= self._end:
            raise StopIteration
        plan = self._plans.at(step)
        if self._end is not None:
            return [plan.positions, plan.numbers]
        tiles = self._jpegs.step(step) if self._online is None else self._online.step(step)
        return [tiles, *self._stain_inputs(plan.positions), plan.numbers]

    def _plan(self, step: int) -> Plan:
        """Called by a thread ahead of the training."""
        options = self.options
        return plan(self._positions(step), self.source, options.views, self._views, options.seed)

    def _places(self, step: int) -> tuple[Ints, Ints]:
        """Positions of a step, and its tiles, as far as damage is known."""
        plan = self._plans.at(step)
        return plan.positions, self._damage.replaced(plan.positions, plan.tiles)

    def _stain_inputs(self, positions: Ints) -> list[npt.NDArray[Any]]:
        """Once the tiles have been read: only then it is known which of them are damaged."""
        return [] if self._stain is None else self._stain.inputs(self._damage.tiles(positions), positions)

    def _reader(self, source: MixedSource, step: int) -> view_graph.Reader:
        """What readers.webdataset reads from a step on, for as many steps as it has files for."""
        self._end = step + source.steps(self.options.batch)
        positions = np.concatenate([self._positions(each) for each in range(step, self._end)])
        tiles = self._jpegs.in_whole_tars(source, positions)
        # with what it was made for: a pipeline that is given up may still call it
        return view_graph.Reader(source.stretch(tiles), partial(self._checked, positions, tiles))

    def _checked(
        self, stretch: Ints, read: Ints, jpegs: list[Pixels], positions: list[Ints]
    ) -> tuple[list[Any], ...]:
        """What readers.webdataset has read, with damaged tiles replaced, and the stain stage's inputs.

        Args:
            stretch, read: (M,) positions of the stretch, rising, and the tiles that are read for them.
            jpegs: B arrays.
            positions: of the run, B arrays ().
        """
        where = np.array([int(position) for position in positions])
        try:
            intact = self._jpegs.check(where, read[np.searchsorted(stretch, where)], jpegs)
            return (intact, *(list(values) for values in self._stain_inputs(where)))
        except PathprepError as error:  # of which DALI would leave no more than the text
            self._failure = error
            raise

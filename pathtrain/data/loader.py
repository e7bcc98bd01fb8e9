"""Batches of views from a dataset or from mixed shards, in the computed order, from any step on.

    positions of a step -> tiles (pathtrain.data.source) -> JPEGs -> DALI: decode, stain, views

A dataset's tiles are read by offset, by threads some steps ahead (a random read of a local tar costs under a
fifth of a sequential one). Mixed shards are read by DALI's readers.webdataset. Either way each JPEG is
checked against its CRC32, a damaged one is replaced (damaged_tiles), and tiles of different native
sizes may meet in one batch. There is no state but the step: a loader that starts at step s gives what any
other gives there, from the same bytes.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.utils.dlpack

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, PathprepError
from pathprep.mixed.reader import MixedDataset
from pathprep.stain import Target
from pathtrain.data import order
from pathtrain.data import view_graph as views
from pathtrain.data import view_params as params
from pathtrain.data.damaged_tiles import Damage, Damaged
from pathtrain.data.mixed_source import MixedSource
from pathtrain.data.order import Ints
from pathtrain.data.source import NO_TILES, DamagedTile, DatasetSource, TileSource, wrong
from pathtrain.errors import TrainError
from pathtrain.recipes.recipe import Recipe
from pathtrain.stain import stage as stain

# One batch in work while one is trained on; not swept, more costs memory.
DEPTH = 2
# Threads that read a dataset's tiles, which wait for disks rather than work, and steps that they are ahead
# of DALI
READERS, AHEAD = 8, 2
# Steps whose tiles may have stopped DALI: it prepares DEPTH, and its reader is one ahead of that
SUSPECT = DEPTH + 2

Pixels = npt.NDArray[np.uint8]


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


def source_of(data: Dataset | MixedDataset, held_out: Ints = NO_TILES) -> TileSource:
    """Its tiles, as training takes them; of a dataset without those held out."""
    return MixedSource(data) if isinstance(data, MixedDataset) else DatasetSource(data, held_out)


class Loader:
    """Iterates over steps for ever; the caller stops.

    Args:
        data: its tiles are all used, but for those held out.
        recipe: views, normalisation, batch, seed and limit of damaged tiles.
        start_step: first step to give.
        rank, world: this process takes every world-th tile of a step, from ``rank`` on.
        device_id: GPU to decode on, or None for the CPU.
        threads: DALI's CPU threads.
        target: what the recipe's stain.mode normalize goes to; None for the one that it names.
        held_out: of a dataset, numbers of tiles (H,), rising, that do not come.

    Raises:
        DatasetError: the data has no tiles; on iteration, a tar is gone.
        TrainError: the data does not serve the recipe's stain mode, or a step has fewer tiles than there
            are processes; on iteration, too many tiles are damaged, or DALI stops for another reason.
    """

    def __init__(
        self,
        data: Dataset | MixedDataset,
        recipe: Recipe,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
        device_id: int | None = None,
        threads: int = 2,
        target: Target | None = None,
        held_out: Ints = NO_TILES,
    ) -> None:
        self.recipe, self.start = recipe, start_step
        self.rank, self.world = rank, world
        self.source = source_of(data, held_out)
        if not len(self.source):
            raise DatasetError(f"{data.root}: no tiles to train on; see `pathprep report {data.root}`")
        if recipe.batch < world:
            raise TrainError(f"batch={recipe.batch} is less than a tile for each of {world} processes")
        self._damage = Damage(self.source, recipe.seed, recipe.loader.max_damaged)
        self._stain = stain.stage(data, recipe.stain, recipe.seed, self.source.fits, target)
        self._views = params.views(recipe.views)
        self._columns = [views.columns(recipe, view) for view in self._views]
        self._device_id, self._threads = device_id, threads
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._reading: dict[int, list[Future[list[Pixels]]]] = {}
        self._failure: PathprepError | None = None
        self._told = 0
        self._end: int | None = None  # step before which readers.webdataset has read its stretch
        self._pipeline: Any = None
        self._build(start_step)

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
        """Damaged tiles that were passed over since the last call, in words."""
        told, self._told = self._told, len(self.damaged)
        return [f"passed over {found}" for found in self.damaged[told:]]

    def close(self) -> None:
        """Stop reading, and close files; iterating is over then. Tells of tiles that could not be fitted."""
        fitted, left = self.unfitted
        if left:
            print(f"stain fitted on {fitted} tiles, {left} left as they are", file=sys.stderr)
        self._pool.shutdown(cancel_futures=True)
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
        return self._damage.tiles(self._positions(step))

    def stained(self, step: int, pixels: list[Pixels]) -> list[Pixels] | None:
        """A step's decoded tiles, in the order of ``tiles``, after the stain stage; None if there is none."""
        if self._stain is None:
            return None
        given = self._stain.inputs(self.tiles(step), self._positions(step))
        return self._stain.apply(pixels, given, self._threads)

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
                f"{self.source.root}: {self.name(tile)} is damaged: {reason}; "
                f"run `pathprep verify {self.source.root}`"
            ) from None

    def _build(self, step: int) -> None:
        """Make the pipeline that begins with a step."""
        self._base, self._end, self._pipeline = step, None, None
        self._reading.clear()  # what it read may be what DALI cannot decode
        reader = None
        # at a URL, threads fetch the tiles: DALI reads tars of a disk only
        if isinstance(self.source, MixedSource) and isinstance(self.source.root, Path):
            reader = self._reader(self.source, step)
        count = len(self._positions(step))
        self._pipeline = views.pipeline(
            self.recipe,
            self._views,
            self._feed,
            count,
            self._threads,
            self._device_id,
            DEPTH,
            self._stain,
            reader,
        )

    def _run(self, step: int) -> list[torch.Tensor]:
        """One step's views; the pipeline is made again at the end of a stretch, and without a tile that
        it cannot decode."""
        while True:
            try:
                outputs = self._pipeline.run()
            except StopIteration:
                self._build(step)
            except RuntimeError as error:  # DALI's; the pipeline is dead after it
                if self._failure is not None:
                    raise self._failure from None
                if not self._blame(step):
                    raise TrainError(f"{self.source.root}: step {step + 1}: {views.said(error)}") from None
                self._build(step)
            else:
                return [torch.utils.dlpack.from_dlpack(output.as_tensor()) for output in outputs]

    def _blame(self, step: int) -> bool:
        """Note the tiles of the next steps that cannot be read or decoded; whether there are any."""
        known, jpegs = len(self.damaged), {}
        for tile in np.unique(
            np.concatenate([self.tiles(step + ahead) for ahead in range(SUSPECT)])
        ).tolist():
            try:
                jpegs[tile] = np.frombuffer(self.source.read(tile), np.uint8)
            except DamagedTile as reason:
                self._damage.add(tile, str(reason))
        failed = views.undecodable(list(jpegs.values()), self._device_id)
        for at, said in failed.items():
            tile = list(jpegs)[at]
            try:  # which says more clearly what is wrong
                simplejpeg.decode_jpeg(jpegs[tile])
            except ValueError as reason:
                said = str(reason)
            self._damage.add(tile, f"cannot be decoded ({said})")
        return len(self.damaged) > known

    def _positions(self, step: int) -> Ints:
        return order.positions(step, self.recipe.batch, self.rank, self.world)

    def _feed(self, iteration: int) -> list[Any]:
        """One step's input to the graph; DALI calls it some batches ahead."""
        step = self._base + iteration
        positions = self._positions(step)
        if self._end is None:
            fed: list[Any] = [self._jpegs(step), *self._stain_inputs(positions)]
        elif step < self._end:
            fed = [positions]
        else:
            raise StopIteration
        for number, (view, names) in enumerate(zip(self._views, self._columns, strict=True)):
            drawn = params.draw(self.recipe.views, view, number, positions, self.recipe.seed)
            fed += views.inputs(drawn, names)
        return fed

    def _stain_inputs(self, positions: Ints) -> list[npt.NDArray[Any]]:
        """Once the tiles have been read: only then it is known which of them are damaged."""
        return [] if self._stain is None else self._stain.inputs(self._damage.tiles(positions), positions)

    def _jpegs(self, step: int) -> list[Pixels]:
        """A step's JPEGs, which threads have been reading; those of the next steps are begun."""
        for ahead in range(step, step + 1 + AHEAD):
            if ahead not in self._reading:
                positions = self._positions(ahead)
                work = zip(
                    *(np.array_split(each, READERS) for each in (positions, self._damage.tiles(positions))),
                    strict=True,
                )
                self._reading[ahead] = [self._pool.submit(self._read, *part) for part in work]
        return [jpeg for part in self._reading.pop(step) for jpeg in part.result()]

    def _read(self, positions: Ints, tiles: Ints) -> list[Pixels]:
        pairs = zip(positions.tolist(), tiles.tolist(), strict=True)
        return [self._intact(position, tile) for position, tile in pairs]

    def _intact(self, position: int, tile: int) -> Pixels:
        """The JPEG of a tile, or if it is damaged of the one that comes at its position instead."""
        while True:
            try:
                return np.frombuffer(self.source.read(tile), np.uint8)
            except DamagedTile as reason:
                self._damage.add(tile, str(reason))
                tile = int(self._damage.tiles(np.array([position]))[0])

    def _reader(self, source: MixedSource, step: int) -> views.Reader:
        """What readers.webdataset reads from a step on, for as many steps as it has files for."""
        self._end = step + source.steps(self.recipe.batch)
        positions = np.concatenate([self._positions(each) for each in range(step, self._end)])
        while True:
            tiles = self._damage.tiles(positions)
            cut = tiles[~source.whole(tiles)]
            if not len(cut):
                break
            for tile in np.unique(cut).tolist():
                self._damage.add(tile, "its tar ends too early")
        # with what it was made for: a pipeline that is given up may still call it
        return views.Reader(source.stretch(tiles), partial(self._checked, positions, tiles))

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
        tiles = read[np.searchsorted(stretch, where)]
        try:
            parts = np.array_split(np.arange(len(where)), READERS)
            work = [
                self._pool.submit(self._check, where[part], tiles[part], [jpegs[at] for at in part])
                for part in parts
            ]
            intact = [jpeg for part in work for jpeg in part.result()]
            return (intact, *(list(values) for values in self._stain_inputs(where)))
        except PathprepError as error:  # of which DALI would leave no more than the text
            self._failure = error
            raise

    def _check(self, positions: Ints, tiles: Ints, jpegs: list[Pixels]) -> list[Pixels]:
        found = []
        for at, tile in enumerate(tiles.tolist()):
            if reason := wrong(jpegs[at], self.source.place(tile)):
                self._damage.add(tile, reason)
                position = positions[at : at + 1]
                found.append(self._intact(int(position[0]), int(self._damage.tiles(position)[0])))
            else:
                found.append(jpegs[at])
        return found

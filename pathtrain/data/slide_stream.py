"""Whole slides and regions as uint8 pixels: read from the dataset by index, decoded by DALI, in any order.

A slide is all of its tiles, a region the tiles in k x k cells of the slide's grid, for any k; nothing is
stored twice. Which one comes when is computed (pathtrain.data.order): a run resumes by its step alone.
What a recipe does to stain is done here too, to the whole tile and before it is resized; all tiles of a slide
or region share the random part of it, as they share the slide's staining.

Each JPEG is checked against its CRC32. Where training allows for damage, a damaged tile is left white, as a
cell without a tile is, for what it could be replaced with lies elsewhere; else it is an error.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.utils.dlpack
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, PathprepError, UsageError
from pathprep.words import command
from pathtrain.data import view_graph
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.layout import Layout
from pathtrain.data.order import Ints, hashed
from pathtrain.data.source import DamagedTile, DatasetSource
from pathtrain.distributed.side_stream import SideStream
from pathtrain.errors import TrainError
from pathtrain.stain.stage import Stage, on_batches

BATCH = 64  # tiles decoded at a time
DEPTH = 2  # such batches ahead
WHITE = 255
_COLUMNS = ["x", "y", "column", "row", "stored"]
_STREAM = 0x736C696465  # keeps the hashes of stain jitter apart from those of tiles


class SlideIndex:
    """Slides and regions of a dataset, by their grids.

    Args:
        dataset: of slides, not of imported tiles.

    Raises:
        DatasetError: it has no tiles.
        UsageError: its tiles have no places.
    """

    def __init__(self, dataset: Dataset) -> None:
        if dataset.kind != "slides":
            raise UsageError(
                f"{dataset.root}: holds imported tiles, which have no place on a slide; regions and slides "
                "need a dataset from `pathprep shard`"
            )
        self.dataset, self.tiles = dataset, dataset.tiles(_COLUMNS)
        self.source = DatasetSource(dataset)
        if not len(self.tiles):
            raise DatasetError(
                f"{dataset.root}: no tiles to train on; see {command('pathprep report', dataset.root)}"
            )

    def slide(self, name: str, side: int) -> Layout:
        """All tiles of a slide, in regions of side x side.

        Raises:
            KeyError: no slide of this name has a tile.
        """
        found = np.array(self.tiles.tiles_of(name), np.int64)
        column, row = (self.tiles.columns[key][found] for key in ("column", "row"))
        return Layout.of(found, column, row, side)

    def regions(self, side: int, least: float) -> Ints:
        """(R, 3) slide number, column and row (in regions) of every region.

        Args:
            side: cells along a region's side.
            least: share of its cells that must hold a tile.
        """
        found = []
        for slide, (start, end) in enumerate(zip(self.tiles.starts, self.tiles.starts[1:], strict=False)):
            part = slice(int(start), int(end))
            place = [self.tiles.columns[key][part].astype(np.int64) // side for key in ("column", "row")]
            cells, counts = np.unique(np.stack(place, axis=1), axis=0, return_counts=True)
            cells = cells[counts >= least * side * side]
            found.append(np.column_stack([np.full(len(cells), slide), cells]))
        return np.concatenate(found).astype(np.int64)

    def region(self, which: Ints, side: int) -> Layout:
        """The tiles of one of ``regions``."""
        slide, column, row = which.tolist()
        start, end = self.tiles.starts[slide : slide + 2].tolist()
        part = slice(start, end)
        columns, rows = (self.tiles.columns[key][part] for key in ("column", "row"))
        inside = np.flatnonzero((columns // side == column) & (rows // side == row))
        return Layout.of(start + inside, columns[inside], rows[inside], side)

    def name(self, tile: int) -> str:
        """A tile's slide and level-0 coordinates, for messages."""
        return self.source.name(tile)

    def damaged(self, tile: int, reason: str) -> DatasetError:
        """That a tile is damaged, to be raised."""
        root = self.dataset.root
        return DatasetError(
            f"{root}: {self.name(tile)} is damaged: {reason}; run {command('pathprep verify', root)}"
        )


@dataclass(frozen=True)
class Request:
    """Tiles (N,) of one or several layouts, and for stain jitter a number per tile (N,), alike within a slide
    or region."""

    tiles: Ints
    jitter: Ints

    @classmethod
    def of(cls, layouts: list[Layout], *keys: Ints) -> "Request":
        """Of layouts, whose numbers are hashes of ``keys`` (one for each layout)."""
        numbers = (hashed(_STREAM, *keys) >> np.uint64(1)).astype(np.int64)
        sizes = [len(layout.tiles) for layout in layouts]
        return cls(np.concatenate([layout.tiles for layout in layouts]), np.repeat(numbers, sizes))


_Piece = tuple[Ints, Ints]  # tiles and jitter of a batch
Pixels = npt.NDArray[np.uint8]


class TileStream:
    """Pixels of one request after another, the next in preparation while one is used.

    Args:
        index: of the dataset.
        requests: makes the sequence; called twice, since reading is ahead of giving.
        size: side that tiles are resized to, pixels.
        stage: what is done to the stain, or None.
        device_id: GPU to decode on, or None for the CPU.
        on_device: whether the pixels stay on that GPU; else they are in the CPU's memory, pinned if there is
            a GPU.
        threads: DALI's CPU threads.
        damage: where damaged tiles are noted, which are white then; None: they are an error.

    Raises:
        DatasetError: on iteration, a tile is damaged, or a tar is gone.
        TrainError: on iteration, too many tiles are damaged, or DALI stops for another reason.
    """

    def __init__(
        self,
        index: SlideIndex,
        requests: Callable[[], Iterator[Request]],
        size: int,
        stage: Stage | None,
        device_id: int | None = None,
        on_device: bool = False,
        threads: int = 2,
        damage: Damage | None = None,
    ) -> None:
        self._index, self._requests, self._size, self._stage = index, requests, size, stage
        card = torch.device("cpu") if device_id is None else torch.device("cuda", device_id)
        self._side, self._pinned = SideStream(card), device_id is not None and not on_device
        self._where = card if on_device else torch.device("cpu")
        self._damage = damage
        self._failure: PathprepError | None = None
        self._bad: set[int] = set()
        self._feeding = self._batches()
        same = bool(np.all(index.tiles.columns["stored"] == size))
        self._pipeline = _pipeline(self._feed, stage, None if same else size, threads, device_id)

    def __iter__(self) -> Iterator[Tensor]:
        """(N + 1, size, size, 3) uint8 per request; the last tile is white, for the background."""
        requests = self._requests()
        with ThreadPoolExecutor(1, "tiles") as ahead:
            following = ahead.submit(self._take, next(requests, None))
            while (pixels := following.result()) is not None:
                given = self._side.give(pixels)  # before more is queued there, which is not to be waited for
                following = ahead.submit(self._take, next(requests, None))
                yield given

    def _take(self, request: Request | None) -> Tensor | None:
        """A request's pixels, there when this returns; the queue that trains has not been waited for."""
        if request is None:
            return None
        count, shape = len(request.tiles), (self._size, self._size, 3)
        with self._side.queue():
            pixels = torch.empty(
                (count + 1, *shape), dtype=torch.uint8, device=self._where, pin_memory=self._pinned
            )
            pixels[count] = WHITE
            for start in range(0, count, BATCH):
                output = self._run(request, start)
                batch = torch.utils.dlpack.from_dlpack(output.as_tensor())
                pixels[start : start + len(batch)].copy_(batch, non_blocking=True)
                self._side.wait()  # DALI may write there again as soon as the output is dropped
            bad = np.flatnonzero(np.isin(request.tiles, list(self._bad)))
            if len(bad):
                pixels[torch.from_numpy(bad).to(pixels.device)] = WHITE
            self._side.wait()
        return pixels

    def _run(self, request: Request, start: int) -> Any:
        """DALI's next output, in the side stream."""
        try:
            (output,) = self._pipeline.run(self._side.stream)
        except RuntimeError as error:  # DALI's; the pipeline is dead after it
            if self._failure is not None:
                raise self._failure from None
            first = self._index.name(int(request.tiles[start]))
            place = f"{self._index.dataset.root}: at {first} or one of the next tiles"
            raise TrainError(f"{place}: {view_graph.said(error)}") from None
        return output

    def _note(self, tile: int, reason: str) -> None:
        if self._damage is None:
            raise self._index.damaged(tile, reason)
        self._damage.add(tile, reason)
        self._bad.add(tile)

    def _batches(self) -> Iterator[_Piece]:
        for request in self._requests():
            for start in range(0, len(request.tiles), BATCH):
                yield request.tiles[start : start + BATCH], request.jitter[start : start + BATCH]

    def _feed(self, iteration: int) -> list[Any]:
        """A batch's input to the graph. After the last request come batches that nobody takes."""
        piece = next(self._feeding, None)
        if piece is None:
            raise StopIteration
        tiles, jitter = piece
        try:
            fed: list[Any] = [[self._read(tile) for tile in tiles.tolist()]]
            if self._stage is not None:
                fed += self._stage.inputs(tiles, jitter)
        except PathprepError as error:  # of which DALI would leave no more than the text
            self._failure = error
            raise
        return fed

    def _read(self, tile: int) -> Pixels:
        """A tile's JPEG; a white one if it is damaged."""
        try:
            return np.frombuffer(self._index.source.read(tile), np.uint8)
        except DamagedTile as reason:
            self._note(tile, str(reason))
        side = int(self._index.tiles.columns["stored"][tile])
        white = np.full((side, side, 3), WHITE, np.uint8)
        return np.frombuffer(simplejpeg.encode_jpeg(white), np.uint8)


def _pipeline(
    source: Callable[[int], list[Any]],
    stage: Stage | None,
    size: int | None,
    threads: int,
    device_id: int | None,
) -> Any:
    """The built graph: JPEGs and what the stage needs -> (B, H, W, 3) uint8; ``size`` None: as stored."""
    width = 0 if stage is None else stage.width
    change = on_batches(stage, threads) if stage else None

    @pipeline_def  # type: ignore[untyped-decorator]
    def graph() -> Any:
        jpeg, *fed = fn.external_source(source=source, num_outputs=1 + width, batch=True)
        tile = view_graph.decoded(jpeg, device_id)
        if change is not None:
            (tile,) = view_graph.stained(tile, fed, change, device_id)
        if size is not None:
            tile = fn.resize(tile, size=(size, size), interp_type=types.INTERP_CUBIC, antialias=True)
        return tile

    built = graph(batch_size=BATCH, num_threads=threads, device_id=device_id, prefetch_queue_depth=DEPTH)
    built.build()
    return built

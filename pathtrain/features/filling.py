"""Batches that are filled from tiles of several slides: a slide's end does not make a small batch.

Threads copy tiles out of shared memory into pinned memory, and resize them on the way if they have another
size: by the same functions as tiles of a dataset (pathtrain.data.tile_batches), so that features are the
same.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathprep.streaming.stream import Tiles
from pathtrain.images import Pixels, resize, resize_and_crop

AHEAD = 2  # batches in preparation while the network works on one
EACH = 8  # tiles that a thread takes at a time


@dataclass
class Batch:
    """Images and whose they are.

    Attributes:
        images: (B, size, size, 3) uint8; of the last batch, fewer are filled.
        parts: whose rows follow each other in it: what was given with the tiles, and how many.
    """

    images: Tensor
    parts: list[tuple[Any, int]] = field(default_factory=list)
    filled: int = 0
    jobs: list[Future[None]] = field(default_factory=list)


class Filling:
    """Fills batches.

    Args:
        size: side of the images. batch: images in one. threads: that copy and resize.
        short: see tile_batches.batches. pinned: in memory that a card copies from beside its other work.
        idle: whether the model has nothing to do.

    Attributes:
        waited: seconds in which the model had nothing to do while its next batch was copied and resized.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        threads: int,
        short: int | None,
        pinned: bool,
        idle: Callable[[], bool] = lambda: True,
    ) -> None:
        self._idle, self.waited = idle, 0.0
        self._size, self._batch, self._short, self._pinned = size, batch, short, pinned
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fill")
        self._open: Batch | None = None
        self._full: deque[Batch] = deque()

    def add(self, owner: Any, tiles: Tiles) -> Iterator[Batch]:
        """Take a slide's tiles, and give their memory back when they are copied; yields batches that are full
        and whose turn it is.
        """
        left = _Countdown(len(tiles.pixels), tiles.release)
        done = 0
        while done < len(tiles.pixels):
            if self._open is None:
                shape = (self._batch, self._size, self._size, 3)
                self._open = Batch(torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned))
            batch = self._open
            count = min(len(tiles.pixels) - done, self._batch - batch.filled)
            places = batch.images.numpy()
            for start in range(0, count, EACH):
                stop = min(start + EACH, count)
                pixels = tiles.pixels[done + start : done + stop]
                into = places[batch.filled + start : batch.filled + stop]
                batch.jobs.append(self._pool.submit(self._fill, pixels, into, left))
            batch.parts.append((owner, count))
            batch.filled, done = batch.filled + count, done + count
            if batch.filled == self._batch:
                self._full.append(batch)
                self._open = None
            while len(self._full) > AHEAD:
                yield self._next()

    def ready(self) -> Batch | None:
        """A full batch, if there is one: to be asked for when no tiles are waiting."""
        return self._next() if self._full else None

    def rest(self) -> Iterator[Batch]:
        """All that is left, the last batch as it is."""
        while self._full:
            yield self._next()
        if self._open is not None:
            self._full.append(self._open)
            self._open = None
            yield self._next()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Batch:
        batch, idle, start = self._full.popleft(), self._idle(), time.perf_counter()
        for job in batch.jobs:
            job.result()
        if idle:
            self.waited += time.perf_counter() - start
        return batch

    def _fill(self, pixels: Pixels, into: Pixels, left: "_Countdown") -> None:
        try:
            if self._short is None and pixels.shape[1:] == into.shape[1:]:
                np.copyto(into, pixels)
                return
            for tile, place in zip(pixels, into, strict=True):
                # shared memory is read only, which torch warns of
                whole = np.array(tile)
                size, short = self._size, self._short
                np.copyto(
                    place, resize(whole, size) if short is None else resize_and_crop(whole, short, size)
                )
        finally:
            left.less(len(pixels))


class _Countdown:
    """Calls a function when all of a number of things are done; from any thread."""

    def __init__(self, number: int, then: Callable[[], None]) -> None:
        self._left, self._then, self._lock = number, then, threading.Lock()

    def less(self, number: int) -> None:
        with self._lock:
            self._left -= number
            last = self._left == 0
        if last:
            self._then()

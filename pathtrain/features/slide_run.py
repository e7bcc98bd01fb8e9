"""The work on slides: tiles from a stream into batches, batches through a model, features into files.

One thread gives the model its batches, and takes what it has found; others copy and resize tiles
(pathtrain.features.filling), write files, and fetch slides of stores.
"""

import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import SlideMarker
from pathprep.slides.find import SlideSource
from pathprep.streaming.sender import Columns
from pathprep.streaming.staged import StagedSlides
from pathprep.streaming.stream import OVER, Begun, Ended, Reply, Tiles, TileStream
from pathprep.words import counted
from pathtrain.distributed.workers import cores, pick_device
from pathtrain.features.encode import Passes, check_size
from pathtrain.features.filling import Batch, Filling
from pathtrain.features.progress import TileProgress
from pathtrain.features.slide_files import SlideFiles, Target
from pathtrain.features.slides_account import SlidesSummary
from pathtrain.features.spool import Spool
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel

POLL_S = 0.001  # while a card works, to see when it has nothing left
WRITING = 2  # slides that may wait for their file to be written


@dataclass
class _Slide:
    """A slide whose tiles are coming."""

    number: int
    spool: Spool
    columns: list[Columns] = field(default_factory=list)
    marker: SlideMarker | None = None


class SlideRun:
    """Slides to files: this process's."""

    def __init__(
        self,
        model: LoadedModel,
        how: How,
        files: SlideFiles,
        todo: list[Target],
        summary: SlidesSummary,
        threads: int,
    ) -> None:
        self._model, self._how, self._files, self._todo = model, how, files, todo
        self._summary, self._threads = summary, threads
        self._open: dict[int, _Slide] = {}
        self._writing: list[Future[None]] = []
        self._progress = TileProgress(0, "embed")

    def drive(self, workers: int, timeout: float, scratch: Path | None, limit: int) -> None:
        """Do all slides; the summary has what became of them."""
        start = time.perf_counter()
        with ExitStack() as stack:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
            stack.callback(self._writer.shutdown, cancel_futures=True)
            self._stage(stack, scratch, limit)
            # readers start while the model goes to its device
            stream = stack.enter_context(
                TileStream(
                    [target.source for target in self._todo],
                    self._files.params,
                    self._files.out,
                    ask=self._ask,
                    done=self._read,
                    workers=workers,
                    yields=pick_device(self._how.device).type == "cpu",
                    timeout=timeout,
                    cores=cores(),
                )
            )
            self._passes = stack.enter_context(Passes([self._model], self._how))
            size = check_size(self._model, self._how.size)
            self._shape = self._model.shape(size)
            filling = Filling(
                size,
                self._how.batch,
                self._threads,
                self._how.short,
                pinned=self._passes.on_card,
                idle=lambda: not self._passes.busy,
            )
            stack.callback(filling.close)
            while (event := self._next(stream, filling)) is not None:
                if isinstance(event, Begun):
                    self._forget(event.slide)
                    self._open[event.slide] = _Slide(event.slide, Spool(self._files.out))
                elif isinstance(event, Tiles):
                    self._progress.expect(stream.board.totals()[0])
                    slide = self._open.get(event.slide)
                    if slide is None:  # what was left of one that failed
                        event.release()
                        continue
                    slide.columns.append(event.columns)
                    for batch in filling.add(slide, event):
                        self._encode(batch)
                else:
                    self._ended(event)
            for batch in filling.rest():
                self._encode(batch)
            self._passes.finish()
            for writing in self._writing:
                writing.result()
            if stream.account.stopped != OVER:
                self._summary.stopped = stream.account.stopped
        self._summary.waited_seconds += filling.waited
        self._summary.busy_seconds = time.perf_counter() - start

    def _stage(self, stack: ExitStack, scratch: Path | None, limit: int) -> None:
        """Begin to fetch slides of stores."""
        numbers = [number for number, target in enumerate(self._todo) if target.remote is not None]
        self._parcels = {number: place for place, number in enumerate(numbers)}
        self._staged = None
        if numbers:

            def named(place: int, source: SlideSource) -> SlideSource:
                mine = self._todo[numbers[place]].source
                return replace(source, name=mine.name, slide=mine.slide, default_mpp=mine.default_mpp)

            slides = [remote for target in self._todo if (remote := target.remote) is not None]
            self._staged = stack.enter_context(StagedSlides(slides, named, scratch, limit))

    def _ask(self, number: int, reply: Reply) -> None:
        """A slide's turn has come; another run may have done it meanwhile."""
        target = self._todo[number]
        wanted = not self._files.is_done(target)
        if self._staged is None or target.remote is None:
            reply(target.source if wanted else None)
        elif wanted:
            self._staged.ask(self._parcels[number], reply)
        else:
            self._staged.skip(self._parcels[number])
            reply(None)

    def _read(self, number: int) -> None:
        if self._staged is not None and number in self._parcels:
            self._staged.done(self._parcels[number])

    def _next(self, stream: TileStream, filling: Filling) -> Begun | Tiles | Ended | None:
        """The next event. The model waits if there is none, and all that it was given is done."""
        try:
            return stream.get(0)
        except queue.Empty:
            pass
        while (batch := filling.ready()) is not None:
            self._encode(batch)
        since: float | None = None  # when the model has had nothing to do
        while True:
            busy = self._passes.busy
            if not busy and since is None:
                self._passes.finish()
                since = time.perf_counter()
            try:
                return stream.get(POLL_S if busy else None)
            except queue.Empty:
                continue
            finally:
                if since is not None:
                    self._summary.waited_seconds += time.perf_counter() - since

    def _encode(self, batch: Batch) -> None:
        found = np.empty((batch.filled, *self._shape), np.float32)
        self._passes.add(batch.images[: batch.filled], [found], partial(self._arrived, batch, found))

    def _arrived(self, batch: Batch, found: npt.NDArray[np.float32]) -> None:
        """Features of a batch, to their slides."""
        start = 0
        for slide, count in batch.parts:
            current = self._open.get(slide.number)
            if current is not None and slide is current:  # else void: its process died
                slide.spool.append(found[start : start + count])
                self._progress.advance(count)
                self._finish(slide)
            else:
                self._progress.advance(count)
            start += count

    def _ended(self, event: Ended) -> None:
        target = self._todo[event.slide]
        if event.failure is not None:
            self._forget(event.slide)
            if self._files.is_done(target):  # by another run meanwhile
                self._summary.kept += 1
                return
            failure = event.failure
            if self._staged is not None and target.remote is not None:
                error = self._staged.local(failure.error, self._parcels[event.slide])
                failure = replace(failure, error=error)
            entry = self._files.write_failed(target, failure)
            self._summary.failures[target.name] = entry
            self._progress.note(f"{target.name}: failed ({entry.error})")
        elif event.marker is None:
            self._summary.kept += 1
        elif event.marker.tiles == 0:
            self._forget(event.slide)
            self._files.write_empty(target, event.marker)
            self._summary.add(target.name, event.marker)
        else:
            slide = self._open[event.slide]
            slide.marker = event.marker
            self._finish(slide)

    def _forget(self, number: int) -> None:
        if (old := self._open.pop(number, None)) is not None:
            old.spool.close()

    def _finish(self, slide: _Slide) -> None:
        """Have a slide's file written if all of its features are there."""
        marker = slide.marker
        if marker is None or slide.spool.rows < marker.tiles:
            return
        del self._open[slide.number]
        target = self._todo[slide.number]
        part, features = self._files.part(target, marker, slide.columns), slide.spool.all()
        self._summary.add(target.name, marker, features.shape[1:])
        while len(self._writing) >= WRITING:
            self._writing.pop(0).result()
        self._writing.append(self._writer.submit(self._write, part, features, slide.spool))
        self._progress.line(f"{target.name}: {counted(marker.tiles, 'tile')}")

    def _write(self, part: Any, features: Any, spool: Spool) -> None:
        try:
            self._files.write(part, features)
        finally:
            spool.close()

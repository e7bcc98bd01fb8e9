"""Tiles of the steps of a run, read by other processes some steps ahead; bad slides are dropped."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from nvidia.dali.tensors import TensorCPU, TensorListCPU

from pathprep.words import command, counted
from pathtrain.data import order
from pathtrain.data.online.dropped import FOLDER, Dropped, Record
from pathtrain.data.online.pool import Answer, Failed, ReaderPool
from pathtrain.data.online.source import OnlineSource
from pathtrain.data.online.worker import Job
from pathtrain.data.order import Ints
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import TrainError

AHEAD = 2  # steps that are read beyond the one that is asked for
REDRAWS = 1000  # draws of slides for a position before every slide counts as dropped
NAMED = 3  # in a message


class _Step:
    """A step's tiles: what is being read, and what has come."""

    def __init__(self, positions: Ints, tile: int) -> None:
        self.positions = positions
        self.pixels = np.empty((len(positions), tile, tile, 3), np.uint8)
        self.numbers = np.zeros(len(positions), np.int64)
        self.jobs: list[tuple[Job, Future[Answer]] | None] = [None] * len(positions)


class OnlineReader:
    """What jpeg_reader.JpegReader is for tiles on disk.

    Args:
        source: of the tiles.
        seed, batch: of the run.
        ranks: this process's positions are those that it takes.
    """

    def __init__(self, source: OnlineSource, seed: int, batch: int, ranks: Ranks) -> None:
        self._source, self._seed, self._batch, self._ranks = source, seed, batch, ranks
        online = source.online
        self._record = Record(source.record, batch, ranks.rank, ranks.world)
        self._told = set[str]()
        self._before = {entry.slide for entry in self._record.entries}
        survey = source.survey
        self._pool = ReaderPool(
            survey.root,
            {name: survey.contents[name] for name in source.choice.slides},
            source.rules(seed),
            online.readers or ranks.threads,
            online.timeout,
        )
        self._steps: dict[int, _Step] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self._reading: dict[int, Future[TensorListCPU]] = {}
        self._ended: BaseException | None = None

    def step(self, step: int) -> TensorListCPU:
        """A step's tiles (tile, tile, 3), as DALI takes them; the next steps' are begun.

        Raises:
            TrainError: more slides are bad than are allowed.
        """
        for ahead in range(step, step + 1 + AHEAD):
            if ahead not in self._reading:
                self._reading[ahead] = self._thread.submit(self._collect, ahead)
        return self._reading.pop(step).result()

    def forget(self) -> None:
        """What was read ahead."""
        for future in self._reading.values():
            future.cancel()
        self._reading.clear()

    def news(self) -> list[str]:
        """Slides that were dropped since the last call, in words."""
        lines = []
        if self._before - self._told:
            which = _some(sorted(self._before))
            lines = [f"{counted(len(self._before))} dropped before, which do not come ({FOLDER}/): {which}"]
            self._told |= self._before
        new = {entry.slide: entry for entry in self._record.entries if entry.slide not in self._told}
        self._told |= new.keys()
        return lines + [f"dropped slide {slide}: {entry.reason}" for slide, entry in new.items()]

    @property
    def dropped(self) -> list[Dropped]:
        """What the run has dropped so far."""
        return self._record.entries

    def close(self) -> None:
        """Stop reading."""
        self.forget()
        self._pool.close()
        self._thread.shutdown(cancel_futures=True)

    def _collect(self, step: int) -> TensorListCPU:
        """A step's tiles; one thread goes from step to step, and no further than the first that has none."""
        if self._ended is not None:
            raise self._ended
        if self._ranks.world > 1:
            self._record.refresh()
        for ahead in range(step, step + 1 + AHEAD):  # so that readers have work while this step is waited for
            if ahead not in self._steps:
                self._begin(ahead)
        current = self._steps.pop(step)
        # a later position may tell of a slide that an earlier one was read from: until nothing changes
        try:
            while not self._settled(current):
                pass
        except BaseException as error:  # the run ends: no step has been trained without them
            self._ended = error
            self._record.take_back(int(current.positions[0]))
            raise
        for old in [each for each in self._steps if each < step]:
            del self._steps[old]
        return TensorListCPU([TensorCPU(tile) for tile in current.pixels], layout="HWC")

    def _begin(self, step: int) -> None:
        ranks = self._ranks
        positions = order.positions(step, self._batch, ranks.rank, ranks.world)
        self._steps[step] = made = _Step(positions, self._source.online.tile)
        self._draw(made, np.arange(len(positions)))

    def _draw(self, step: _Step, rows: Ints) -> None:
        """Have tiles read for some rows of a step, from the first slides that are not out there."""
        choice = self._source.choice
        left = rows
        for _ in range(REDRAWS):
            slides, mpps = choice.draw(step.positions[left], step.numbers[left], self._seed)
            out = []
            for row, slide, mpp in zip(left.tolist(), slides.tolist(), mpps.tolist(), strict=True):
                name, position = choice.slides[slide], int(step.positions[row])
                if self._record.out(name, position):
                    step.numbers[row] += 1
                    out.append(row)
                    continue
                job = Job(position, int(step.numbers[row]), name, choice.mpps[mpp])
                step.jobs[row] = (job, self._pool.submit(job, step.pixels[row]))
            if not out:
                return
            left = np.array(out)
        raise self._too_many("every slide was dropped")

    def _settled(self, step: _Step) -> bool:
        """Wait for a step's tiles; whether none of them is of a slide that is out there."""
        again = []
        for entry in step.jobs:
            assert entry is not None
            job, future = entry
            answer = future.result()
            if isinstance(answer, Failed):
                self._record.add(job.slide, answer.reason, job.position)
                if len(self._record.slides) > self._source.online.max_bad_slides:
                    bad = counted(len(self._record.slides))
                    raise self._too_many(
                        f"{bad} dropped, more than online.max_bad_slides={self._source.online.max_bad_slides}"
                    )
            else:
                self._source.note(job.position, answer)
        for row, entry in enumerate(step.jobs):
            if entry is not None and self._record.out(entry[0].slide, entry[0].position):
                step.numbers[row] += 1
                again.append(row)
        if again:
            self._draw(step, np.array(again))
        return not again

    def _too_many(self, what: str) -> TrainError:
        found = list(self._record.slides.items())
        shown = "; ".join(f"{slide}: {reason}" for slide, reason in found[:NAMED])
        more = "; ..." if len(found) > NAMED else ""
        root = self._source.survey.root
        return TrainError(
            f"{root}: {what}: {shown}{more}. {command('pathprep verify', root)} tells which slides are not "
            "as they were; a folder that was moved is surveyed at its new place, into this survey. Then the "
            "same command goes on"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def started(source: Any, seed: int, batch: int, ranks: Ranks) -> OnlineReader | None:
    """The reader of a source whose tiles are drawn from slides; None of others."""
    return OnlineReader(source, seed, batch, ranks) if isinstance(source, OnlineSource) else None

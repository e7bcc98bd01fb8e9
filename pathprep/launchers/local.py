"""Slides on this machine: a child process for each, so that a reader that crashes costs one slide.

Workers are forked from a server process that has every module loaded and every kernel compiled (see
warm.py), so a fresh process per slide costs tens of milliseconds and no state leaks between slides. With
GPUs they take many slides each: loading CUDA and its kernels costs about a second.
"""

import errno
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait
from ctypes import c_int64
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple

from pebble import ProcessExpired, ProcessPool

from pathprep import pipeline, shards
from pathprep.errors import DeviceLost, PathprepError
from pathprep.launchers import cards, server
from pathprep.pipeline import STAGES, Progress, Task

# How often a slide is tried whose process died or ran out of time; errors of the slide itself repeat
ATTEMPTS = 2
# Every further slide would fail in the same way
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_COLUMNS = 3 + len(shards.STATUSES)  # stage, tiles planned, tiles done, then tiles per stain status


class Board:
    """Counters in shared memory, a row per task: written by workers, read by the run, without locks.

    A worker may be killed at any moment, so nothing that it could hold is needed to read the board.
    """

    def __init__(self, tasks: int) -> None:
        self.cells = RawArray(c_int64, tasks * _COLUMNS)

    def writer(self, task: int) -> Progress:
        """What task number ``task`` reports through."""
        base = task * _COLUMNS
        cells = self.cells
        cells[base : base + _COLUMNS] = [0] * _COLUMNS

        def put(column: int, value: int) -> None:
            cells[base + column] = value

        def done(statuses: Counter[str]) -> None:
            for number, status in enumerate(shards.STATUSES):
                cells[base + 3 + number] += statuses[status]
            cells[base + 2] += statuses.total()

        return Progress(lambda stage: put(0, stage), lambda tiles: put(1, tiles), done)

    def stage(self, task: int) -> str:
        """The stage that a task was last in."""
        return STAGES[self.cells[task * _COLUMNS]]

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Tiles planned and done, and done per stain status, of all tasks together."""
        rows = self.cells[:]
        sums = [sum(rows[column::_COLUMNS]) for column in range(_COLUMNS)]
        return sums[1], sums[2], dict(zip(shards.STATUSES, sums[3:], strict=True))


class Outcome(NamedTuple):
    """How a task ended: its marker, or its failure (stage, kind, error, attempts)."""

    task: Task
    marker: dict[str, Any] | None
    failure: dict[str, Any] | None


_board: Board | None = None
# Exit code of a worker whose GPU failed: sysexits' EX_IOERR
_LOST = 74


def _start_worker(board: Board, seats: cards.Seats | None) -> None:
    global _board
    _board = board
    if seats is not None:
        seats.take()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _work(number: int, task: Task) -> dict[str, Any]:
    if _board is None:
        raise RuntimeError("the worker was started without its board")
    try:
        return pipeline.process(task, _board.writer(number))
    except DeviceLost as error:  # only another process can use the card again; it tries the slide once more
        print(f"pathprep: {error}", file=sys.stderr, flush=True)
        os._exit(_LOST)


def run(
    tasks: list[Task], board: Board, workers: int, timeout: float | None, gpus: int = 0
) -> Iterator[Outcome | None]:
    """Run every task; yields outcomes as they come, and None a few times a second in between.

    Args:
        tasks: task number i reports on row i of the board.
        board: see Board.
        workers: processes at a time.
        timeout: seconds that one slide may take.
        gpus: cards that the workers use, in turn.

    Raises:
        OSError: the dataset's disk is full or read-only; the rest is not tried.
    """
    context = server.context()
    seats = cards.Seats(gpus) if gpus else None
    slides = cards.SLIDES if gpus else 1
    start = {"initializer": _start_worker, "initargs": (board, seats), "context": context}
    pool = ProcessPool(workers, max_tasks=slides, **start)
    try:
        waiting = {
            pool.schedule(_work, args=[number, task], timeout=timeout): (number, task, 1)
            for number, task in enumerate(tasks)
        }
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                number, task, attempt = waiting.pop(future)
                error = future.exception()
                if error is None:
                    yield Outcome(task, future.result(), None)
                    continue
                died = isinstance(error, ProcessExpired | TimeoutError)
                if died and attempt < ATTEMPTS:
                    again = pool.schedule(_work, args=[number, task], timeout=timeout)
                    waiting[again] = (number, task, attempt + 1)
                    continue
                if isinstance(error, OSError) and error.errno in FULL_DISK:
                    raise error
                yield Outcome(task, None, _failure(error, board.stage(number), attempt, task, timeout))
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        if seats is not None:
            seats.close()


def _failure(
    error: BaseException, stage: str, attempts: int, task: Task, timeout: float | None
) -> dict[str, Any]:
    path = task.source.path
    if isinstance(error, ProcessExpired):
        how = _death(error.exitcode)
        message = f"{path}: the worker process {how} while this slide was in stage '{stage}'"
        kind = "crash"
    elif isinstance(error, TimeoutError):
        message = f"{path}: took longer than --slide-timeout {timeout:g} s, in stage '{stage}'"
        kind = "timeout"
    elif isinstance(error, PathprepError):
        message, kind = str(error), type(error).__name__
    else:
        message, kind = f"{path}: {type(error).__name__}: {error}", "unexpected"
    return {"stage": stage, "kind": kind, "error": message, "attempts": attempts}


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return "lost its GPU" if code == _LOST else f"ended with code {code}"

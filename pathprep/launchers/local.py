"""Slides on this machine: a child process for each, so that a reader that crashes costs one slide.

Workers are forked from a server process that has every module loaded and every kernel compiled (see
warm.py), so a fresh process per slide costs tens of milliseconds and no state leaks between slides. With
GPUs they take many slides each: loading CUDA and its kernels costs about a second.
"""

import logging
import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from pathprep.errors import DeviceLost
from pathprep.launchers import base, cards, server
from pathprep.launchers.base import ATTEMPTS, Board, Failure, Outcome, Result, Task

logger = logging.getLogger(__name__)

_board: Board | None = None
# Tasks that the pool is given, for each worker: enough to keep it busy, few enough to be looked through often
AHEAD = 4
# Exit code of a worker whose GPU failed: sysexits' EX_IOERR
_LOST = 74


@dataclass(frozen=True)
class Local:
    """The launcher of this machine.

    Attributes:
        workers: slides at a time; default one per core, or four per GPU.
        gpus: cards that the workers use, in turn, from cards.find; for tasks whose device is ``cuda``.
    """

    workers: int | None = None
    gpus: int = 0

    def _workers(self, tasks: int) -> int:
        return min(self.workers or self.gpus * cards.WORKERS or cores(), max(1, tasks))

    def threads(self, tasks: int) -> int:
        """See base.Launcher: the cores are shared out."""
        return max(1, cores() // self._workers(tasks))

    def run(
        self, tasks: Sequence[Task[Result]], board: Board, timeout: float | None
    ) -> Generator[Outcome[Result] | None, None, None]:
        """See base.Launcher."""
        return run(tasks, board, self._workers(len(tasks)), timeout, self.gpus)


def cores() -> int:
    """Cores that this process may use. Slurm does not bind a job to its share everywhere."""
    bound = len(os.sched_getaffinity(0))
    share = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(bound, max(1, int(share))) if share.isdigit() else bound


def _start_worker(board: Board, seats: cards.Seats | None) -> None:
    global _board
    _board = board
    if seats is not None:
        seats.take()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _work(number: int, task: Task[Result]) -> tuple[Result, bool]:
    if _board is None:
        raise RuntimeError("the worker was started without its board")
    try:
        return task.work(_board.writer(number))
    except DeviceLost as error:  # only another process can use the card again; it tries the slide once more
        logger.warning("%s", error)
        os._exit(_LOST)


def run(
    tasks: Sequence[Task[Result]], board: Board, workers: int, timeout: float | None, gpus: int = 0
) -> Generator[Outcome[Result] | None, None, None]:
    """Run every task, ``workers`` processes at a time, on so many ``gpus``; see base.Launcher."""
    context = server.context()
    seats = cards.Seats(gpus) if gpus else None
    slides = cards.SLIDES if gpus else 1
    start = {"initializer": _start_worker, "initargs": (board, seats), "context": context}
    pool = ProcessPool(workers, max_tasks=slides, **start)
    waiting = deque((number, 1) for number in range(len(tasks)))
    running: dict[Future[Any], tuple[int, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AHEAD * workers:
                number, attempt = waiting.popleft()
                future = pool.schedule(_work, args=[number, tasks[number]], timeout=timeout)
                running[future] = (number, attempt)
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                number, attempt = running.pop(future)
                task = tasks[number]
                error = future.exception()
                if error is None:
                    result, made = future.result()
                    yield Outcome(number, result, made=made)
                    continue
                died = isinstance(error, ProcessExpired) or _is_overtime(error)
                if died and attempt < ATTEMPTS:
                    waiting.append((number, attempt + 1))
                    continue
                if base.is_fatal(error):
                    if isinstance(error, OSError) and error.filename is None:
                        error.filename = str(task.root)
                    raise error
                yield Outcome(number, None, _failure(error, board.stage(number), attempt, task, timeout))
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        if seats is not None:
            seats.close()


def _failure(
    error: BaseException, stage: str, attempts: int, task: Task[object], timeout: float | None
) -> Failure:
    if isinstance(error, ProcessExpired):
        return base.crash(_death(error.exitcode), stage, attempts, task)
    if _is_overtime(error) and timeout is not None:
        return base.overtime(timeout, stage, attempts, task)
    return base.failure(error, stage, attempts, task)


def _is_overtime(error: BaseException) -> bool:
    """Whether the pool stopped the task; a server's ETIMEDOUT is a TimeoutError too, with a number."""
    return isinstance(error, TimeoutError) and not isinstance(error.errno, int)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return "lost its GPU" if code == _LOST else f"ended with code {code}"

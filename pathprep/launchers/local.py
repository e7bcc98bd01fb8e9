"""Slides on this machine: a child process for each, so that a reader that crashes costs one slide.

Workers are forked from a server process that has every module loaded and every kernel compiled (see
warm.py), so a fresh process per slide costs tens of milliseconds and no state leaks between slides. With
GPUs they take many slides each: loading CUDA and its kernels costs about a second.
"""

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from dataclasses import dataclass
from typing import Any, Generic

from pebble import ProcessExpired, ProcessPool

from pathprep.errors import DeviceLost
from pathprep.launchers import base, cards, server, shortage
from pathprep.launchers.base import ATTEMPTS, Board, Failure, Outcome, Result, Task

logger = logging.getLogger(__name__)

_board: Board | None = None
# Tasks that the pool is given, for each worker: enough to keep it busy, few enough to be looked through often
AHEAD = 4
# How often a task may lose its worker to parts of it that are then looked at apart; it begins anew each time
SUSPICIONS = 8
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
    return min(bound, max(1, int(share))) if share.isdecimal() else bound


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
    seats = cards.Seats(gpus) if gpus else None
    try:
        yield from _Run(tasks, board, workers, timeout, seats).outcomes()
    finally:
        if seats is not None:
            seats.close()


@dataclass(frozen=True)
class _Given:
    """A task that the pool was given; ``alone``: with no other beside it."""

    number: int
    attempt: int
    alone: bool


class _Run(Generic[Result]):
    """One run's tasks: those that wait, those that the pool has been given."""

    def __init__(
        self,
        tasks: Sequence[Task[Result]],
        board: Board,
        workers: int,
        timeout: float | None,
        seats: cards.Seats | None,
    ) -> None:
        self.tasks, self.board, self.workers = list(tasks), board, workers
        self.suspected = Counter[int]()  # by task: how often others of its parts were suspected
        self.timeout, self.seats = timeout, seats
        self.pace, self.pool = shortage.Pace(workers), self._pool()
        self.waiting = deque((number, 1) for number in range(len(tasks)))
        self.running: dict[Future[Any], _Given] = {}

    def _pool(self) -> ProcessPool:
        start = {"initializer": _start_worker, "initargs": (self.board, self.seats)}
        slides = 1 if self.seats is None else cards.SLIDES
        return ProcessPool(self.workers, max_tasks=slides, **start, context=server.context())

    def outcomes(self) -> Generator[Outcome[Result] | None, None, None]:
        """See base.Launcher.run."""
        try:
            while self.waiting or self.running:
                if not self.pool.active:
                    self._renew()
                self._give()
                done, _ = wait(self.running, timeout=0.2, return_when=FIRST_COMPLETED)
                if not done:
                    yield None
                short = False
                for future in done:
                    given, error = self.running.pop(future), future.exception()
                    beside = shortage.is_short(error) and not given.alone
                    if beside or shortage.is_broken(error):  # no fault of this task
                        self.waiting.append((given.number, given.attempt))
                        short = short or beside
                        continue
                    outcome = self._end(given, future)
                    if outcome is not None:
                        yield outcome
                        (self.pace.strike if shortage.is_short(error) else self.pace.ended)()
                if short:
                    self.pace.slower()
            self.pool.close()
        except BaseException:
            self.pool.stop()
            raise
        finally:
            self.pool.join()

    def _give(self) -> None:
        """Keep the pool busy."""
        ahead = AHEAD * self.workers if self.pace.is_full else self.pace.limit
        while self.waiting and len(self.running) < ahead:
            number, attempt = self.waiting.popleft()
            alone = self.workers == 1 or (self.pace.limit == 1 and not self.running)
            arguments = [number, self.tasks[number]]
            try:
                future = self.pool.schedule(_work, args=arguments, timeout=self.timeout)
            except RuntimeError:  # the pool has just broken
                self.waiting.appendleft((number, attempt))
                return
            self.running[future] = _Given(number, attempt, alone)

    def _renew(self) -> None:
        """Another pool for one that broke, as it does when a worker is killed before it has a task.

        Tasks that it had not yet looked at would never end.
        """
        self.pool.stop()
        self.pool.join()
        lost = [future for future in self.running if not future.done()]
        for future in lost:
            given = self.running.pop(future)
            self.waiting.append((given.number, given.attempt))
        if self.pace.limit == 1:
            self.pace.strike()
        self.pace.slower()
        self.pool = self._pool()

    def _end(self, given: _Given, future: "Future[Any]") -> Outcome[Result] | None:
        """How a task ended; None if it is to be tried again."""
        number, task, error = given.number, self.tasks[given.number], future.exception()
        if error is None:
            result, made = future.result()
            return Outcome(number, result, made=made)
        died = isinstance(error, ProcessExpired) or _is_overtime(error)
        crashed = isinstance(error, ProcessExpired) and not shortage.is_short(error)
        if crashed and isinstance(task, base.Parted) and self.suspected[number] < SUSPICIONS:
            instead = task.suspecting(self.board.at(number))
            if instead is not None:  # it goes on without what kills its readers
                self.tasks[number] = instead
                self.suspected[number] += 1
                self.waiting.append((number, given.attempt))
                return None
        if died and given.attempt < ATTEMPTS:
            self.waiting.append((number, given.attempt + 1))
            return None
        if base.is_fatal(error):
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(task.root)
            raise error
        stage = self.board.stage(number)
        return Outcome(number, None, _failure(error, stage, given.attempt, task, self.timeout))


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
        often = ", as the system does when memory is short," if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{often}"
    return "lost its GPU" if code == _LOST else f"ended with code {code}"

"""What every launcher shares: what it runs and how often, the board of counters, how a task ended."""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from ctypes import c_int64
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from pathprep.dataset.schema import STATUSES
from pathprep.errors import FULL_DISK, DatasetError, PathprepError, explain_os_error

STAGES = ("open", "tissue", "tiles", "commit", "upload")
# How often a slide is tried whose process died or ran out of time; errors of the slide itself repeat
ATTEMPTS = 2
# Parts of a task that its threads are at, at once; more threads than that share the last
SLOTS = 32
_STATUSES = 3  # the first column of these, behind stage, tiles planned and tiles done
_AT = _STATUSES + len(STATUSES)  # the first of SLOTS: the number of a part and 1; 0 is none
_COLUMNS = _AT + SLOTS


Result = TypeVar("Result", covariant=True)


@dataclass
class Progress:
    """What a task's worker tells the run while it works; the default tells nobody."""

    stage: Callable[[int], None] = lambda _stage: None
    planned: Callable[[int], None] = lambda _tiles: None
    done: Callable[[Counter[str]], None] = lambda _statuses: None
    at: Callable[[int, int | None], None] = lambda _thread, _part: None


class Task(Protocol[Result]):
    """What a worker process does."""

    @property
    def root(self) -> Path:
        """The folder that it writes to."""

    @property
    def path(self) -> Path:
        """The file or folder that it reads, which errors name."""

    def work(self, progress: Progress) -> tuple[Result, bool]:
        """Do it; returns the result, and whether it was made here, not by another run meanwhile.

        Raises:
            DatasetError: the dataset folder is not what it was when the run began.
        """


@runtime_checkable
class Parted(Protocol):
    """A task of parts, of which it tells its progress which each thread is at."""

    def suspecting(self, parts: Collection[int]) -> Self | None:
        """The task to try instead, after its worker died at one of these parts; None: the same once more."""


@dataclass(frozen=True)
class Failure:
    """Why a task failed.

    Attributes:
        stage: that it was in, one of STAGES. kind: name of the error's class, ``crash``, ``timeout``,
            ``memory`` or ``unexpected``. error: a line for people. attempts: how often it was tried.
    """

    stage: str
    kind: str
    error: str
    attempts: int


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
            for number, status in enumerate(STATUSES):
                cells[base + _STATUSES + number] += statuses[status]
            cells[base + 2] += statuses.total()

        def at(thread: int, part: int | None) -> None:
            put(_AT + min(thread, SLOTS - 1), 0 if part is None else part + 1)

        return Progress(lambda stage: put(0, stage), lambda tiles: put(1, tiles), done, at)

    def at(self, task: int) -> set[int]:
        """The parts that a task's threads were last at."""
        start = task * _COLUMNS + _AT
        return {part - 1 for part in self.cells[start : start + SLOTS] if part}

    def stage(self, task: int) -> str:
        """The stage that a task was last in."""
        return STAGES[self.cells[task * _COLUMNS]]

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Tiles planned and done, and done per stain status, of all tasks together."""
        # asked several times a second, of a hundred thousand tasks
        rows = np.frombuffer(memoryview(self.cells), np.int64).reshape(-1, _COLUMNS)
        _, planned, done, *statuses = rows[:, :_AT].sum(axis=0).tolist()
        return planned, done, dict(zip(STATUSES, statuses, strict=True))


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """How a task ended.

    Attributes:
        number: of the task. result: of its work; None if it failed.
        failure: None if it did not. made: false for what another run had made when the task's turn came.
    """

    number: int
    result: Result | None
    failure: Failure | None = None
    made: bool = True


class Launcher(Protocol):
    """A way to run many tasks. All of them call the task's ``work``; what was done is in the files alone."""

    def threads(self, tasks: int) -> int:
        """Threads that each of so many tasks may use."""

    def run(
        self, tasks: Sequence[Task[Result]], board: Board, timeout: float | None
    ) -> Generator[Outcome[Result] | None, None, None]:
        """Run every task; yields outcomes as they come, and None a few times a second in between.

        Args:
            tasks: task number i reports on row i of the board.
            board: see Board.
            timeout: seconds that one task may take.

        Raises:
            UsageError: the launcher cannot be used as it was asked for.
            OSError: the dataset's disk is full or read-only; the rest is not tried.
            OutOfMemory: there is too little for even one task at a time; the rest is not tried.
            DatasetError: the dataset folder is not what it was when the run began; the rest is not tried.
        """


def is_fatal(error: BaseException) -> bool:
    """Whether every further task would fail in the same way."""
    return isinstance(error, DatasetError) or (isinstance(error, OSError) and error.errno in FULL_DISK)


def failure(error: BaseException, stage: str, attempts: int, task: Task[object]) -> Failure:
    """What is recorded of a task that raised an error."""
    if isinstance(error, PathprepError):
        return Failure(stage, type(error).__name__, str(error), attempts)
    if isinstance(error, MemoryError):
        why = "too little memory for this slide, though nothing ran beside it"
        return Failure(stage, "memory", f"{task.path}: {why}; give the machine or job more", attempts)
    if isinstance(error, OSError) and error.strerror is not None:
        return Failure(stage, "unexpected", _said(error, task.path), attempts)
    return Failure(stage, "unexpected", f"{task.path}: {type(error).__name__}: {error}", attempts)


def _said(error: OSError, path: Path) -> str:
    """What the system says, of the file that it says it of; the task's own is always named."""
    said = explain_os_error(error)
    return said if error.filename is not None and str(path) in said else f"{path}: {said}"


def crash(how: str, stage: str, attempts: int, task: Task[object]) -> Failure:
    """What is recorded of a task whose worker process did not survive it; ``how`` as in "was killed"."""
    message = f"{task.path}: the worker process {how} while this slide was in stage '{stage}'"
    return Failure(stage, "crash", message, attempts)


def overtime(timeout: float, stage: str, attempts: int, task: Task[object]) -> Failure:
    """What is recorded of a task that took too long."""
    message = f"{task.path}: took longer than `slide_timeout` {timeout:g} s, in stage '{stage}'"
    return Failure(stage, "timeout", message, attempts)

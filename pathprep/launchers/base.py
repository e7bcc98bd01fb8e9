"""What every launcher shares: what it runs and how often, the board of counters, how a task ended."""

import socket
from collections import Counter
from collections.abc import Generator, Sequence
from ctypes import c_int64
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pathprep.dataset import marker as markers
from pathprep.dataset.schema import STATUSES
from pathprep.errors import FULL_DISK, DatasetError, PathprepError
from pathprep.sharding.pipeline import STAGES, Progress
from pathprep.sharding.remote import RemoteTask
from pathprep.storage.json_files import read_json

# How often a slide is tried whose process died or ran out of time; errors of the slide itself repeat
ATTEMPTS = 2
_COLUMNS = 3 + len(STATUSES)  # stage, tiles planned, tiles done, then tiles per stain status


class Task(Protocol):
    """What a worker process does: one shard of a dataset."""

    @property
    def root(self) -> Path:
        """The dataset folder."""

    @property
    def build_id(self) -> str:
        """Of the dataset that the shard is for."""

    @property
    def rebuild(self) -> bool:
        """Make it even if it is done."""

    @property
    def dry(self) -> bool:
        """It writes nothing, and needs no dataset folder."""

    @property
    def source(self) -> Any:
        """Where from: has a ``path``, a ``name`` and ``inputs()``."""

    def run(self, progress: Progress) -> dict[str, Any]:
        """Do it; returns the marker."""


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
        return sums[1], sums[2], dict(zip(STATUSES, sums[3:], strict=True))


class Outcome(NamedTuple):
    """How a task ended: its marker, or its failure (stage, kind, error, attempts).

    ``made`` is false for a marker that another run had committed when the task's turn came.
    """

    task: Any
    marker: dict[str, Any] | None
    failure: dict[str, Any] | None
    made: bool = True


class Launcher(Protocol):
    """A way to run many tasks. All of them run ``work``, and what they did is in the files alone."""

    def threads(self, tasks: int) -> int:
        """Threads that each of so many tasks may use."""

    def run(
        self, tasks: Sequence[Task], board: Board, timeout: float | None
    ) -> Generator[Outcome | None, None, None]:
        """Run every task; yields outcomes as they come, and None a few times a second in between.

        Args:
            tasks: task number i reports on row i of the board.
            board: see Board.
            timeout: seconds that one task may take.

        Raises:
            UsageError: the launcher cannot be used as it was asked for.
            OSError: the dataset's disk is full or read-only; the rest is not tried.
            DatasetError: the dataset folder is not what it was when the run began; the rest is not tried.
        """


def work(task: Task, progress: Progress) -> tuple[dict[str, Any], bool]:
    """What a worker process runs; returns the marker, and whether it was made here.

    Another run on the same folder may have committed the shard since this one was planned.

    Raises:
        DatasetError: the folder is not there, or was taken over by a run with other parameters.
    """
    if task.dry:
        return task.run(progress), True
    if isinstance(task, RemoteTask):
        return task.work(progress)
    _check_build(task)
    if not task.rebuild and (task.root / "slides" / f"{task.source.name}.json").exists():
        standing = markers.committed(task.root, task.source.name, task.build_id, task.source.inputs())
        if standing is not None:
            return standing, False
    return task.run(progress), True


def _check_build(task: Task) -> None:
    path, host = task.root / "dataset.json", socket.gethostname()
    info = read_json(path)
    if info is None:
        raise DatasetError(
            f"{path}: not there, as seen from {host}; the dataset folder and the slides must be mounted "
            "at the same path on every machine that takes part"
        )
    if info.get("build_id") != task.build_id:
        raise DatasetError(
            f"{path}: has build id {info.get('build_id')}, as seen from {host}, but this run's is "
            f"{task.build_id}: another run has begun to rebuild the dataset with other parameters"
        )


def is_fatal(error: BaseException) -> bool:
    """Whether every further task would fail in the same way."""
    return isinstance(error, DatasetError) or (isinstance(error, OSError) and error.errno in FULL_DISK)


def failure(error: BaseException, stage: str, attempts: int, task: Task) -> dict[str, Any]:
    """What is recorded of a task that raised an error."""
    if isinstance(error, PathprepError):
        return _entry(str(error), type(error).__name__, stage, attempts)
    return _entry(f"{task.source.path}: {type(error).__name__}: {error}", "unexpected", stage, attempts)


def crash(how: str, stage: str, attempts: int, task: Task) -> dict[str, Any]:
    """What is recorded of a task whose worker process did not survive it; ``how`` as in "was killed"."""
    message = f"{task.source.path}: the worker process {how} while this slide was in stage '{stage}'"
    return _entry(message, "crash", stage, attempts)


def overtime(timeout: float, stage: str, attempts: int, task: Task) -> dict[str, Any]:
    """What is recorded of a task that took too long."""
    message = f"{task.source.path}: took longer than --slide-timeout {timeout:g} s, in stage '{stage}'"
    return _entry(message, "timeout", stage, attempts)


def _entry(message: str, kind: str, stage: str, attempts: int) -> dict[str, Any]:
    return {"stage": stage, "kind": kind, "error": message, "attempts": attempts}

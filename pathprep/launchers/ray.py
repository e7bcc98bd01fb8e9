"""Slides on a Ray cluster: a task for each, in a fresh process, spread over the nodes.

Ray only places the processes. How often a slide is tried is counted here: the death of a worker is put
down to its slide, that of a node is not.
"""

import contextlib
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

# One that is gone should be an error within a minute, not after twenty tries of half a minute
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)

from pathprep.errors import UsageError
from pathprep.launchers import base
from pathprep.launchers.base import ATTEMPTS, Board, Outcome, Progress, Result, Task

# How many nodes may die under one slide before it is given up
NODE_DEATHS = 10
REPORT_EVERY_S = 1.0
# A cancelled worker may be busy in native code
CANCEL_AGAIN_S = 5.0
STOP_S = 10.0

Counters = tuple[int, int, dict[str, int]]  # stage, tiles planned, tiles per stain status
Row = tuple[int, str, int, int, dict[str, int]]  # attempt, node, then the counters


@dataclass(frozen=True)
class Ray:
    """The launcher of a Ray cluster.

    Attributes:
        address: as ray.init takes it: ``auto`` (a cluster that this machine is part of), ``host:port``,
            or ``ray://host:port``. cpus, gpus: what one slide takes of a node; shares of a GPU are fine.
    """

    address: str = "auto"
    cpus: float = 1.0
    gpus: float = 0.0

    def threads(self, tasks: int) -> int:
        """See base.Launcher."""
        return max(1, int(self.cpus))

    def run(
        self, tasks: Sequence[Task[Result]], board: Board, timeout: float | None
    ) -> Generator[Outcome[Result] | None, None, None]:
        """See base.Launcher."""
        if not tasks:
            return
        connected = self._connect()
        try:
            self._check_resources()
            run = _Run(self, tasks, board, timeout)
            try:
                yield from run.outcomes()
            finally:
                run.stop()
        finally:
            if connected:
                ray.shutdown()

    def _connect(self) -> bool:
        """Join the cluster; false if this process has done so before."""
        if ray.is_initialized():
            return False
        try:
            host, _, port = self.address.removeprefix("ray://").rpartition(":")
            if self.address != "auto":
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            _quieten()
            ray.init(self.address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(
                f"`address` {self.address}: no Ray cluster can be joined there ({reason}); start one with "
                "`ray start --head`, and `ray start --address ...` on the other machines"
            ) from None
        return True

    def _check_resources(self) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            most = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
            raise UsageError(
                f"no node of the Ray cluster has `ray_cpus` {self.cpus:g} and `ray_gpus` {self.gpus:g} "
                f"(there: {most})"
            )

    def slots(self) -> int:
        """Slides that the cluster can work on at a time."""
        total = ray.cluster_resources()
        slots = total.get("CPU", 0) / self.cpus if self.cpus else float("inf")
        if self.gpus:
            slots = min(slots, total.get("GPU", 0) / self.gpus)
        return int(min(slots, 100_000))


@dataclass
class _Job:
    """A slide that Ray has been given."""

    number: int
    attempt: int
    node: str = ""
    started: float | None = None
    cancelled: float | None = None


@dataclass
class _Run(Generic[Result]):
    """One run's tasks: those that wait, those that Ray has been given."""

    launcher: Ray
    tasks: Sequence[Task[Result]]
    board: Board
    timeout: float | None
    jobs: dict[Any, _Job] = field(default_factory=dict)  # by Ray's reference to the result
    node_deaths: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        launcher = self.launcher
        options = {"num_cpus": launcher.cpus, "num_gpus": launcher.gpus, "scheduling_strategy": "SPREAD"}
        # max_calls: a process a slide, as on one machine. max_retries: attempts are counted here
        self._work = ray.remote(max_calls=1, max_retries=0, **options)(_work)
        # Restarted elsewhere should its node die; reports wait for it
        reports = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Reports)
        self._reports = reports.remote()
        self._asked: Any = None
        self._asked_at = 0.0
        self._waiting = deque((number, 1) for number in range(len(self.tasks)))
        self._slots, self._slots_at = launcher.slots(), time.monotonic()

    def outcomes(self) -> Generator[Outcome[Result] | None, None, None]:
        """See base.Launcher.run."""
        while self._waiting or self.jobs:
            self._submit()
            asked = [] if self._asked is None else [self._asked]
            refs = [*self.jobs, *asked]
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0.2)
            self._read_reports(done)
            for ref in done:
                job = self.jobs.pop(ref, None)
                if job is not None:
                    outcome = self._end(ref, job)
                    if outcome is not None:
                        yield outcome
            self._cancel_overdue()
            yield None

    def _submit(self) -> None:
        """Give Ray as many slides as keep every node busy, not all 35,000 of them at once."""
        if time.monotonic() - self._slots_at > 10:  # nodes come and go
            self._slots, self._slots_at = self.launcher.slots(), time.monotonic()
        while self._waiting and len(self.jobs) < 2 * self._slots + 2:
            number, attempt = self._waiting.popleft()
            self.board.writer(number)  # from zero
            ref = self._work.remote(number, attempt, self.tasks[number], self._reports)
            self.jobs[ref] = _Job(number, attempt)

    def _read_reports(self, done: Sequence[Any]) -> None:
        rows: dict[int, Row] = {}
        if self._asked in done:
            with contextlib.suppress(RayError):  # its node died; it is restarted
                rows = ray.get(self._asked)
            self._asked = None
        if self._asked is None and time.monotonic() - self._asked_at > REPORT_EVERY_S / 2:
            self._asked, self._asked_at = self._reports.take.remote(), time.monotonic()
        for job in self.jobs.values():
            row = rows.get(job.number)
            if row is not None and row[0] == job.attempt:
                _, job.node, stage, planned, statuses = row
                job.started = job.started or time.monotonic()
                _show(self.board, job.number, stage, planned, statuses)

    def _cancel_overdue(self) -> None:
        now = time.monotonic()
        for ref, job in self.jobs.items():
            if self.timeout is None or job.started is None or now - job.started < self.timeout:
                continue
            if job.cancelled is None or now - job.cancelled > CANCEL_AGAIN_S:
                job.cancelled = now
                ray.cancel(ref, force=True)

    def _end(self, ref: Any, job: _Job) -> Outcome[Result] | None:
        """How a task ended; None if it is to be tried again."""
        task, stage = self.tasks[job.number], self.board.stage(job.number)
        try:
            (result, made), last = ray.get(ref)
        except RayTaskError as error:
            if not isinstance(error, TaskCancelledError):
                cause: BaseException = getattr(error, "cause", error)
                if base.is_fatal(cause):
                    raise cause from None
                return Outcome(job.number, None, base.failure(cause, stage, job.attempt, task))
            how = "was cancelled"
        except RayError as error:
            if job.cancelled is None and self._is_nodes_fault(error, job):
                return self._after_node_death(job, stage)
            how = "was killed by Ray: no memory was left," if isinstance(error, OutOfMemoryError) else "died"
        else:
            _show(self.board, job.number, *last)
            return Outcome(job.number, result, made=made)
        if job.attempt < ATTEMPTS:
            self._waiting.append((job.number, job.attempt + 1))
            return None
        if job.cancelled is not None and self.timeout is not None:
            return Outcome(job.number, None, base.overtime(self.timeout, stage, job.attempt, task))
        return Outcome(job.number, None, base.crash(how, stage, job.attempt, task))

    def _is_nodes_fault(self, error: RayError, job: _Job) -> bool:
        if isinstance(error, NodeDiedError | LocalRayletDiedError | ObjectLostError):
            return True
        # a node that is shut down in order takes its workers first
        return any(node["NodeID"] == job.node and not node["Alive"] for node in ray.nodes())

    def _after_node_death(self, job: _Job, stage: str) -> Outcome[Result] | None:
        self.node_deaths[job.number] += 1
        if self.node_deaths[job.number] < NODE_DEATHS:
            self._waiting.appendleft((job.number, job.attempt))
            return None
        how = f"was lost with its node, {NODE_DEATHS} times,"
        return Outcome(job.number, None, base.crash(how, stage, job.attempt, self.tasks[job.number]))

    def stop(self) -> None:
        """Cancel what still runs: first so that workers remove their temporary files, then by force."""
        with contextlib.suppress(RayError, ConnectionError):
            for force in (False, True):
                for ref in self.jobs:
                    ray.cancel(ref, force=force)
                if self.jobs:
                    done, _ = ray.wait([*self.jobs], num_returns=len(self.jobs), timeout=STOP_S)
                    for ref in done:
                        self.jobs.pop(ref)
            ray.kill(self._reports)


def _quieten() -> None:
    """Keep Ray's messages on dead workers and nodes out of our output (they would break --json).

    It prints them whatever log_to_driver says; this switch is the one that its debugger uses.
    """
    from ray._private import worker

    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = False


class _Reports:
    """An actor that workers report to and that the run asks; holds what is new since it was last asked."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}

    def put(self, number: int, row: Row) -> None:
        self._rows[number] = row

    def take(self) -> dict[int, Row]:
        rows, self._rows = self._rows, {}
        return rows


def _show(board: Board, number: int, stage: int, planned: int, statuses: dict[str, int]) -> None:
    progress = board.writer(number)
    progress.stage(stage)
    progress.planned(planned)
    progress.done(Counter(statuses))


def _work(
    number: int, attempt: int, task: Task[Result], reports: Any
) -> tuple[tuple[Result, bool], Counters]:
    """What Ray runs on a node; returns what the task does, and the counters as they are at the end."""
    node = ray.get_runtime_context().get_node_id()
    stage, planned, sent = 0, 0, 0.0
    statuses: Counter[str] = Counter()

    def send() -> None:
        nonlocal sent
        sent = time.monotonic()
        reports.put.remote(number, (attempt, node, stage, planned, dict(statuses)))

    def set_stage(value: int) -> None:
        nonlocal stage
        stage = value
        send()

    def set_planned(value: int) -> None:
        nonlocal planned
        planned = value

    def add(new: Counter[str]) -> None:
        statuses.update(new)
        if time.monotonic() - sent > REPORT_EVERY_S:
            send()

    send()
    done = task.work(Progress(set_stage, set_planned, add))
    return done, (stage, planned, dict(statuses))

"""Too little memory makes a run slower, or ends it in order; it does not put the archive down as failed.

As users of process pools report it: workers that the system kills for their memory take down with them the
pool and every task that waits (noxdafox/pebble#97, epam/ai-dial-rag#11).
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pathprep.errors import OutOfMemory
from pathprep.launchers import local
from pathprep.launchers.base import Board, Outcome, Progress
from pathprep.launchers.local import Local


@dataclass(frozen=True)
class Work:
    """A task that notes when it runs; ``how`` decides what becomes of it."""

    root: Path
    number: int
    how: Callable[["Work"], object]

    @property
    def path(self) -> Path:
        return self.root / f"slide{self.number}"

    def beside(self) -> int:
        """Others that run at this moment."""
        return len(list(self.root.glob("running*"))) - 1

    def work(self, _: Progress) -> tuple[int, bool]:
        mark = self.root / f"running{self.number}"
        mark.touch()
        with (self.root / "tries").open("a") as file:
            file.write(f"{self.number}\n")
        try:
            time.sleep(0.05)
            self.how(self)
        finally:
            mark.unlink()
        return self.number, True


def too_little_for_two(work: Work) -> None:
    if work.beside():
        raise MemoryError


def killed_beside_others(work: Work) -> None:
    if work.beside():
        (work.root / f"running{work.number}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def no_memory(work: Work) -> None:
    raise MemoryError


def fine(work: Work) -> None:
    pass


def huge(work: Work) -> None:
    if work.number == 3:
        raise MemoryError


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.server, "context", lambda: multiprocessing.get_context("fork"))


def run(root: Path, how: Callable[[Work], object], tasks: int = 8, workers: int = 4) -> list[Outcome[int]]:
    works = [Work(root, number, how) for number in range(tasks)]
    found = Local(workers).run(works, Board(tasks), 30)
    return [outcome for outcome in found if outcome is not None]


@pytest.mark.parametrize("how", [too_little_for_two, killed_beside_others])
def test_what_fails_beside_others_is_made_with_fewer(how: Callable[[Work], object], tmp_path: Path) -> None:
    outcomes = run(tmp_path, how)
    assert sorted(outcome.result for outcome in outcomes if outcome.result is not None) == [*range(8)]
    assert len((tmp_path / "tries").read_text().split()) > 8


def test_one_huge_slide_costs_that_slide(tmp_path: Path) -> None:
    outcomes = run(tmp_path, huge)
    failed = [outcome for outcome in outcomes if outcome.failure]
    assert [outcome.number for outcome in failed] == [3]
    assert len(outcomes) == 8
    assert failed[0].failure is not None
    assert failed[0].failure.kind == "memory"
    assert failed[0].failure.error == (
        f"{tmp_path}/slide3: too little memory for this slide, though nothing ran beside it; "
        "give the machine or job more"
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_too_little_for_any_slide_ends_the_run(tmp_path: Path, workers: int) -> None:
    with pytest.raises(OutOfMemory, match="3 in a row failed for lack of memory"):
        run(tmp_path, no_memory, tasks=20, workers=workers)
    assert len((tmp_path / "tries").read_text().split()) < 40


def test_a_pool_that_breaks_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is killed before it has a task takes the pool down: no slide is to blame."""
    start, gate = local._start_worker, tmp_path / "first"

    def dying(*args: object) -> None:
        if not gate.exists():
            gate.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        start(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "_start_worker", dying)
    outcomes = run(tmp_path, fine)
    assert gate.exists()
    assert sorted(outcome.number for outcome in outcomes if outcome.failure is None) == [*range(8)]


def test_a_pool_that_always_breaks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_start_worker", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(OutOfMemory):
        run(tmp_path, fine)

"""An import runs as sharding does: it stops in order, goes on, and may be shared out."""

import os
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import contents
from helpers.tilesets import folders, importing, sound, tile

from pathprep.dataset.reader import Dataset
from pathprep.launchers import local
from pathprep.launchers.base import Board, Outcome, Task
from pathprep.launchers.local import Local
from pathprep.tilesets import shard


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folders(tmp_path / "set", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(6)})


@dataclass
class After:
    """The default launcher, after whose first shard something happens."""

    event: Callable[[], object]

    def threads(self, tasks: int) -> int:
        return 1

    def run(
        self, tasks: Sequence[Task[Any]], board: Board, timeout: float | None
    ) -> Generator[Outcome[Any] | None, None, None]:
        for outcome in Local(1).run(tasks, board, timeout):
            yield outcome
            if outcome is not None:
                self.event()


@pytest.mark.usefixtures("here")
def test_a_disk_that_gets_too_full_stops_the_import(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([2000, 900])
    monkeypatch.setattr("pathprep.sharding.run.free", lambda _: next(left))
    stopped = importing(source, tmp_path / "out", min_free=1000)
    assert "the disk has 900 bytes free, less than the 1.0 kB" in stopped.stopped
    assert (len(stopped.markers), stopped.failures) == (1, {})
    monkeypatch.undo()
    gone_on = importing(source, tmp_path / "out")
    assert (len(gone_on.skipped), len(gone_on.markers), gone_on.stopped) == (1, 2, "")


@pytest.mark.usefixtures("here")
def test_an_interrupted_import_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    importing(source, tmp_path / "undisturbed")

    def interrupt() -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    first = importing(source, out, launcher=After(interrupt))
    assert (first.interrupted, len(first.markers), first.failures) == (True, 1, {})
    assert len(Dataset(out).slides) == 1
    assert not list(out.glob("*/.tmp-*"))
    assert len(importing(source, out).markers) == 2
    assert contents(out) == contents(tmp_path / "undisturbed")


def die(task: shard.ImportTask, _: object) -> None:
    if task.source.name == "set-00001":
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_costs_its_shard(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    # forked from here, so that workers have the patch
    monkeypatch.setattr(local.server, "context", lambda: multiprocessing.get_context("fork"))
    real = shard.process
    monkeypatch.setattr(shard, "process", lambda task, progress: (die(task, 0), real(task, progress))[1])
    out = tmp_path / "out"
    done = importing(source, out, workers=1)
    assert (sorted(done.markers), list(done.failures)) == (["set-00000", "set-00002"], ["set-00001"])
    entry = Dataset(out).failed()["set-00001"]
    assert (entry.kind, entry.attempts, entry.set) == ("crash", 2, "set")
    assert "the worker process was killed by SIGKILL" in entry.error
    monkeypatch.undo()  # and the next run makes it
    importing(source, out)
    assert (len(Dataset(out).slides), Dataset(out).failed(), sound(out)) == (3, {}, True)


@pytest.mark.usefixtures("here")
def test_parts_make_the_whole(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = [importing(source, out, part=(k, 2), tiles_per_shard=2) for k in (1, 2)]
    assert [summary.slides for summary in made] == [len(summary.markers) for summary in made]
    importing(source, tmp_path / "whole", tiles_per_shard=2)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("here")
def test_a_set_of_another_folder_replaces_the_one_of_its_name(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    importing(source, out, tiles_per_shard=1)
    images = {f"{label}/{n}.png": tile(50 + n) for label in "xy" for n in range(6)}
    other = folders(tmp_path / "other" / "set", images)

    def stop() -> None:
        raise KeyboardInterrupt

    importing(other, out, rebuild=True, tiles_per_shard=1, launcher=After(stop))
    # none of the old set's shards stands beside the new one's, wherever the run was stopped
    dataset = Dataset(out)
    assert [dataset.marker(name).source.path for name in dataset.slides] == [str(other)]

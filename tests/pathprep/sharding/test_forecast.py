"""What a run would make is known before it, and a disk that cannot hold it stops it in order."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.folders import verify
from pathprep.launchers.base import Board, Outcome, Task
from pathprep.launchers.local import Local
from pathprep.params.quality import QcParams
from pathprep.params.shard import ShardParams
from pathprep.sharding import forecast, run
from pathprep.sharding.plan import plan
from pathprep.slides import find as sources

PARAMS = ShardParams(tile=64, region=1024)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(3):
        write_tiff(folder / f"s{number}.tif", tissue(500 + 200 * number, 800, seed=number, margin=100))
    return folder


@pytest.mark.parametrize("params", [PARAMS, replace(PARAMS, mode="resize", mpp=1.0, more_mpps=(0.5,))])
def test_looking_counts_what_a_run_makes(params: ShardParams, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    planned = plan(sources.find([folder]), root, params, dry=True)
    found = forecast.look(planned.todo, root, params, Local())
    assert not root.exists()
    summary = run.shard(sources.find([folder]), root, params)
    assert (found.looked, found.failures) == (len(summary.markers), {})
    assert found.tiles == summary.as_dict()["tiles"]
    assert found.counts == summary.counts()
    size = sum(path.stat().st_size for name in ("shards", "index") for path in (root / name).iterdir())
    assert 0.6 * size < found.size < 1.4 * size


def test_filters_and_failures_are_foreseen(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0")
    params = replace(PARAMS, qc=QcParams(min_focus=1e12))
    planned = plan(sources.find([folder, bad]), tmp_path / "d", params, dry=True)
    found = forecast.look(planned.todo, tmp_path / "d", params, Local())
    assert (found.tiles, found.size) == (0, 0)
    assert list(found.failures) == ["bad"]
    assert "bad.tif" in found.failures["bad"].error


def test_a_disk_that_is_too_small_is_seen_before_the_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = sources.find([folder])
    monkeypatch.setattr(forecast, "free", lambda root: 100_000)
    with pytest.raises(UsageError, match=r"3 slides will take about .* has 100 kB free"):
        run.shard(find, tmp_path / "d", PARAMS, forecast=True)
    assert not list((tmp_path / "d/slides").iterdir())
    monkeypatch.setattr(forecast, "free", lambda root: 10**12)
    assert len(run.shard(find, tmp_path / "d", PARAMS, forecast=True).markers) == 3


def test_one_huge_slide_does_not_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {f"s{number}": 20 * 10**6 for number in range(999)} | {"huge": 10**10}
    todo = [sources.SlideSource(tmp_path / f"{name}.svs", name=name) for name in sizes]
    asked: list[float | None] = []

    def look(chosen: list[sources.SlideSource], *_: Any, timeout: float | None = None) -> forecast.Forecast:
        asked.append(timeout)
        failures = {source.name: {} for source in chosen[:1]}
        seen = [sizes[source.name] for source in chosen[1:]]
        tiles, size = sum(seen) // 10**5, sum(seen)
        return forecast.Forecast(len(chosen), len(seen), tiles, size, free=10**11, failures=failures)

    monkeypatch.setattr(forecast, "file_size", lambda path: sizes[path.stem])
    monkeypatch.setattr(forecast, "look", look)
    monkeypatch.setattr(forecast, "free", lambda root: 10**11)
    found = forecast.check_space(todo, tmp_path, PARAMS, Local(), timeout=5.0)
    assert found is not None
    assert found.size == sum(sizes.values())  # tiles of the slides' own size: 30 GB, not 1.3 TB
    assert found.tiles == pytest.approx(sum(sizes.values()) / 10**5, rel=1e-3)
    assert asked == [5.0]


def test_overlapping_tiles_need_more_than_plenty(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(sources.find([folder]), tmp_path / "d", PARAMS, dry=True)
    size = sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(forecast, "free", lambda root: 2 * forecast.PLENTY * size)
    assert forecast.check_space(planned.todo, tmp_path, PARAMS, Local()) is None
    overlapping = replace(PARAMS, overlap=32)
    assert forecast.check_space(planned.todo, tmp_path, overlapping, Local()) is not None


def test_low_space_stops_in_order_and_the_run_goes_on_later(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    # a slide's marker, not what it is written as first, whose name begins with a dot
    monkeypatch.setattr(run, "free", lambda _: 10**6 if list((root / "slides").glob("[!.]*")) else 10**9)
    summary = run.shard(sources.find([folder]), root, PARAMS, workers=1, min_free=10**8)
    assert "1.0 MB free, less than the 100 MB" in summary.stopped
    assert 0 < len(summary.markers) < 3
    assert not summary.failures
    assert not list(root.glob("*/.tmp-*"))
    assert not any(found.problems or found.tiles for found in verify(root))
    monkeypatch.undo()
    run.shard(sources.find([folder]), root, PARAMS)
    assert len(Dataset(root).slides) == 3


def test_low_space_is_seen_before_the_first_slide_and_not_after_the_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, started = tmp_path / "d", []
    monkeypatch.setattr(run, "free", lambda _: 10**6)
    summary = run.shard(
        sources.find([folder]),
        root,
        PARAMS,
        launcher=Noting(started),
        min_free=10**8,
    )
    assert ("less than the 100 MB" in summary.stopped, summary.markers, started) == (True, {}, [])
    # what has filled the disk was the last slide: nothing is left to stop
    launcher = Noting(started)
    monkeypatch.setattr(run, "free", lambda _: 10**6 if launcher.finished == 3 else 10**9)
    summary = run.shard(sources.find([folder]), root, PARAMS, launcher=launcher, min_free=10**8)
    assert (summary.stopped, len(summary.markers), len(started)) == ("", 3, 3)


@dataclass
class Noting:
    """Local, one slide at a time, which slides it was given, and how many it has told the end of."""

    started: list[str]
    finished: int = 0

    def threads(self, tasks: int) -> int:
        return 1

    def run(
        self, tasks: Sequence[Task[Any]], board: Board, timeout: float | None
    ) -> Iterator[Outcome[Any] | None]:
        self.started += [task.path.stem for task in tasks]
        with closing(Local(1).run(tasks, board, timeout)) as outcomes:
            for outcome in outcomes:
                self.finished += outcome is not None
                yield outcome

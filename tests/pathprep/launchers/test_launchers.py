"""Many runs on one folder at once: nobody's work is lost, repeated, or said to have failed."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import runs
from helpers.markers import slide_marker
from helpers.runs import contents, wait_for_work

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, build_id
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import DatasetError
from pathprep.folders import verify
from pathprep.launchers import local
from pathprep.launchers.base import Board, Failure, Outcome, Task
from pathprep.launchers.local import Local, cores
from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.sharding.plan import in_part, prepare
from pathprep.sharding.summary import RunSummary
from pathprep.slides import find
from pathprep.storage import atomic

PARAMS = ShardParams(tile=64, region=16 * 64)
OPTIONS = ("--tile", 64)


def shard(root: Path, *inputs: Path, params: ShardParams = PARAMS, **options: Any) -> RunSummary:
    return run.shard(find.find(list(inputs)), root, params, **options)


def times(root: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


@dataclass
class After:
    """Local, after something else has happened to the folder since the run made its plan."""

    event: Callable[[], object]

    def threads(self, tasks: int) -> int:
        return 1

    def run(
        self, tasks: Sequence[Task[Any]], board: Board, timeout: float | None
    ) -> Iterator[Outcome[Any] | None]:
        self.event()
        yield from Local(2).run(tasks, board, timeout)


@pytest.mark.slow
def test_three_runs_at_once_and_one_killed_give_the_same_bytes(
    folder: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    root = tmp_path / "d"
    first, second, third = (
        runs.start(folder, "--out", root, *OPTIONS, "--workers", 1, "--json") for _ in range(3)
    )
    wait_for_work(second, root)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    for process in (first, third):
        answer, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        summary = json.loads(answer)
        assert summary["done"] + summary["already_done"] == 6
        assert (summary["failed"], summary["stale"]) == ({}, [])
    assert len(shard(root, folder).skipped) == 6  # and sweeps what the killed one left
    assert contents(root) == undisturbed
    assert not any(found.problems or found.tiles for found in verify(root))


def test_a_slide_that_another_run_has_finished_meanwhile_is_skipped(folder: Path, tmp_path: Path) -> None:
    before = {}

    def other() -> None:
        shard(tmp_path, folder)
        before.update(times(tmp_path))

    summary = shard(tmp_path, folder, launcher=After(other))
    assert (len(summary.skipped), summary.markers, summary.failures) == (6, {}, {})
    assert times(tmp_path) == before
    # but not if the slides are to be made again
    assert len(shard(tmp_path, folder, launcher=After(other), rebuild=True).markers) == 6
    assert times(tmp_path) != before


BUILD = build_id({})


def test_an_equal_shard_that_another_run_has_committed_stays(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    row = {name: 0 for name in SCHEMA.names if name not in ("offset", "length", "crc32")}
    row |= {"stain_status": "none"} | dict.fromkeys(("he", "max_c", "label", "group", "source"))

    def commit(data: bytes, seconds: int, size: int = 1, replace: bool = False) -> float:
        with ShardWriter(tmp_path, "a", replace) as writer:
            writer.add(data, {k: v for k, v in row.items() if k in SCHEMA.names})
            marker = slide_marker(BUILD, inputs={"size": size}, seconds={"total": seconds})
            return writer.commit(marker, {"jpg": b"preview"}).seconds["total"]

    commit(b"tile", 1)
    before = times(tmp_path)
    atomic.write_json(tmp_path / "failed" / "a.json", {})
    assert commit(b"tile", 2) == 1
    assert times(tmp_path) == before  # no temporary file either, and no failure beside the marker
    assert commit(b"tile", 3, replace=True) == 3
    assert commit(b"tile", 4, size=2) == 4
    assert commit(b"TILE", 5, size=2) == 5
    (tmp_path / "shards" / "a.tar").write_bytes(b"cut short")
    assert commit(b"TILE", 6, size=2) == 6
    assert not any(found.problems for found in [*_verified(tmp_path)])


def _verified(root: Path) -> list[Any]:
    info = {"format": FORMAT, "version": 1, "build_id": BUILD, "params": {}}
    atomic.write_json(root / "dataset.json", info)
    return [found for found in verify(root) if not found.tiles]


class Failing:
    """Every task fails, after something has happened."""

    def __init__(self, event: Callable[[], object] = lambda: None) -> None:
        self.event = event

    def threads(self, tasks: int) -> int:
        return 1

    def run(
        self, tasks: Sequence[Task[Any]], board: Board, timeout: float | None
    ) -> Iterator[Outcome[Any] | None]:
        self.event()
        for number in range(len(tasks)):
            yield Outcome(number, None, Failure("tiles", "crash", "x", 2))


def test_a_failure_here_is_none_if_another_run_has_committed_the_slide(folder: Path, tmp_path: Path) -> None:
    summary = shard(tmp_path, folder, launcher=Failing(lambda: shard(tmp_path, folder)))
    assert (len(summary.skipped), summary.failures) == (6, {})
    assert not list((tmp_path / "failed").iterdir())
    assert len(Dataset(tmp_path).slides) == 6
    # a slide that was to be made again, and cannot be, stays as it was
    assert len(shard(tmp_path, folder, launcher=Failing(), rebuild=True).failures) == 6
    assert len(Dataset(tmp_path).slides) == 6
    assert not list((tmp_path / "failed").iterdir())
    # but not with other parameters
    other = replace(PARAMS, quality=70)
    assert len(shard(tmp_path, folder, params=other, launcher=Failing(), rebuild=True).failures) == 6
    assert Dataset(tmp_path).slides == []
    assert len(list((tmp_path / "failed").iterdir())) == 6


def test_a_run_stops_if_another_takes_the_folder_over(folder: Path, tmp_path: Path) -> None:
    other = replace(PARAMS, quality=70)
    taken = After(lambda: shard(tmp_path, folder / "s0.tif", params=other, rebuild=True))
    with pytest.raises(DatasetError, match=r"dataset.json: has build id .* another run has begun to rebuild"):
        shard(tmp_path, folder, launcher=taken)
    assert Dataset(tmp_path).slides == ["s0"]
    assert not list((tmp_path / "failed").iterdir())
    gone = After((tmp_path / "dataset.json").unlink)
    with pytest.raises(DatasetError, match=r"dataset.json: not there, as seen from .* same path on every"):
        shard(tmp_path, folder, params=other, launcher=gone)


def test_runs_may_begin_at_the_same_moment(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            root = tmp_path / str(number)
            found = pool.map(lambda _, root=root: prepare(root, PARAMS, rebuild=False), range(8))
            assert len(set(found)) == 1
            assert sorted(p.name for p in root.iterdir()) == sorted((*FOLDERS, "dataset.json"))


@pytest.mark.parametrize("after", [0.2, 0.6, 1.5])
def test_ctrl_c_in_the_first_seconds_prints_no_traceback(folder: Path, tmp_path: Path, after: float) -> None:
    process = runs.start(folder, "--out", tmp_path, *OPTIONS, code=f"print(flush=True); {runs.COMMAND}")
    assert process.stdout is not None
    process.stdout.readline()  # before, on a busy machine, Python itself is still being loaded
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the command
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130)
    assert b"Traceback" not in errors


def test_cold_kernels_are_noticed(tmp_path: Path) -> None:
    code = "from pathprep.launchers import server; print(server.is_cold())"
    for kernels, cold in ((tmp_path, b"True"), (None, b"False")):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        environment |= {"NUMBA_CACHE_DIR": str(kernels)} if kernels else {}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert done.stdout.strip() == cold


def test_sigterm_is_like_ctrl_c(folder: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    process = runs.start(folder, "--out", tmp_path, *OPTIONS, "--workers", 2)
    wait_for_work(process, tmp_path)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"goes on from here" in errors
    assert not list(tmp_path.rglob(f"{atomic.PREFIX}*"))
    shard(tmp_path, folder)
    assert contents(tmp_path) == undisturbed


def test_parts_are_complete_disjoint_and_the_same_everywhere() -> None:
    names = [f"slide-{number}" for number in range(1000)]
    parts = [[name for name in names if in_part(name, k, 7)] for k in range(1, 8)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(100 < len(part) < 190 for part in parts)
    # sha256("a") = ca978112...bb, whose last byte decides: 0xbb = 187 = 3 modulo 4
    assert [in_part("a", k, 4) for k in (1, 2, 3, 4)] == [False, False, False, True]


def test_parts_make_the_whole(folder: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    found = [shard(tmp_path, folder, part=(k, 3)) for k in (1, 2, 3)]
    assert sum(summary.slides for summary in found) == 6
    assert contents(tmp_path) == undisturbed
    assert len(shard(tmp_path, folder, part=(1, 3)).skipped) == found[0].slides


def test_a_jobs_share_of_the_cores_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for value, expected in (("4", 4), ("64", 16), ("0", 1), ("", 16), ("many", 16)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", value)
        assert cores() == expected
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert (Local(2).threads(100), Local().threads(100), Local().threads(2)) == (4, 1, 4)


def test_a_server_that_times_out_is_not_taken_for_the_slide_timeout() -> None:
    tasks = [runs.Slow(find.SlideSource(Path("/nfs/a.svs")), error) for error in (errno.ETIMEDOUT, None)]
    found = [outcome for outcome in Local(2).run(tasks, Board(2), 1.0) if outcome is not None]
    server, slide = (outcome.failure for outcome in sorted(found, key=lambda outcome: outcome.number))
    assert (server.kind, server.attempts, slide.kind, slide.attempts) == ("unexpected", 1, "timeout", 2)
    assert "/nfs/a.svs: Connection timed out; its server does not answer" in server.error
    assert "took longer than `slide_timeout` 1 s" in slide.error


def test_the_pool_is_given_few_tasks_at_a_time_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    open_: list[int] = []

    class Pool:
        active = True

        def __init__(self, *_: Any, **__: Any) -> None:
            self.futures: list[Future[Any]] = []

        def schedule(self, _: Any, args: list[Any], timeout: float) -> Future[Any]:
            future: Future[Any] = Future()
            order.append(args[0])
            self.futures = [f for f in self.futures if not f.done()] + [future]
            open_.append(len(self.futures))
            if args[0] == 5 and order.count(5) == 1:
                future.set_exception(local.ProcessExpired("died", 1))
            elif len(self.futures) == local.AHEAD * 2 or args[0] >= 90 or order.count(5) == 2:
                for each in self.futures:
                    if not each.done():
                        each.set_result(({}, True))
            return future

        def close(self) -> None: ...
        def stop(self) -> None: ...
        def join(self) -> None: ...

    monkeypatch.setattr(local, "ProcessPool", Pool)
    tasks = [runs.Slow(find.SlideSource(Path(str(number))), None) for number in range(100)]
    found = [outcome for outcome in local.run(tasks, Board(100), 2, None) if outcome is not None]
    assert sorted(outcome.number for outcome in found) == list(range(100))
    assert max(open_) == local.AHEAD * 2
    assert order == [*range(100), 5]  # a second attempt comes last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--launcher", "slurm"], "--launcher slurm needs --array N"),
        (["--launcher", "slurm", "--array", "0"], "--array must be at least 1"),
        (["--launcher", "slurm", "--array", "2", "--sbatch-args", "--array=1-9"], "given by --array"),
        (
            ["--launcher", "slurm", "--array", "2", "--sbatch-args", "cpu"],
            "give sbatch's options on one line",
        ),
        (["--launcher", "slurm", "--array", "2", "--sbatch-args", "--x='"], "No closing quotation"),
        (
            ["--launcher", "slurm", "--array", "2", "--part", "1/2"],
            "--part goes with --launcher local or ray",
        ),
        (["--array", "2"], "--array goes with --launcher slurm, not local"),
        (["--no-submit"], "--submit goes with --launcher slurm, not local"),
        (["--ray-gpus", "1"], "--ray-gpus goes with --launcher ray, not local"),
        (["--launcher", "ray", "--workers", "2"], "--workers goes with --launcher local or slurm, not ray"),
        (["--launcher", "ray", "--ray-cpus", "0"], "are both 0"),
        (["--launcher", "ray", "--ray-cpus", "-1"], "must be 0 or more"),
        (["--launcher", "ray", "--ray-gpus", "1.5"], "a share of one GPU (0.25), or a whole number"),
        (["--part", "0/2"], "--part 0/2: expected K/N with K from 1 to N"),
        (["--part", "3/2"], "expected K/N"),
        (["--part", "half"], "expected K/N"),
    ],
)
def test_options_that_do_not_go_together(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    from pathprep.cli import main

    monkeypatch.setattr(
        sys, "argv", ["pathprep", "shard", str(folder), "--out", str(tmp_path / "d"), *arguments]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_without_ray_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pathprep.cli import main

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "pathprep.launchers.ray", raising=False)
    monkeypatch.setattr(sys, "argv", ["pathprep", "shard", str(folder), "--launcher", "ray"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "install with the extra ray: pip install 'pathprep[ray]'" in capsys.readouterr().err

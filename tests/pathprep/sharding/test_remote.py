"""Datasets at a URL: the bytes of a local run, the marker last, and a run that goes on after anything.

S3 is a server of its own (moto) that s3fs talks to over HTTP; file:// stands for filesystems that have moves.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import runs
from helpers.s3 import bucket
from helpers.slides import tissue, write_tiff

from pathprep.dataset.marker import is_displaced, sealed_in
from pathprep.errors import DatasetError, StoreError, UsageError
from pathprep.folders import verify
from pathprep.launchers import base
from pathprep.launchers.base import Progress
from pathprep.params.shard import ShardParams
from pathprep.sharding import remote, run
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import plan
from pathprep.sharding.remote import RemoteTask
from pathprep.sharding.summary import RunSummary
from pathprep.slides import find
from pathprep.storage.url import UrlStorage

PARAMS = ShardParams(tile=64, region=16 * 64)
SLIDES = 3


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with bucket():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(SLIDES):
        write_tiff(folder / f"s{number}.tif", tissue(500 + 100 * number, 700, seed=number, margin=100))
    return folder


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("local")
    run.shard(find.find([folder]), root, PARAMS, workers=2)
    return runs.contents(root)


def contents(url: str, copy: Path) -> dict[str, Any]:
    """Every object, by way of a copy, which is a sound dataset."""
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    for name in filesystem.find(path):
        target = copy / name.removeprefix(path + "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(filesystem.cat_file(name))
    assert [found for found in verify(copy) if found.problems or found.tiles] == []
    return runs.contents(copy)


def names(url: str) -> set[str]:
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    return {name.removeprefix(path + "/") for name in filesystem.find(path)}


def start(folder: Path, url: str, *more: object) -> subprocess.Popen[bytes]:
    return runs.start(folder, "--out", url, "--tile", 64, "--workers", 2, *more)


def command(folder: Path, url: str, *more: object) -> tuple[int, str, str]:
    process = start(folder, url, *more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def shard(folder: Path, url: str, scratch: Path, params: ShardParams = PARAMS, **more: Any) -> RunSummary:
    with remote.opened(remote.writable(url), scratch) as place:
        return run.shard(find.find([folder]), place.root, params, workers=2, remote=place, **more)


def one(url: str, folder: Path, scratch: Path, rebuild: bool = False) -> RemoteTask:
    """The task of the first slide, for a dataset that is begun."""
    with remote.opened(remote.writable(url), scratch) as place:
        planned = plan(find.find([folder / "s0.tif"]), place.root, PARAMS, remote=place, rebuild=rebuild)
        return place.task(ShardTask(place.root, planned.todo[0], PARAMS, planned.build_id, rebuild=rebuild))


def test_s3_holds_the_bytes_of_a_local_run(
    server: None, folder: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    url, scratch = "s3://bucket/some/where", tmp_path / "scratch"
    code, out, err = command(folder, url, "--scratch", scratch, "--json")
    assert code == 0, err
    assert (json.loads(out)["dataset"], json.loads(out)["done"]) == (url, SLIDES)
    assert contents(url, tmp_path / "copy") == local
    assert [path for path in scratch.rglob("*") if path.is_file()] == []

    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    before = filesystem.find(path, detail=True)
    code, out, err = command(folder, url, "--scratch", scratch, "--json")
    assert (code, json.loads(out)["done"], json.loads(out)["already_done"]) == (0, 0, SLIDES), err
    filesystem.invalidate_cache()
    assert {k: v["LastModified"] for k, v in filesystem.find(path, detail=True).items()} == {
        k: v["LastModified"] for k, v in before.items()
    }

    filesystem.rm_file(f"{path}/shards/s1.tar")  # a listing shows it: that slide is made again
    code, out, err = command(folder, url, "--json")
    assert (code, json.loads(out)["done"]) == (0, 1), err
    assert contents(url, tmp_path / "again") == local


@pytest.mark.slow
def test_killed_in_mid_run_and_run_again(
    server: None, folder: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    url, scratch = "s3://bucket/killed", tmp_path / "scratch"
    process = start(folder, url, "--scratch", scratch)
    while not any(name.startswith("index/") for name in names(url)) and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    there = names(url)
    filesystem, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    for name in there:
        if name.startswith("slides/"):
            marker = json.loads(filesystem.cat_file(f"{path}/{name}"))
            assert {*marker["files"]} <= there
    assert there != {*local}
    code, _, err = command(folder, url, "--scratch", scratch)
    assert code == 0, err
    assert contents(url, tmp_path / "copy") == local
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_two_runs_on_one_url(server: None, folder: Path, local: dict[str, Any], tmp_path: Path) -> None:
    url = "s3://bucket/two"
    processes = [start(folder, url, "--scratch", tmp_path / "scratch") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert contents(url, tmp_path / "copy") == local


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_no_marker_before_the_last_file(
    server: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    url = f"s3://bucket/{tmp_path.name}" if kind == "s3" else f"file://{tmp_path}/data"
    task = one(url, folder, tmp_path / "scratch")
    task.work(Progress())
    files = {name for name in names(url) if "s0." in name}
    again = one(url, folder, tmp_path / "scratch", rebuild=True)
    put, order = UrlStorage.put, []

    for failing in range(len(files)):
        done = 0

        def fail(store: UrlStorage, path: Path, name: str, failing: int = failing) -> None:
            nonlocal done
            if done == failing:
                raise StoreError("the network is down")
            done += 1
            put(store, path, name)
            order.append(name)

        with monkeypatch.context() as patch:
            patch.setattr(UrlStorage, "put", fail)
            with pytest.raises(StoreError, match="the network is down"):
                again.work(Progress())
        left = sealed_in(UrlStorage.of(url), "slides/s0.json")
        assert left is not None
        assert is_displaced(left)  # it vouches for nothing, and tells where the slide is
        assert left.source.path == str(folder / "s0.tif")
    assert "slides/s0.json" not in order
    marker, made = task.work(Progress())
    assert made
    assert {name for name in names(url) if "s0." in name} == files == {*marker.files, "slides/s0.json"}
    assert task.work(Progress()) == (marker, False)
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


def test_no_bucket_is_one_clear_line(server: None, folder: Path, tmp_path: Path) -> None:
    code, out, err = command(folder, "s3://nobucket/x", "--scratch", tmp_path)
    lines = err.strip().splitlines()
    assert (code, out, len(lines)) == (1, "", 2)  # the first says what is being done
    assert "s3://nobucket/x: cannot be written" in lines[1]
    assert "make the bucket first" in lines[1]
    assert not fsspec.filesystem("s3", skip_instance_cache=True).exists("nobucket")


def test_a_bucket_that_vanishes_ends_the_run(
    server: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = one("s3://bucket/gone", folder, tmp_path)
    lost = RemoteTask(**{**vars(task), "store": UrlStorage("s3://nobucket/gone")})
    with pytest.raises(DatasetError, match="not there") as gone:
        lost.work(Progress())
    assert base.is_fatal(gone.value)

    def deny(*_: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(task.store._filesystem()[0], "put_file", deny)
    with pytest.raises(DatasetError, match="access denied.*check the credentials") as denied:
        task.work(Progress())
    assert base.is_fatal(denied.value)
    assert "slides/s0.json" not in names("s3://bucket/gone")


class Here:
    """A launcher that runs tasks one after the other in this process."""

    def threads(self, tasks: int) -> int:
        return 1

    def run(
        self, tasks: Sequence[Any], board: base.Board, timeout: float | None
    ) -> Generator[base.Outcome | None, None, None]:
        for number, task in enumerate(tasks):
            try:
                result, made = self.work(task, board, number)
                yield base.Outcome(number, result, made=made)
            except StoreError as error:
                yield base.Outcome(number, None, base.failure(error, board.stage(number), 1, task))

    def work(self, task: Any, board: base.Board, number: int) -> tuple[dict[str, Any], bool]:
        return task.work(board.writer(number))


def test_a_failed_upload_is_the_failure_of_its_slide(
    server: None, folder: Path, local: dict[str, Any], tmp_path: Path
) -> None:
    url, put = "s3://bucket/upload", UrlStorage.put

    def fail(store: UrlStorage, path: Path, name: str) -> None:
        if name == "shards/s1.tar":
            raise StoreError("the network is down")
        put(store, path, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UrlStorage, "put", fail)
        summary = shard(folder, url, tmp_path / "scratch", launcher=Here())
    assert (sorted(summary.markers), sorted(summary.failures)) == (["s0", "s2"], ["s1"])
    entry = json.loads(remote.writable(url).read("failed/s1.json") or b"")
    assert (entry["stage"], entry["kind"], entry["error"]) == ("upload", "StoreError", "the network is down")
    assert "slides/s1.json" not in names(url)
    assert sorted(shard(folder, url, tmp_path / "scratch", launcher=Here()).markers) == ["s1"]
    assert contents(url, tmp_path / "copy") == local


def test_a_server_that_is_away_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        code, _, err = command(folder, "s3://bucket/x", "--scratch", tmp_path)
    assert code == 1
    assert "Traceback" not in err
    assert "error: s3://bucket/x/" in err.splitlines()[-1]


def test_file_url_holds_the_bytes_of_a_local_run(folder: Path, local: dict[str, Any], tmp_path: Path) -> None:
    root, scratch = tmp_path / "data", tmp_path / "scratch"
    summary = shard(folder, f"file://{root}", scratch)
    assert (len(summary.markers), summary.failures, summary.stale) == (SLIDES, {}, [])
    assert runs.contents(root) == local
    assert [*scratch.rglob("*.tar")] == []
    assert len(shard(folder, f"file://{root}", scratch).skipped) == SLIDES

    old = root / "shards" / ".tmp-0123~s0.tar"  # of a run that was killed in a move
    new = old.with_name(".tmp-4567~s0.tar")  # perhaps of one that is at work
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with remote.opened(remote.writable(f"file://{root}"), scratch, dry=True):
        assert old.exists()
    shard(folder, f"file://{root}", scratch)
    assert (old.exists(), new.exists()) == (False, True)


def test_other_parameters_need_rebuild_and_leave_nothing_of_the_old(folder: Path, tmp_path: Path) -> None:
    root, scratch = tmp_path / "data", tmp_path / "scratch"
    shard(folder, f"file://{root}", scratch)
    few = ShardParams(tile=256, region=16 * 256, min_tissue=1.0)  # the margin is in every tile: none is kept
    with pytest.raises(UsageError, match="made with other parameters"):
        shard(folder, f"file://{root}", scratch, few)
    summary = shard(folder, f"file://{root}", scratch, few, rebuild=True)
    assert (summary.stale, len(summary.markers)) == ([], SLIDES)
    empty = [name for name, marker in summary.markers.items() if not marker.tiles]
    assert empty
    there = names(f"file://{root}")
    assert not {f"shards/{name}.{ending}" for name in empty for ending in ("tar", "idx")} & there
    assert [found for found in verify(root) if found.problems or found.tiles] == []


def test_a_slide_that_fails_is_set_aside_at_the_url(folder: Path, tmp_path: Path) -> None:
    slides, root, scratch = tmp_path / "slides", tmp_path / "data", tmp_path / "scratch"
    slides.mkdir()
    bad = slides / "bad.tif"
    bad.write_bytes(b"no slide")
    summary = shard(slides, f"file://{root}", scratch)
    assert list(summary.failures) == ["bad"]
    assert json.loads((root / "failed" / "bad.json").read_bytes())["slide"] == "bad"
    bad.unlink()
    bad.hardlink_to(folder / "s0.tif")
    summary = shard(slides, f"file://{root}", scratch)
    assert list(summary.markers) == ["bad"]
    assert not (root / "failed" / "bad.json").exists()
    bad.unlink()
    bad.write_bytes(b"no slide again")  # the shard is of a slide that is no more
    assert list(shard(slides, f"file://{root}", scratch).failures) == ["bad"]
    assert not (root / "slides" / "bad.json").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://x", "cannot write there"),
        ("zip::s3://bucket/x", "cannot write there"),
        ("nosuch://bucket/x", "Protocol not known"),
        ("s3://", "names no bucket"),
    ],
)
def test_urls_that_cannot_be_used(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        remote.writable(url)


def test_without_s3fs_the_extra_is_named(folder: Path) -> None:
    code = f"import sys; sys.modules['s3fs'] = None; {runs.COMMAND}"
    arguments = [sys.executable, "-c", code, "shard", str(folder), "--out", "s3://bucket/x"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'pathprep[s3]'" in done.stderr


def test_scratch_goes_with_a_url(folder: Path, tmp_path: Path) -> None:
    code, _, err = command(folder, str(tmp_path / "local"), "--scratch", tmp_path)
    assert code == 2
    assert "--scratch goes with a URL" in err


def test_an_array_job_gets_the_url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(run.__file__).parents[2]))
    url = f"file://{tmp_path}/data"
    process = runs.start(folder, "--out", url, "--launcher", "slurm", "--array", 2, "--no-submit")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    script = next((tmp_path / "data" / "slurm").glob("*.sh")).read_text()
    assert f"--config {tmp_path / 'data' / 'slurm' / 'pathprep-data.yaml'} " in script.replace("'", "")
    assert f"out: {url}\n" in (tmp_path / "data" / "slurm" / "pathprep-data.yaml").read_text()
    assert "--part" in script


def test_scratch_that_another_could_write_to_is_refused(tmp_path: Path) -> None:
    """Its name can be foretold: whoever had made it could change what is uploaded."""
    store, scratch = remote.writable(f"file://{tmp_path}/data"), tmp_path / "scratch"
    with remote.opened(store, scratch) as place:
        own = place.scratch
    assert own.stat().st_mode & 0o077 == 0
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not a folder, but a private one is needed there"):
        remote.opened(store, scratch).__enter__()

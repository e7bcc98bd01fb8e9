"""Whatever fails while a slide is written, and whenever: run again, the dataset is the undisturbed one."""

import contextlib
import errno
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.folders import verify
from pathprep.launchers import server
from pathprep.params.shard import ShardParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides.find import SlideSource
from pathprep.storage import atomic

PARAMS = ShardParams(tile=64, region=16 * 64)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    field = tissue(600, 700, margin=100)
    field[100:164, 100:300] = (205, 120, 180)  # tiles that need the slide's fit
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", field)


def task(root: Path, slide: Path) -> ShardTask:
    build = prepare(root, PARAMS, rebuild=False)
    return ShardTask(root, SlideSource(slide, name="a"), PARAMS, build, rebuild=True)


def contents(root: Path) -> dict[str, Any]:
    """Every file's bytes; of the marker all but the times."""
    found: dict[str, Any] = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    marker = json.loads(found["slides/a.json"])
    return {**found, "slides/a.json": {k: v for k, v in marker.items() if k not in ("seconds", "seal")}}


@pytest.fixture(scope="module")
def undisturbed(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("undisturbed")
    assert pipeline.process(task(root, slide)).tiles > 10
    return contents(root)


def readable(root: Path) -> None:
    """A reader sees the whole slide or none of it."""
    for marker in Dataset(root).markers.values():
        for name, entry in marker.files.items():
            assert (root / name).stat().st_size == entry.size


class Failing:
    """Lets ``n`` calls of an operation through and fails all that follow, as a broken disk does."""

    def __init__(self, call: Callable[..., Any], n: int) -> None:
        self.call, self.left, self.failed = call, n, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.failed = True
            raise OSError(errno.EIO, "injected")
        return self.call(*args, **kwargs)


class Writing:
    """A file of which some write fails, after half of it has reached the disk."""

    def __init__(self, file: Any, write: Failing) -> None:
        self.file, self.fails = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        try:
            self.fails(data)
        except OSError:
            self.file.write(data[: len(data) // 2])
            raise
        return int(self.file.write(data))


def inject(patch: pytest.MonkeyPatch, operation: str, n: int) -> Failing:
    if operation == "write":
        create, fails = atomic._create, Failing(lambda _: None, n)
        patch.setattr(atomic, "_create", lambda *paths: Writing(create(*paths), fails))
        return fails
    owner = {"fsync": os, "replace": Path, "unlink": Path}[operation]
    call = getattr(owner, operation)
    fails = Failing(call, n)
    # a plain function: set on a class, it is called with the path
    patch.setattr(owner, operation, lambda *args, **kwargs: fails(*args, **kwargs))
    return fails


@pytest.mark.parametrize("before", [False, True], ids=["new", "rebuilt"])
@pytest.mark.parametrize("operation", ["write", "fsync", "replace"])
def test_every_nth_operation_fails(
    operation: str, before: bool, slide: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    n = failures = 0
    while True:
        root = tmp_path / str(n)
        work = task(root, slide)
        if before:  # the slide stands there, and is made again over itself
            pipeline.process(work)
        with pytest.MonkeyPatch.context() as patch:
            fails = inject(patch, operation, n)
            with contextlib.suppress(OSError):
                pipeline.process(work)
        readable(root)
        pipeline.process(task(root, slide))
        assert contents(root) == undisturbed
        failures += fails.failed
        if not fails.failed:
            break
        # many writes are alike: the first and a spread of the others
        n += 1 if n < 5 or operation != "write" else 12
    assert failures >= 5


def _kill(slide: Path, root: Path, undisturbed: dict[str, Any], kills: int) -> int:
    """Kill a worker at random moments; returns how often it was still at work."""
    chance, hit, longest = random.Random(0), 0, 60.0
    context = server.context()
    for number in range(kills + 1):
        worker = context.Process(target=pipeline.process, args=(task(root, slide),))
        worker.start()
        while not list(root.glob("shards/.tmp-*")) and worker.is_alive():
            time.sleep(0.0005)
        started = time.perf_counter()
        worker.join(longest if not number else chance.uniform(0, longest))
        if not number:  # left alone: how long it takes from its first file on
            longest = time.perf_counter() - started
        worker.kill()
        worker.join()
        hit += worker.exitcode == -signal.SIGKILL
        readable(root)
    pipeline.process(task(root, slide))
    assert contents(root) == undisturbed
    assert not any(found.problems or found.tiles for found in verify(root))
    return hit


@pytest.mark.slow
def test_killed_at_random_moments(slide: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    assert _kill(slide, tmp_path, undisturbed, 12) > 2


@pytest.mark.slow
def test_killed_hundreds_of_times(slide: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    assert _kill(slide, tmp_path, undisturbed, 400) > 200

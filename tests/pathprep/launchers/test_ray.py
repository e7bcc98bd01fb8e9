"""A real Ray on this machine: the same bytes as local, whatever dies; one node, and two of which one goes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import runs
from helpers.runs import contents, wait_for_work
from helpers.slides import tissue, write_tiff

from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.sharding.plan import prepare
from pathprep.sharding.summary import RunSummary
from pathprep.slides import find
from pathprep.storage import atomic

pytest.importorskip("ray")

from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from pathprep.errors import DatasetError, UnreadableSlide
from pathprep.launchers import ray as launcher
from pathprep.launchers.base import Board
from pathprep.sharding.pipeline import ShardTask

PARAMS = ShardParams(tile=64, region=16 * 64)
OPTIONS = ("--tile", 64, "--launcher", "ray")
CLUSTER = Path(__file__).parents[2] / "helpers" / "ray_cluster.py"
HOME = Path(__file__).parents[3]


# The command, whose workers die on one slide: what its main module defines goes to them whole
DEADLY = f"""
import os, signal
from pathprep.sharding import run

class Deadly(run.ShardTask):
    def work(self, progress):
        if self.path.stem == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(progress)

run.ShardTask = Deadly
{runs.COMMAND}
"""


class Cluster:
    """Nodes of one CPU each, in a process of their own; a line to it removes one."""

    def __init__(self, nodes: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HOME), "RAY_DISABLE_IMPORT_WARNING": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(CLUSTER), str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = ""
        while not line.startswith("address "):
            line = self.process.stdout.readline()
            assert line, "the cluster did not start"
        self.address = line.split()[1]

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.tell("stop")
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    found = Cluster(1)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(2):
        write_tiff(folder / f"s{number}.tif", tissue(600, 900, seed=number, margin=100))
    return folder


def shard(root: Path, *inputs: Path, params: ShardParams = PARAMS, **options: Any) -> RunSummary:
    return run.shard(find.find(list(inputs)), root, params, **options)


@pytest.mark.slow
def test_the_same_bytes_as_local(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    process = runs.start(folder, "--out", tmp_path / "d", "--address", cluster.address, *OPTIONS)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    shard(tmp_path / "local", folder)
    assert contents(tmp_path / "d") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_slide_that_kills_its_process_costs_that_slide(
    cluster: Cluster, folder: Path, tmp_path: Path
) -> None:
    path, root = write_tiff(tmp_path / "deadly.tif", tissue(600, 600)), tmp_path / "d"
    arguments = (path, folder, "--out", root, "--address", cluster.address, "--json", *OPTIONS)
    process = runs.start(*arguments, code=DEADLY)
    answer, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    summary = json.loads(answer)
    assert (summary["done"], list(summary["failed"])) == (2, ["deadly"])
    entry = json.loads((root / "failed" / "deadly.json").read_text())
    assert (entry["kind"], entry["stage"], entry["attempts"]) == ("crash", "open", 2)
    assert "deadly.tif: the worker process died while this slide was in stage 'open'" in entry["error"]
    # nothing of Ray's own on the user's terminal
    assert all(line.startswith((b"3 slides", b"0/3", b"1/3", b"2/3")) for line in errors.splitlines()), errors


def ended(error: RayError, monkeypatch: pytest.MonkeyPatch, folder: Path, root: Path) -> list[Any]:
    """What becomes of a slide that ends with this error each time that it is tried."""
    path = folder / "s0.tif"
    task = ShardTask(root, find.SlideSource(path, name="s0"), PARAMS, "b")
    found = object.__new__(launcher._Run)
    found.launcher, found.tasks, found.board, found.timeout = launcher.Ray(), [task], Board(1), 5.0
    found.node_deaths, found._waiting = Counter(), deque([(0, 1)])

    def get(_ref: object) -> None:
        raise error

    monkeypatch.setattr(launcher.ray, "get", get)
    monkeypatch.setattr(launcher.ray, "nodes", lambda: [{"NodeID": "gone", "Alive": False}])
    tried = []
    while found._waiting:
        tried.append(found._waiting.popleft())
        node = "gone" if "gone" in str(error) else "here"
        outcome = found._end(None, launcher._Job(*tried[-1], node=node))
    assert outcome is not None
    assert outcome.failure is not None
    return [[attempt for _, attempt in tried], outcome.failure.kind, outcome.failure.error]


def test_deaths_of_workers_count_and_those_of_nodes_do_not(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    def end(error: RayError) -> list[Any]:
        return ended(error, monkeypatch, folder, tmp_path)

    while_open = "while this slide was in stage 'open'"
    path = folder / "s0.tif"
    assert end(WorkerCrashedError()) == [
        [1, 2],
        "crash",
        f"{path}: the worker process died {while_open}",
    ]
    assert end(OutOfMemoryError("full"))[2] == (
        f"{path}: the worker process was killed by Ray: no memory was left, {while_open}"
    )
    tried, _, message = end(NodeDiedError("x"))
    assert (tried, message) == (
        [1] * 10,
        f"{path}: the worker process was lost with its node, 10 times, {while_open}",
    )
    # a worker that went shortly before its node
    assert end(RayError("gone"))[0] == [1] * 10
    # an error of the slide repeats: once is enough; one of the folder ends the run
    slide = RayTaskError("f", "trace", UnreadableSlide("a.tif: broken"))
    assert end(slide) == [[1], "UnreadableSlide", "a.tif: broken"]
    with pytest.raises(DatasetError, match="not there"):
        end(RayTaskError("f", "trace", DatasetError("dataset.json: not there")))
    with pytest.raises(OSError, match="No space"):
        end(RayTaskError("f", "trace", OSError(errno.ENOSPC, "No space left")))


@pytest.mark.slow
def test_ctrl_c_cancels_and_a_slide_that_takes_too_long_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    path, root = write_tiff(tmp_path / "slow.tif", tissue(4000, 4000)), tmp_path / "d"
    arguments = (path, "--out", root, "--address", cluster.address, "--launcher", "ray", "--tile", 16)
    process = runs.start(*arguments)
    wait_for_work(process, root)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, b"goes on from here" in errors) == (130, True)
    assert not list(root.rglob(f"{atomic.PREFIX}*"))
    process = runs.start(*arguments, "--slide-timeout", 1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    entry = json.loads((root / "failed" / "slow.json").read_text())
    assert (entry["kind"], entry["attempts"]) == ("timeout", 2)
    assert "slow.tif: took longer than `slide_timeout` 1 s" in entry["error"]


def test_what_a_cluster_does_not_have(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    arguments = (folder, "--out", tmp_path, *OPTIONS, "--address")
    process = runs.start(*arguments, cluster.address, "--ray-gpus", 0.25)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert b"no node of the Ray cluster has --ray-cpus 1 and --ray-gpus 0.25 (there: 1 CPUs" in errors
    process = runs.start(*arguments, "127.0.0.1:1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"error: --address 127.0.0.1:1: no Ray cluster can be joined there" in errors
    assert len(errors.splitlines()) == 2, errors


@pytest.mark.slow
def test_two_nodes_of_which_one_dies(folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "slides"
    many.mkdir()
    for number in range(8):
        write_tiff(many / f"s{number}.tif", tissue(2000, 2400, seed=number, margin=100))
    shard(tmp_path / "local", many, params=replace(PARAMS, tile=32, region=512))
    cluster, root = Cluster(2), tmp_path / "d"
    try:
        arguments = (many, "--out", root, "--launcher", "ray", "--tile", 32, "--json")
        process = runs.start(*arguments, "--address", cluster.address)
        # both nodes at work
        while len(list(root.glob("shards/.tmp-*"))) < 2 and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None
        cluster.tell("remove")
        answer, errors = process.communicate(timeout=300)
    finally:
        cluster.stop()
    assert process.returncode == 0, errors
    assert json.loads(answer)["done"] == 8
    prepare(root, replace(PARAMS, tile=32, region=512), rebuild=False)  # sweeps
    assert contents(root) == contents(tmp_path / "local")

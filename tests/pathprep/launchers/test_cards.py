"""GPUs for worker processes: refusals with their fix, seats that outlive their holders, a card that fails."""

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.slides import tissue, write_tiff

from pathprep.errors import DeviceLost, UsageError
from pathprep.launchers import cards, local, server
from pathprep.launchers.base import Board
from pathprep.launchers.cards import Seats
from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides import find as sources
from pathprep.slides.find import SlideSource
from pathprep.tiles.engines import probe

PARAMS = ShardParams(tile=64, region=256)
fork = multiprocessing.get_context("fork")


def answer(monkeypatch: pytest.MonkeyPatch, output: str, code: int = 0, errors: str = "") -> None:
    """Let the process that tries the cards say this."""
    done = subprocess.CompletedProcess([], code, output, errors)
    monkeypatch.setattr(cards.subprocess, "run", lambda *_, **__: done)


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (2, 2), (None, 2)])
def test_as_many_cards_as_were_asked_for(monkeypatch: pytest.MonkeyPatch, asked: Any, used: int) -> None:
    answer(monkeypatch, 'a library prints this\n{"cards": 2}\n')
    assert cards.find(asked) == used


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ('{"cards": 2}', 0, "`gpus` 3: this machine has 2; use `gpus` 2 or `gpus` all"),
        ('{"error": "CuPy is not installed: install"}', 0, "CuPy is not installed: install"),
        ("", -11, "trying the GPU failed with exit code -11 .last words.; see nvidia-smi, or leave"),
    ],
)
def test_cards_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, code: int, message: str
) -> None:
    answer(monkeypatch, output, code, "first words\nlast words\n")
    slide = write_tiff(tmp_path / "a.tif", tissue(128, 128))
    with pytest.raises(UsageError, match=message):
        run.shard(sources.find([slide]), tmp_path / "d", replace(PARAMS, device="cuda"), gpus=3)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(("package", "name"), [("cupy", "CuPy"), ("nvidia.nvimgcodec", "nvImageCodec")])
def test_what_is_not_installed_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == package else find(asked))
    found = probe.probe(1)
    assert found["error"].startswith(f"{name} is not installed: install with the extra cuda13 or cuda12")


def test_without_a_card_the_command_says_so_and_writes_nothing(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tif", tissue(128, 128))
    code = "import sys; from pathprep.cli import main; main()"
    arguments = ["shard", str(slide), "--out", str(tmp_path / "d"), "--gpus", "all"]
    # CUDA sees no card, whatever the machine has
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: no NVIDIA GPU can be used")
    assert last.endswith("see nvidia-smi, or leave --gpus out")
    assert not (tmp_path / "d").exists()


def hold(seats: Seats, channel: Any) -> None:
    channel.send((seats.take(), os.environ["CUDA_VISIBLE_DEVICES"]))
    channel.recv()


class Holder:
    """A process that takes a seat and keeps it."""

    def __init__(self, seats: Seats) -> None:
        self.channel, other = fork.Pipe()
        self.process = fork.Process(target=hold, args=(seats, other))
        self.process.start()
        self.card, self.visible = self.channel.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def seats() -> Iterator[Seats]:
    with closing(Seats(2)) as seats:
        yield seats


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_share_the_cards_evenly_and_a_dead_ones_place_is_taken(
    seats: Seats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-af03")
    holders = [Holder(seats) for _ in range(4)]
    try:
        assert [holder.card for holder in holders] == [0, 1, 0, 1]
        assert [holder.visible for holder in holders] == ["5", "GPU-af03"] * 2
        holders[1].kill()
        holders[2].kill()
        holders += [Holder(seats), Holder(seats)]
        living = [holder for holder in holders if holder.process.is_alive()]
        assert Counter(holder.card for holder in living) == {0: 2, 1: 2}
    finally:
        for holder in holders:
            holder.kill()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_without_a_list_a_card_goes_by_its_number(seats: Seats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    holders = [Holder(seats) for _ in range(2)]
    assert [holder.visible for holder in holders] == ["0", "1"]
    for holder in holders:
        holder.kill()


def test_workers_with_cards_live_for_many_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        write_tiff(folder / f"s{number}.tif", tissue(256, 256, seed=number))
    usual = tmp_path / "usual"
    run.shard(sources.find([folder]), usual, PARAMS, workers=2)
    root = tmp_path / "d"
    build = prepare(root, PARAMS, rebuild=False)
    tasks = [ShardTask(root, SlideSource(p, name=p.stem), PARAMS, build) for p in sorted(folder.iterdir())]
    started: list[Any] = []
    context = server.context()
    start = context.Process.start
    monkeypatch.setattr(context.Process, "start", lambda self: (started.append(self), start(self))[1])
    outcomes = [outcome for outcome in local.run(tasks, Board(5), 2, None, gpus=1) if outcome]
    assert len(started) == 2
    assert all(outcome.failure is None for outcome in outcomes)
    for task in tasks:
        name = f"{task.source.name}.tar"
        assert (root / "shards" / name).read_bytes() == (usual / "shards" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_whose_card_failed_ends_so_that_another_takes_its_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise DeviceLost("a.tif: the GPU failed: illegal address")

    monkeypatch.setattr(ShardTask, "work", fail)
    monkeypatch.setattr(local.logger, "warning", lambda text, *values: os.write(2, (text % values).encode()))
    monkeypatch.setattr(local, "_board", Board(1))
    task = ShardTask(tmp_path, SlideSource(tmp_path / "a.tif"), PARAMS, "0")
    worker = fork.Process(target=local._work, args=(0, task))
    worker.start()
    worker.join()
    assert local._death(worker.exitcode) == "lost its GPU"
    assert "a.tif: the GPU failed: illegal address" in capfd.readouterr().err


def test_elements_of_a_slurm_array_take_gpus_from_the_command(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tif", tissue(128, 128))
    out = tmp_path / "d"
    code = "import sys; from pathprep.cli import main; main()"
    arguments = ["shard", str(slide), "--out", str(out), "--gpus", "1"]
    many = ["--launcher", "slurm", "--array", "2", "--no-submit"]  # this machine needs no card for that
    subprocess.run([sys.executable, "-c", code, *arguments, *many], check=True, capture_output=True)
    assert yaml.safe_load(next((out / "slurm").glob("*.yaml")).read_text())["gpus"] == "1"
    assert json.loads((out / "dataset.json").read_bytes())["params"]["device"] == "cuda"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--launcher", "ray"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--gpus goes with --launcher local or slurm, not ray" in done.stderr

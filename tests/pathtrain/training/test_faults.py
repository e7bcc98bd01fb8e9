"""What goes wrong while training: signals, two processes in one folder, losses that are not finite."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toys import TINY, noise, write_dataset
from helpers.training import logged

from pathtrain.errors import RunBusyError, TrainError
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint, lock
from pathtrain.training.logs import rows
from pathtrain.training.loop import TrainSummary
from pathtrain.training.pretrain import pretrain
from pathtrain.training.stopping import StopRequests

SETTINGS = (*TINY, "steps=6", "batch=6", "log_every=1", "checkpoint.every=2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 48, (90, 60, 140), seed=2)}
    return write_dataset(tmp_path_factory.mktemp("faults") / "dataset", slides)


def train(dataset: Path, run: Path, *more: str, fresh: bool = False) -> TrainSummary:
    return pretrain(dataset, load("smoke", [*SETTINGS, *more]), run, fresh=fresh)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """And what follows is the same to the bit as without it, the row that it has cut in two as well."""
    run, straight = tmp_path / "run", tmp_path / "straight"
    plain = Dino.loss

    def signalled(dino: Dino, views: list[torch.Tensor], step: int) -> Any:
        if step == 2 and not (run / "checkpoints" / "00000003.json").exists():
            os.kill(os.getpid(), number)
        return plain(dino, views, step)

    monkeypatch.setattr(Dino, "loss", signalled)
    before = signal.getsignal(number)
    stopped = train(dataset, run, "checkpoint.every=100", "log_every=3")
    # it came in step 3, after all ranks had agreed to go on: step 4 is the last
    assert (stopped.steps, stopped.stopped) == (4, number.name)
    assert checkpoint.entries(run)[-1].step == 4
    assert signal.getsignal(number) is before
    monkeypatch.setattr(Dino, "loss", plain)
    gone_on = train(dataset, run, "checkpoint.every=100", "log_every=3")
    assert gone_on == TrainSummary(4, 6, rows(run)[-1]["loss"])
    train(dataset, straight, "log_every=3")
    mine, theirs = checkpoint.load(run), checkpoint.load(straight)
    for name, value in theirs["student"]["backbone"].items():
        assert torch.equal(mine["student"]["backbone"][name], value)
    assert logged(run) == logged(straight)
    assert [row["steps"] for row in rows(run)] == [3, 3]


@pytest.mark.slow
def test_the_command_exits_with_75(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [part for value in (*SETTINGS, "steps=100000") for part in ("--set", value)]
    command = [sys.executable, "-m", "pathtrain", "pretrain", str(dataset), "--out", str(run), *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not rows(run) and process.poll() is None:
        time.sleep(0.02)
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert re.fullmatch(
        rf"error: .*run: process {process.pid} on \S+ is training in it; wait for it or stop it, "
        r"or give another --out\n",
        other.stderr,
    )
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "SIGTERM: stopped after step" in said


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found = []

    def enter() -> None:
        with StopRequests() as requests:
            found.append(requests.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [None]


def test_a_folder_in_use_is_refused_and_free_again_afterwards(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with lock.exclusive(run):
        for fresh in (False, True):
            with pytest.raises(RunBusyError, match=rf"process {os.getpid()} on .* is training in it"):
                train(dataset, run, "steps=1", fresh=fresh)
    assert train(dataset, run, "steps=1").steps == 1
    assert not run.with_name("run.old-1").exists()


def test_tiles_whose_loss_is_not_finite_are_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Dino.loss

    def broken(dino: Dino, views: list[torch.Tensor], step: int) -> Any:
        if step == 3:
            views[2][4] = math.nan
        return plain(dino, views, step)

    monkeypatch.setattr(Dino, "loss", broken)
    with pytest.raises(TrainError) as caught:
        train(dataset, tmp_path / "run")
    path = tmp_path / "run" / "nonfinite-4.json"
    record = json.loads(path.read_text())
    last = str(tmp_path / "run" / "checkpoints" / "00000002.pt")
    assert record["step"] == 4
    assert record["checkpoint"] == last
    assert len(record["tiles"]) == 6
    assert record["not_finite"] == [record["tiles"][4]["name"]]
    message = str(caught.value)
    assert message.startswith(f"step 4: the loss is nan; the newest checkpoint is {last}. ")
    assert f"not finite: 1 of 6: {record['not_finite'][0]} (all in {path})" in message
    assert "\n" not in message
    assert checkpoint.entries(tmp_path / "run")[-1].step == 2


def test_a_torn_checkpoint_is_passed_over_when_resuming(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    train(dataset, run)
    path = checkpoint.folder(run) / "00000006.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert train(dataset, run).resumed_from == 4
    assert "00000006.pt is damaged" in caplog.text
    assert checkpoint.load(run)["step"] == 6

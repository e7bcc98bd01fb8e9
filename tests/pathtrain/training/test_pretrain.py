"""Training: what a run leaves and says, what it refuses to train on; it learns."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.toys import write_dataset
from helpers.training import SETTINGS, STEPS, train
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pathprep.errors import DatasetError
from pathtrain.cli.progress import watcher
from pathtrain.errors import TrainError
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training.logs import rows
from pathtrain.training.optim import clip_each
from pathtrain.training.pretrain import pretrain


def test_the_run_folder(dataset: Path, straight: Path) -> None:
    assert sorted(path.name for path in straight.iterdir()) == [
        ".lock",
        "checkpoints",
        "log.jsonl",
        "log.seal.json",
        "recipe.yaml",
        "run.json",
        "tensorboard",
    ]
    assert load(straight / "recipe.yaml") == load("smoke", SETTINGS)
    assert json.loads((straight / "run.json").read_text())["dataset"] == str(dataset)
    content = checkpoint.load(straight)
    assert content.keys() == {"step", "student", "teacher", "loss", "optimizer", "row", "config"}
    assert content["step"] == STEPS


def test_log_and_tensorboard_hold_the_same(straight: Path) -> None:
    logged_rows = rows(straight)
    assert [row["step"] for row in logged_rows] == list(range(2, STEPS + 1, 2))
    assert all(0 <= row["data_wait"] <= 1 and row["images_s"] > 0 for row in logged_rows)
    assert logged_rows[0]["lr"] == pytest.approx(load("smoke").optim.lr / 3)  # step 1 of a warm-up of 4
    board = EventAccumulator(str(straight / "tensorboard"))
    board.Reload()
    for name in ("loss", "lr", "momentum", "weight_decay", "teacher_temp"):
        values = [(event.step, event.value) for event in board.Scalars(name)]
        assert values == [(row["step"], pytest.approx(row[name])) for row in logged_rows]


def test_a_loss_that_is_not_finite_stops_the_run(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"step \d+: the loss is nan.*slide \w, tile"):
        train(dataset, tmp_path / "run", "optim.lr=1e30", "optim.clip=null", "optim.warmup_steps=0")


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no tiles to train on"):
        train(write_dataset(tmp_path / "dataset", {"empty": []}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_last_layer_stays_while_frozen_and_biases_do_not_decay(dataset: Path, tmp_path: Path) -> None:
    decay = ("optim.warmup_steps=0", "optim.weight_decay={start: 0.04, end: 0.4}")
    start = train(dataset, tmp_path / "one", "steps=1", *decay)[0]
    assert start.steps == 1
    one = checkpoint.load(tmp_path / "one")
    torch.manual_seed(load("smoke").seed)
    initial = Dino(load("smoke", SETTINGS), 1, torch.device("cpu")).state()
    head, before = one["student"]["head"], initial["student"]["head"]
    assert torch.equal(head["last_direction"], before["last_direction"])
    assert not torch.equal(head["mlp.0.weight"], before["mlp.0.weight"])
    decayed, plain = one["optimizer"]["param_groups"]
    assert decayed["weight_decay"] > 0
    assert plain["weight_decay"] == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_goes_down(dataset: Path, tmp_path: Path, precision: str) -> None:
    train(
        dataset, tmp_path / "run", "steps=60", "optim.lr=0.003", f"precision={precision}", "dino.drop_path=0",
        "dino.center_momentum=0.99",
    )  # fmt: skip
    losses = [row["loss"] for row in rows(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_gradients_are_clipped_one_tensor_at_a_time() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (4, 9, 2)]
    parameters[0].grad, parameters[1].grad = torch.full((4,), 5.0), torch.full((9,), 0.1)  # norms 10 and .3
    clip_each(parameters, 3.0)
    assert parameters[0].grad.norm() == pytest.approx(3.0)
    assert torch.equal(parameters[1].grad, torch.full((9,), 0.1))
    assert parameters[2].grad is None


def test_plain_lines_off_a_terminal_and_a_bar_on_one(dataset: Path, tmp_path: Path) -> None:
    _, text = train(dataset, tmp_path / "plain", "steps=2")
    begun, _, rows = text.partition("\n")
    assert re.fullmatch(r"22 tiles of .*dataset: 2 steps into .*plain, on 1 x (cpu|cuda)", begun)
    assert rows.startswith("step 2/2  loss ")
    assert "images/s  waiting for data" in text
    assert "\x1b" not in text
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True)
    with watcher(console) as watch:
        pretrain(dataset, load("smoke", [*SETTINGS, "steps=2"]), tmp_path / "bar", watch=watch)
    assert "2/2" in out.getvalue()
    assert "\x1b" in out.getvalue()


def test_leftovers_of_a_killed_write_are_swept(dataset: Path, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = run / "checkpoints" / f".tmp-{os.uname().nodename}~{dead.pid}~00000005.pt"
    left.write_bytes(b"part")
    train(dataset, run, "steps=2")
    assert not left.exists()

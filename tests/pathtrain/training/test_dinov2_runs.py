"""Runs of DINOv2: gone on with to the bit, on several ranks as on one, and post-trained at a larger size."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.toys import TINY
from helpers.training import assert_same_to_the_bit, flat, logged

from pathtrain.errors import ModelError
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint
from pathtrain.runs.opening import load as load_model
from pathtrain.training.logs import Row, rows
from pathtrain.training.lr_range import lr_range
from pathtrain.training.pretrain import pretrain

STEPS = 12
HEAD = "{out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: false}"
SETTINGS = (
    *TINY,
    "model.kwargs={img_size: 32, patch_size: 8, depth: 2, embed_dim: 24, num_heads: 2}",
    f"steps={STEPS}",
    "batch=6",
    "log_every=2",
    "checkpoint.every=5",
    "dino.head=" + HEAD,
    "ibot.head=" + HEAD,
    "dino.drop_path=0.4",
    "dino.freeze_last_layer_steps=3",
    "dino.teacher_temp={start: 0.04, end: 0.07, steps: 8}",
    "optim.warmup_steps=4",
)


def recipe(*more: str) -> Recipe:
    return load("midnight-tiny", [*SETTINGS, *more])


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dinov2") / "whole"
    pretrain(dataset, recipe(), run)
    return run


@pytest.mark.parametrize("more", [(), ("dino.centring=mean", "micro_batch=4")])
def test_resumed_it_is_the_same_to_the_bit(
    dataset: Path, whole: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == 8:
            raise Killed

    straight = whole
    if more:
        straight = tmp_path / "straight"
        pretrain(dataset, recipe(*more), straight)
    with pytest.raises(Killed):
        pretrain(dataset, recipe(*more), tmp_path / "run", watch=watch)
    assert pretrain(dataset, recipe(*more), tmp_path / "run").resumed_from == 5
    assert_same_to_the_bit(tmp_path / "run", straight)
    assert logged(tmp_path / "run") == logged(straight)


def command(dataset: Path, run: Path, *more: str) -> list[str]:
    settings = [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
    words = ["-m", "pathtrain", "pretrain", str(dataset), "--recipe", "midnight-tiny", "--out", str(run)]
    return [sys.executable, *words, *settings]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_random_moments_it_is_the_same_to_the_bit(
    dataset: Path, whole: Path, tmp_path: Path, attempt: int
) -> None:
    run, rng, kills = tmp_path / "run", random.Random(attempt), 0
    for _ in range(2):
        process = subprocess.Popen(command(dataset, run), stdout=subprocess.DEVNULL)
        begun = len(rows(run))
        while process.poll() is None and len(rows(run)) <= begun:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.3)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    subprocess.run(command(dataset, run), check=True, capture_output=True)
    assert_same_to_the_bit(run, whole)
    assert logged(run) == logged(whole)


def test_its_rows_say_what_each_loss_is(whole: Path) -> None:
    row = rows(whole)[-1]
    weighted = row["tile_loss"] + row["patch_loss"] + 0.05 * row["regulariser"]
    assert row["loss"] == pytest.approx(weighted, rel=1e-5)
    assert row["tile_kl"] == pytest.approx(row["tile_loss"] - row["tile_teacher_entropy"])
    assert {"tile_outputs_used", "tile_feature_rank", "patch_teacher_entropy", "teacher_temp"} <= row.keys()
    assert {"gradient_norm_backbone", "gradient_norm_patch_head", "gradient_norm_mask_token"} <= row.keys()


def test_it_is_post_trained_at_a_larger_size_with_heads_and_teacher(
    dataset: Path, whole: Path, tmp_path: Path
) -> None:
    larger = ("views.globals.size=56", "views.locals.size=32", "steps=1", "optim.lr=1e-30", "batch=4")
    start = (f"model.init=run:{whole}", "dino.momentum.start=1", "dino.freeze_last_layer_steps=0")
    pretrain(dataset, recipe(*larger, *start, "optim.weight_decay={start: 0, end: 0}"), tmp_path / "run")
    before, after = flat(checkpoint.load(whole)), flat(checkpoint.load(tmp_path / "run"))
    kept = [name for name in before if name.startswith(("/student", "/teacher"))]
    assert {"/student/patch_head/last_direction", "/student/mask_token/token"} <= set(kept)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)


def test_a_run_with_other_heads_of_patches_is_refused(dataset: Path, whole: Path, tmp_path: Path) -> None:
    other = recipe(f"model.init=run:{whole}", "ibot.head.out_dim=24")
    with pytest.raises(ModelError, match="patch_head of .* is another one .*; set ibot.head as there"):
        pretrain(dataset, other, tmp_path / "run")


def test_a_learning_rate_range_reads_the_loss_of_class_tokens(dataset: Path) -> None:
    found = lr_range(dataset, recipe(), steps=20, low=1e-6, high=1e-2)
    assert len(found.teacher_entropy) == len(found.told) == 20
    assert all(told > 0 for told in found.told)
    # a frozen backbone would bear any rate
    frozen = lr_range(dataset, recipe("optim.freeze_backbone_steps=4"), steps=20, low=1e-6, high=1e-2)
    assert frozen.loss == pytest.approx(found.loss, rel=1e-6)


def test_its_teacher_is_a_plain_timm_model(whole: Path) -> None:
    model = load_model(whole)
    assert model.dim == 24
    assert not any("mask_token" in name for name in model.module.state_dict())
    assert json.loads((whole / "run.json").read_text())["identity"]["method"] == "dinov2"


def test_a_backbone_without_a_class_token_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="class token"):
        pretrain(dataset, recipe("model.kwargs.global_pool=avg"), tmp_path / "run")

"""Runs gone on with: to the bit after SIGKILL, refused with something else, set aside when asked."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.toys import noise, write_dataset
from helpers.training import SETTINGS, STEPS, assert_same_to_the_bit, command, logged, train

from pathprep.dataset.schema import build_id
from pathprep.errors import PathprepError
from pathprep.storage.seals import sealed
from pathtrain.errors import CheckpointError
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training.logs import Row, rows
from pathtrain.training.loop import TrainSummary
from pathtrain.training.pretrain import pretrain


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_killed_at_random_moments_and_resumed_is_the_same_to_the_bit(
    dataset: Path, straight: Path, tmp_path: Path, attempt: int
) -> None:
    run = tmp_path / "killed"
    rng = random.Random(attempt)
    kills = 0
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
    done = subprocess.run(command(dataset, run), check=True, capture_output=True, text=True)
    assert f"{STEPS} steps" in done.stdout
    assert_same_to_the_bit(run, straight)
    assert logged(run) == logged(straight)


@pytest.mark.parametrize("step", [5, 15])
def test_resumed_from_any_checkpoint_is_the_same_to_the_bit(
    dataset: Path, straight: Path, tmp_path: Path, step: int
) -> None:
    """As if killed between that checkpoint and the next, with rows already logged after it."""
    run = tmp_path / "resumed"

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == step + 3:
            raise Killed

    with pytest.raises(Killed):
        pretrain(dataset, load("smoke", SETTINGS), run, watch=watch)
    assert rows(run)[-1]["step"] > step
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')  # a line that the kill cut off
    summary, text = train(dataset, run)
    assert summary == TrainSummary(step, STEPS, rows(straight)[-1]["loss"])
    assert f"\nresuming at step {step} of {STEPS}\n" in text
    assert_same_to_the_bit(run, straight)
    assert logged(run) == logged(straight)


@pytest.mark.parametrize("step", [5, 10])
def test_resumed_across_the_end_of_a_frozen_start_is_the_same_to_the_bit(
    dataset: Path, tmp_path: Path, step: int
) -> None:
    """The backbone thaws after step 9, in which AdamW begins to remember it: before or after the kill."""
    more = (
        "optim.freeze_backbone_steps=9",
        "optim.clip_by=network",
        "optim.patch_embed_scale=0.2",
        "steps=14",
    )

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == step + 2:
            raise Killed

    train(dataset, tmp_path / "straight", *more)
    with pytest.raises(Killed):
        pretrain(dataset, load("smoke", [*SETTINGS, *more]), tmp_path / "resumed", watch=watch)
    assert train(dataset, tmp_path / "resumed", *more)[0].resumed_from == step
    assert_same_to_the_bit(tmp_path / "resumed", tmp_path / "straight")
    assert logged(tmp_path / "resumed") == logged(tmp_path / "straight")


def test_a_run_of_before_a_key_goes_on_and_takes_no_other_value_of_it(dataset: Path, tmp_path: Path) -> None:
    """Its identity has no ``optim.clip_by``, and its checkpoint's hash is of what it has."""
    run = tmp_path / "run"
    train(dataset, run, "steps=8")
    for path in checkpoint.folder(run).glob("00000008.*"):
        path.unlink()
    info = json.loads((run / "run.json").read_text())
    for key in ("optim.clip_by", "optim.patch_embed_scale", "optim.freeze_backbone_steps"):
        del info["identity"][key]
    (run / "run.json").write_text(json.dumps(sealed(info)))
    with pytest.raises(CheckpointError, match=r"optim.patch_embed_scale was 1.0, is 0.2"):
        train(dataset, run, "steps=8", "optim.patch_embed_scale=0.2")
    assert train(dataset, run, "steps=8")[0].resumed_from == 5


def test_a_finished_run_says_so(dataset: Path, straight: Path) -> None:
    before = (straight / "checkpoints" / "latest.json").stat().st_mtime_ns
    summary, text = train(dataset, straight)
    assert summary == TrainSummary(STEPS, STEPS, None)
    assert "finished, 24 of 24 steps; `fresh` starts over" in text
    assert (straight / "checkpoints" / "latest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["optim.lr=0.01"], "optim.lr was 0.0003, is 0.01"),
        (["steps=30"], "steps was 24, is 30"),
        (["model.kwargs.depth=3"], "model.kwargs.depth was 2, is 3"),
        (["epochs=2"], "epochs was None, is 2.0; steps was 24, is None"),
    ],
)
def test_another_recipe_is_refused(dataset: Path, straight: Path, change: list[str], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(dataset, straight, *change)
    assert message in str(caught.value)
    assert str(caught.value).endswith("`fresh` starts over, another `out` keeps both")


def test_the_optimiser_and_the_precision_may_change_if_asked(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    saved = ("steps=6", "checkpoint.every=3", "checkpoint.keep=2")
    train(dataset, run, *saved)
    (run / "checkpoints" / "00000006.json").unlink()
    slower = (*saved, "optim.lr=0.0001", "optim.betas=[0.8, 0.99]")
    with pytest.raises(CheckpointError, match="optim.lr was 0.0003, is 0.0001; `change` goes on with it"):
        train(dataset, run, *slower)
    with pytest.raises(CheckpointError, match="batch was 6, is 7.* `fresh` starts over") as caught:
        train(dataset, run, *slower, "batch=7", change=True)
    assert "`change`" not in str(caught.value)
    assert train(dataset, run, *slower, change=True)[0].resumed_from == 3
    (change,) = json.loads((run / "run.json").read_text())["changes"]
    betas = [[0.9, 0.999], [0.8, 0.99]]
    assert change == {"step": 3, "changed": {"optim.lr": [0.0003, 0.0001], "optim.betas": betas}}
    groups = checkpoint.load(run)["optimizer"]["param_groups"]
    assert [tuple(group["betas"]) for group in groups] == [(0.8, 0.99)] * 2
    # and it is the changed run now
    assert train(dataset, run, *slower)[0].loss is None


def test_rows_are_means_of_their_steps(dataset: Path, straight: Path, tmp_path: Path) -> None:
    """Of rows that are one step each; scheduled values are those of the last."""
    train(dataset, tmp_path / "each", "log_every=1")
    each = rows(tmp_path / "each")
    for row in rows(straight):
        steps = each[row["step"] - row["steps"] : row["step"]]
        assert len(steps) == row["steps"] == 2
        means = ("loss", "kl", "teacher_entropy", "outputs_used", "feature_sd", "gradient_norm_head")
        for name in (*means, "gradient_norm"):
            assert row[name] == pytest.approx(sum(step[name] for step in steps) / 2, rel=1e-9), name
        for name in ("lr", "weight_decay", "momentum", "teacher_temp"):
            assert row[name] == steps[-1][name], name
        assert row["kl"] == pytest.approx(row["loss"] - row["teacher_entropy"], abs=1e-5)
        norms = [step["gradient_norm_head"] ** 2 + step["gradient_norm_backbone"] ** 2 for step in steps]
        assert norms == pytest.approx([step["gradient_norm"] ** 2 for step in steps], rel=1e-5)


def test_how_often_to_save_and_log_may_change(dataset: Path, straight: Path) -> None:
    assert train(dataset, straight, "log_every=3", "checkpoint.keep=9")[0].loss is None


def test_another_dataset_is_refused(tmp_path: Path, straight: Path) -> None:
    more = write_dataset(tmp_path / "more", {"a": noise(15, 64, seed=1), "b": noise(8, 48, seed=2)})
    with pytest.raises(CheckpointError, match="dataset tiles was 22, is 23"):
        train(more, straight)
    info = json.loads((more / "dataset.json").read_text())
    params = {**info["params"], "quality": 1}
    build = build_id(params)
    (more / "dataset.json").write_text(json.dumps({**info, "params": params, "build_id": build}))
    marker = json.loads((more / "slides" / "a.json").read_text())
    (more / "slides" / "a.json").write_text(json.dumps(sealed({**marker, "build_id": build})))
    with pytest.raises(CheckpointError, match=f"dataset build id was {info['build_id']}, is {build}"):
        train(more, straight)


def test_checkpoints_of_another_run_are_refused(dataset: Path, straight: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train(dataset, other, "seed=1", "steps=2")
    (straight / "run.json").rename(tmp_path / "kept.json")
    (other / "run.json").rename(straight / "run.json")
    try:
        with pytest.raises(CheckpointError, match="is not of the run in"):
            train(dataset, straight, "seed=1", "steps=2")
        (straight / "run.json").unlink()
        with pytest.raises(CheckpointError, match="has checkpoints but no"):
            train(dataset, straight)
        (straight / "run.json").write_text("{")
        with pytest.raises(CheckpointError, match="damaged"):
            train(dataset, straight)
    finally:
        (tmp_path / "kept.json").rename(straight / "run.json")


def test_fresh_keeps_the_old_run_under_another_name(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in range(3):
        _, text = train(dataset, run, "steps=2", f"seed={seed}", fresh=True)
    assert f"the old run is now {run}.old-2" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.old-1", "run.old-2"]
    assert load(run / "recipe.yaml").seed == 2
    assert load(tmp_path / "run.old-1" / "recipe.yaml").seed == 0


def test_fresh_sets_aside_what_cannot_be_gone_on_with(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(dataset, run, "steps=2")
    (run / "run.json").unlink()
    assert train(dataset, run, "steps=2", fresh=True)[0].resumed_from == 0
    assert (tmp_path / "run.old-1" / "checkpoints" / "00000002.pt").exists()


def test_a_fresh_start_that_fails_leaves_the_old_run_where_it_is(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(dataset, run, "steps=2")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for wrong in ("views.locals.size=17", "probes=[{kind: collapse, every: 1, dataset: /nonexistent}]"):
        with pytest.raises(PathprepError):
            train(dataset, run, wrong, fresh=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not run.with_name("run.old-1").exists()

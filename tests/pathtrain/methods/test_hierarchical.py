"""The hierarchical method as its users run it: both phases, killed and gone on with, validated, scored."""

import json
import math
import re
import shutil
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.hierarchies import COLOURS, FIRST, REGION, SECOND, SMALL, write_labels, write_slides
from helpers.toys import TINY, noise, spoil, write_dataset
from typer.testing import CliRunner

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathtrain.cli import app
from pathtrain.data.curriculum import Curriculum
from pathtrain.data.slide_stream import SlideIndex
from pathtrain.data.training_data import of
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import CheckpointError, RecipeError
from pathtrain.evaluate.slide_level.heads import tasks as evaluate
from pathtrain.features.embed_levels import Level, embed
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.methods.hierarchical_setup import HierarchicalSetup
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.runs.hierarchical import open_run
from pathtrain.training.held_out import hold_out
from pathtrain.training.pretrain import pretrain
from pathtrain.training.step import scheduled

CPU = torch.device("cpu")


def recipe(*more: str, phases: str = f"[{FIRST}, {SECOND}]") -> HierarchicalRecipe:
    found = load("exaonepath2-tiny", [*SMALL, f"hierarchy.phases={phases}", *more])
    assert isinstance(found, HierarchicalRecipe)
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slides(tmp_path_factory.mktemp("slides") / "dataset")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels") / "labels.csv")


def train(dataset: Path, labels: Path | None, run: Path, made: HierarchicalRecipe) -> list[dict[str, Any]]:
    done = pretrain(dataset, made, run, labels=labels)
    assert done.stopped is None, f"{done.stopped} came from outside: not a failure of training"
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(dataset: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """An undisturbed run and its log."""
    run = tmp_path_factory.mktemp("run") / "whole"
    return run, train(dataset, labels, run, recipe("checkpoint.every=1", "checkpoint.keep=20"))


def test_both_phases_run_and_say_what_they_did(whole: tuple[Path, list[Any]]) -> None:
    _, rows = whole
    assert [row["phase"] for row in rows] == [1] * 4 + [2] * 4
    assert [{name for name in row if name.endswith("_loss")} for row in rows] == [
        {"tile_loss"},
        {"region_loss"},
        {"tile_loss"},
        {"region_loss"},
        *[{"tile_loss", "region_loss", "slide_loss"}] * 4,
    ]
    for row in rows[4:]:
        parts = 0.5 * row["tile_loss"] + 0.5 * row["region_loss"] + row["slide_loss"]
        assert math.isclose(row["loss"], parts, rel_tol=1e-5)
    assert [row["step"] for row in rows if "val_colour_auroc" in row] == [6, 8]
    assert rows[4]["lr"] == 0, "the second phase warms up again"


def test_weights_move_where_the_phase_says(whole: tuple[Path, list[Any]]) -> None:
    folder = checkpoint.folder(whole[0])
    states = {step: torch.load(folder / f"{step:08d}.pt", weights_only=True) for step in (1, 2, 4, 8)}

    def moved(part: str, start: int, end: int) -> bool:
        before, after = (states[step]["student"][part] for step in (start, end))
        return any(not torch.equal(before[key], after[key]) for key in before)

    assert moved("stage2", 1, 2)
    assert not moved("backbone", 1, 2), "a region step"
    assert not moved("stage3", 1, 4)
    assert not moved("tasks", 1, 4)
    for part in ("backbone", "stage2", "stage3", "tasks"):
        assert moved(part, 4, 8)


IN_TURN = (
    "{name: turns, steps: 6, alternate: in_turn, warmup_steps: 0, tile: {weight: 1.0, batch: 4}, "
    f"{REGION.replace('{', '{lr: 0.0005, ', 1)}, "
    "slide: {weight: 1.0, batch: 2, side: 2, class_weights: none, chunk: 5, lr: 0.0002}}"
)


def test_schedules_run_on_over_the_phases() -> None:
    """Counted by hand: tile, region, tile, region; then tile, region, slide twice."""
    made = recipe(
        "dino.teacher_temp={start: 0.02, end: 0.06, steps: 4}",
        "dino.momentum={start: 0.9, end: 1.0}",
        "dino.freeze_last_layer_steps=3",
        "optim.weight_decay={start: 0.1, end: 0.3}",
        "hierarchy.phases.1.region.teacher_temp=null",
        phases=f"[{FIRST}, {IN_TURN}]",
    )
    method = Hierarchical(made, made.total_steps(0), CPU)
    steps = ["tile", "region"] * 2 + ["tile", "region", "slide"] * 2
    moving = {"tile": {"tile", "slide"}, "region": {"region", "slide"}}
    for step, objective in enumerate(steps):
        found = scheduled(made, method, len(steps), step)
        decay = 0.3 - 0.1 * (1 + math.cos(math.pi * step / len(steps)))
        assert found["weight_decay"] == pytest.approx(decay)
        for name, trainers in moving.items():
            moves = [number for number, of in enumerate(steps) if of in trainers]
            place = sum(number < step for number in moves) / len(moves)
            assert found[f"{name}_momentum"] == pytest.approx(1 - 0.05 * (1 + math.cos(math.pi * place)))
        warm = [0.02 + 0.01 * min(4, steps[:step].count(name)) for name in ("tile", "region")]
        assert found["tile_teacher_temp"] == pytest.approx(warm[0])
        assert found["region_teacher_temp"] == pytest.approx(0.03 if step < 4 else warm[1])
        frozen = {id(p) for p in method.frozen(step)}
        for name, head in (("tile", "head"), ("region", "region_head")):
            last = method.student[head].last_layer()
            assert {id(p) in frozen for p in last} == {steps[:step].count(name) < 3}
        if step >= 4:  # the cosine of the phase, from each objective's own peak
            peaks = {"tile": made.optim.lr, "region": 0.0005, "slide": 0.0002}
            shape = 0.5 * (1 + math.cos(math.pi * (step - 4) / 6))
            for name, peak in peaks.items():
                low = made.optim.min_lr
                assert found[f"{name}_lr"] == pytest.approx(low + (peak - low) * shape)
            assert found["lr"] == found[f"{objective}_lr"]


def test_a_step_moves_what_it_trained_and_the_teachers_of_that(
    dataset: Path, labels: Path, tmp_path: Path
) -> None:
    settings = ("checkpoint.every=1", "checkpoint.keep=11", "dino.momentum={start: 0.8, end: 1.0}")
    made = recipe(*settings, "optim.lr=0.001", phases=f"[{FIRST}, {IN_TURN}]")
    rows = train(dataset, labels, tmp_path / "run", made)
    assert (made.rate_key(4), made.rate_key(6)) == ("optim.lr", "hierarchy.phases.1.slide.lr")
    assert rows[6]["lr"] < 0.0002 < rows[5]["lr"] < 0.0005 < rows[4]["lr"]
    files = [checkpoint.folder(tmp_path / "run") / f"{step:08d}.pt" for step in range(4, 11)]
    states = [torch.load(path, weights_only=True) for path in files]
    trained = {
        "tile": {"backbone", "head"},
        "region": {"stage2", "region_head"},
        "slide": {"backbone", "stage2", "stage3", "tasks"},
    }
    pairs = {"tile": {"backbone", "head"}, "region": {"stage2", "region_head"}}
    for step, (before, after) in enumerate(pairwise(states)):
        objective = ("tile", "region", "slide")[step % 3]
        for part, weights in after["student"].items():
            moved = [
                key for key, now in weights.items() if not torch.equal(now, before["student"][part][key])
            ]
            assert bool(moved) == (part in trained[objective]), (step, part)
        for pair, parts in pairs.items():
            rate = 1 - rows[4 + step][f"{pair}_momentum"]
            follows = bool(parts & trained[objective])
            for part in parts:
                for key, found in after["teacher"][part].items():
                    old, now = before["teacher"][part][key], after["student"][part][key]
                    expected = torch.lerp(old, now, rate) if follows else old
                    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 if follows else 0)


def test_one_step_has_one_rate() -> None:
    with pytest.raises(RecipeError, match=r"phases\.1: tile\.lr needs alternate in_turn: a step of several"):
        recipe("hierarchy.phases.1.tile.lr=0.1")
    alone = "{name: x, steps: 1, alternate: together, tile: {weight: 1, batch: 4, lr: 0.1}}"
    assert recipe(phases=f"[{alone}]").rate_key(0) == "hierarchy.phases.0.tile.lr"


@pytest.mark.parametrize("killed", [1, 3, 4, 5, 7])
def test_a_resume_in_either_phase_gives_the_same_bits(
    killed: int, whole: tuple[Path, list[Any]], dataset: Path, labels: Path, tmp_path: Path
) -> None:
    run, rows = whole
    part = tmp_path / "part"
    (part / "checkpoints").mkdir(parents=True)
    for name in ("run.json", "recipe.yaml", "log.jsonl"):
        (part / name).write_bytes((run / name).read_bytes())
    for suffix in ("pt", "json"):
        name = f"checkpoints/{killed:08d}.{suffix}"
        (part / name).write_bytes((run / name).read_bytes())
    again = train(dataset, labels, part, recipe("checkpoint.every=8"))
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    expected, found = (checkpoint.load(path) for path in (run, part))
    for network in ("student", "teacher"):
        for name, weights in expected[network].items():
            for key, tensor in weights.items():
                assert torch.equal(tensor, found[network][name][key]), (network, name, key)
    for number, values in expected["optimizer"]["state"].items():
        for key, value in values.items():
            assert torch.equal(value, found["optimizer"]["state"][number][key])


def test_it_learns_what_the_labels_say_and_scores_it_elsewhere(
    dataset: Path, labels: Path, tmp_path: Path
) -> None:
    slide = "slide: {weight: 1.0, batch: 4, side: 4, class_weights: none, chunk: 8}"
    phases = f"[{{name: slides, steps: 40, alternate: together, lr: 0.003, warmup_steps: 2, {slide}}}]"
    run = tmp_path / "run"
    rows = train(
        dataset, labels, run, recipe("hierarchy.tasks=[colour]", "stain={mode: none}", phases=phases)
    )
    assert rows[-1]["slide_loss"] < 0.3 * rows[0]["slide_loss"]
    slides = {f"new-{kind}": noise(5, colour=colour, seed=77) for kind, colour in COLOURS.items()}
    other = write_dataset(tmp_path / "other", {**slides, "one": noise(1, colour=COLOURS["a"], seed=5)})
    (tmp_path / "other.csv").write_text("slide_id,colour\nnew-a,a\nnew-b,b\none,\n")
    found = evaluate(run, other, tmp_path / "other.csv")
    assert found == {"colour": {"auroc": 1.0, "balanced_accuracy": 1.0, "slides": 2}}
    assert embed(run, other, tmp_path / "regions", "region").written == 3
    assert embed(run, other, tmp_path / "slides", "slide").written == 3
    with h5py.File(tmp_path / "regions" / "new-a.h5") as file:  # 5 tiles in a row, regions of 4
        assert file["coords"][:].tolist() == [[0, 0], [4 * 32, 0]]
        assert file["features"].shape == (2, 16)
    with h5py.File(tmp_path / "slides" / "new-a.h5") as file:
        assert file["features"].shape == (1, 16)


def test_ranks_divide_the_slides_that_are_scored(
    whole: tuple[Path, list[Any]], dataset: Path, labels: Path
) -> None:
    method, made = open_run(whole[0], CPU)
    data = Dataset(dataset)
    known = HierarchicalSetup(made, of(data), labels).labels
    assert known is not None
    scorer = TaskScorer(method, SlideIndex(data), known, None)
    rows = np.array([4, 0, 7, 1, 6])
    shares = [list(scorer.probabilities(rows[rank::2])) for rank in range(2)]

    class Two(Ranks):
        def gather(self, value: Any) -> list[Any]:
            np.testing.assert_equal(value, shares[self.rank])
            return shares

    assert [len(share) for share in shares] == [3, 2]
    for rank in range(2):
        assert scorer.score(rows, Two(rank, 2)) == scorer.score(rows)
    assert list(scorer.probabilities(rows[:0])) == [], "a rank that is left without a slide"


@pytest.mark.parametrize("level", ["region", "slide"])
def test_embedding_leaves_damaged_slides_out(
    level: Level, whole: tuple[Path, list[Any]], dataset: Path, tmp_path: Path
) -> None:
    run, out, copy = whole[0], tmp_path / "features", tmp_path / "copy"
    assert embed(run, dataset, out, level).written == 8
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    shutil.copytree(dataset, copy)
    spoil(copy, "a1", 2, b"damage")
    tar = (copy / "shards" / "b0.tar").rename(tmp_path / "b0.tar")
    for again in (False, True):
        done = embed(run, copy, tmp_path / "some", level)
        assert (done.written, done.kept) == ((0, 6) if again else (6, 0))
        assert sorted(done.failed) == ["a1", "b0"]
        damage = rf"slide a1, tile 64_0 in {copy}/shards/a1.tar: its CRC32 differs; `pathprep repair {copy}`"
        assert re.match(damage, done.failed["a1"])
        assert re.match(rf"{copy}/shards/b0.tar: no such file; `pathprep repair {copy}`", done.failed["b0"])
    tar.rename(copy / "shards" / "b0.tar")
    assert (embed(run, copy, tmp_path / "some", level).written) == 1
    found = {path.name: path.read_bytes() for path in (tmp_path / "some").glob("*.h5")}
    assert found == {name: data for name, data in before.items() if name != "a1.h5"}


def test_a_frozen_stage_1_stays_as_it_was(dataset: Path, labels: Path, tmp_path: Path) -> None:
    slide = "slide: {weight: 1.0, batch: 2, side: 4, class_weights: none, stage1: frozen}"
    phases = f"[{{name: slides, steps: 3, alternate: together, {slide}}}]"
    train(dataset, labels, tmp_path / "run", recipe("optim.warmup_steps=0", phases=phases))
    method, made = open_run(tmp_path / "run", CPU)
    torch.manual_seed(made.seed)
    fresh = type(method)(made, 3, CPU, labels=method.labels)
    for name, before in fresh.student["backbone"].state_dict().items():
        assert torch.equal(before, method.student["backbone"].state_dict()[name])


def test_what_a_run_needs_is_said_before_it_starts(dataset: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trains on slide labels: give `labels`"):
        train(dataset, None, tmp_path / "run", recipe())
    with pytest.raises(UsageError, match="no phase of the recipe trains on slides"):
        train(dataset, labels, tmp_path / "run", recipe(phases=f"[{FIRST}]"))
    with pytest.raises(UsageError, match="the method dino learns without labels"):
        pretrain(dataset, load("smoke"), tmp_path / "run", labels=labels)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_of_another_method_has_no_heads(dataset: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run there"):
        evaluate(tmp_path, dataset, labels)
    pretrain(dataset, load("smoke", [*TINY, "steps=1"]), tmp_path / "run")
    with pytest.raises(UsageError, match="its method is dino"):
        evaluate(tmp_path / "run", dataset, labels)


def test_slides_that_are_held_out_come_in_no_objective(dataset: Path, labels: Path) -> None:
    made = recipe("probes=[{kind: collapse, every: 1, slides: 2, tiles: 6}]")
    data = Dataset(dataset)
    known = HierarchicalSetup(made, of(data), labels).labels
    held_out = hold_out(of(data), made, ["a0", "a1", "b0", "b1", "b2"])
    with closing(Curriculum(data, made, known, held_out=held_out.tiles)) as batches:
        seen = {batches.name(tile).split(",")[0] for batch in batches for tile in batch.tiles.tolist()}
    assert len(held_out.slides) == 2
    assert len(seen) > 2
    assert not seen & {f"slide {name}" for name in held_out.slides}


@pytest.mark.parametrize("option", ["--size=32", "--batch=64", "--precision=bfloat16"])
def test_options_of_tiles_are_refused_with_another_level(
    option: str, whole: tuple[Path, list[Any]], dataset: Path, tmp_path: Path
) -> None:
    call = ["embed", str(whole[0]), str(dataset), "--level", "slide", "--out", str(tmp_path / "out"), option]
    found = CliRunner().invoke(app, call)
    assert isinstance(found.exception, UsageError)
    name = option.partition("=")[0].lstrip("-")
    assert str(found.exception) == f"`{name}` is for `level` tile: leave it out with `level` slide"
    assert not (tmp_path / "out").exists()


def test_the_rate_of_a_phase_may_change_if_asked(dataset: Path, labels: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = recipe("checkpoint.every=5", "checkpoint.keep=9")
    train(dataset, labels, run, made)
    (run / "checkpoints" / "00000008.json").unlink()
    assert (made.rate_key(3), made.rate_key(4)) == ("optim.lr", "hierarchy.phases.1.lr")
    slower = recipe("checkpoint.every=5", "checkpoint.keep=9", "hierarchy.phases.1.lr=0.0001")
    with pytest.raises(CheckpointError, match=r"phases.1.lr was 0.001, is 0.0001; `change` goes on"):
        pretrain(dataset, slower, run, labels=labels)
    assert pretrain(dataset, slower, run, labels=labels, change=True).resumed_from == 5
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["lr"] < 0.0001

"""The hierarchical method as its users run it: both phases, killed and gone on with, validated, scored."""

import json
import math
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from rich.console import Console
from toys import TINY, noise, write_dataset

from pathprep.errors import UsageError
from pathtrain import checkpoint
from pathtrain.embed_levels import embed
from pathtrain.evaluate.heads import evaluate, open_run
from pathtrain.recipes.hierarchy import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.trainer import pretrain

CPU = torch.device("cpu")
HEAD = "{out_dim: 32, hidden_dim: 24, bottleneck_dim: 8, layers: 2, norm_last_layer: true}"
REGION = (
    "region: {weight: 0.5, batch: 4, side: 2, min_tiles: 0.5, flip: 0.5, "
    "globals: {count: 2, size: 2}, locals: {count: 2, size: 1}, teacher_temp: 0.03, center_momentum: 0.7}"
)
FIRST = f"{{name: first, steps: 4, alternate: in_turn, tile: {{weight: 1.0, batch: 4}}, {REGION}}}"
SECOND = (
    f"{{name: second, steps: 4, alternate: together, lr: 0.001, tile: {{weight: 0.5, batch: 4}}, {REGION}, "
    "slide: {weight: 1.0, batch: 2, side: 2, draw: 3, orient: true, class_weights: balanced, "
    "chunk: 5}, validate_every: 2}"
)
SMALL = (
    *TINY,
    "hierarchy.tile=32",
    "hierarchy.stage2={dim: 16, depth: 1, heads: 2, dropout: 0.1}",
    "hierarchy.stage3={dim: 16, depth: 1, heads: 2, dropout: 0.1, drop_path: 0.1}",
    f"hierarchy.region_head={HEAD}",
    f"dino.head={HEAD}",
    "dino.drop_path=0.1",
    "log_every=1",
    "stain={mode: jitter, basis: hed, concentration: 0.1}",
)
COLOURS = {"a": (180, 90, 160), "b": (90, 160, 90)}


def recipe(*more: str, phases: str = f"[{FIRST}, {SECOND}]") -> HierarchicalRecipe:
    found = load("exaonepath2-tiny", [*SMALL, f"hierarchy.phases={phases}", *more])
    assert isinstance(found, HierarchicalRecipe)
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight slides of 9 to 16 tiles, of two colours."""
    slides = {
        f"{kind}{number}": noise(9 + number * 2 + (kind == "a"), colour=colour, seed=number)
        for kind, colour in COLOURS.items()
        for number in range(4)
    }
    return write_dataset(tmp_path_factory.mktemp("slides") / "dataset", slides)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, the second mostly unknown; two slides for validation."""
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    rows = ["slide_id,split,patient,colour,odd"]
    for kind in COLOURS:
        for number in range(4):
            odd = ("even", "odd")[number % 2] if number < 2 else ""
            rows.append(f"{kind}{number},{'val' if number == 3 else 'train'},{kind}{number},{kind},{odd}")
    path.write_text("\n".join(rows) + "\n")
    return path


def train(dataset: Path, labels: Path | None, run: Path, made: HierarchicalRecipe) -> list[dict[str, Any]]:
    pretrain(dataset, made, run, False, Console(quiet=True), labels=labels)
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
    assert embed(run, other, tmp_path / "regions", "region") == 3
    assert embed(run, other, tmp_path / "slides", "slide") == 3
    with h5py.File(tmp_path / "regions" / "new-a.h5") as file:  # 5 tiles in a row, regions of 4
        assert file["coords"][:].tolist() == [[0, 0], [4 * 32, 0]]
        assert file["features"].shape == (2, 16)
    with h5py.File(tmp_path / "slides" / "new-a.h5") as file:
        assert file["features"].shape == (1, 16)


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
    with pytest.raises(UsageError, match="trains on slide labels: give --labels"):
        train(dataset, None, tmp_path / "run", recipe())
    with pytest.raises(UsageError, match="no phase of the recipe trains on slides"):
        train(dataset, labels, tmp_path / "run", recipe(phases=f"[{FIRST}]"))
    with pytest.raises(UsageError, match="the method dino learns without labels"):
        pretrain(dataset, load("smoke"), tmp_path / "run", False, Console(quiet=True), labels=labels)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_of_another_method_has_no_heads(dataset: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run there"):
        evaluate(tmp_path, dataset, labels)
    pretrain(dataset, load("smoke", [*TINY, "steps=1"]), tmp_path / "run", False, Console(quiet=True))
    with pytest.raises(UsageError, match="its method is dino"):
        evaluate(tmp_path / "run", dataset, labels)

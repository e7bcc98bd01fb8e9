"""Tasks of every kind in end-to-end training: what is learnt, remembered, logged, gone on with and scored."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.hierarchies import COLOURS, SMALL, write_slides
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import app
from pathtrain.data.layout import Layout
from pathtrain.data.slide_labels import LabelTask, SlideLabels, read
from pathtrain.data.work import Slide
from pathtrain.losses.survival import cox_loss
from pathtrain.methods.slide_objective import SlideObjective
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.runs.hierarchical import open_run
from pathtrain.training.pretrain import pretrain

CPU = torch.device("cpu")
TASKS = "[colour, 'grade:ordinal', size, 'OS_MONTHS,OS_STATUS:survival']"
PHASE = (
    "{name: slides, steps: 6, alternate: together, lr: 0.01, warmup_steps: 0, "
    "slide: {weight: 1.0, batch: 2, side: 2, class_weights: balanced, chunk: 5, regression_loss: huber}, "
    "validate_every: 3}"
)


def table(path: Path) -> Path:
    """Every kind; the second colour dies early."""
    rows = ["slide_id,split,patient,colour,grade,size,OS_MONTHS,OS_STATUS"]
    for place, kind in enumerate(COLOURS):
        for number in range(4):
            split = "val" if number > 1 else "train"
            months, state = (
                (3 + number, "1:DECEASED") if place else (30 + number, ("0:LIVING", "1:DECEASED")[number % 2])
            )
            grade = number % 2 + place if number < 3 else ""
            rows.append(
                f"{kind}{number},{split},{kind}{number},{kind},{grade},{number + 9.5},{months},{state}"
            )
    path.write_text("\n".join(rows) + "\n")
    return path


def recipe(*more: str) -> HierarchicalRecipe:
    settings = [*SMALL, f"hierarchy.phases=[{PHASE}]", f"hierarchy.tasks={TASKS}", "checkpoint.every=1"]
    found = load("exaonepath2-tiny", [*settings, "checkpoint.keep=20", *more])
    assert isinstance(found, HierarchicalRecipe)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    write_slides(root / "dataset")
    table(root / "labels.csv")
    made = recipe("hierarchy.tasks=" + TASKS.replace("size", "'size:regression'"))
    pretrain(root / "dataset", made, root / "run", labels=root / "labels.csv")
    return root


def test_every_kind_is_learnt_logged_and_scored(place: Path) -> None:
    rows = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["slide_loss"]) for row in rows)
    logged = {name for row in rows for name in row if name.startswith("val_")}
    assert {"val_colour_auroc", "val_grade_kappa", "val_grade_mae", "val_size_pearson"} <= logged
    assert {"val_size_r2", "val_size_mae", "val_OS_MONTHS_c_index"} <= logged
    state = checkpoint.load(place / "run")
    seen = ~state["risks"].isnan()
    assert (seen.sum(dim=1) > 0).tolist() == [False, False, False, True]  # survival alone is remembered
    arguments = [
        "evaluate",
        "tasks",
        str(place / "run"),
        str(place / "dataset"),
        "--labels",
        str(place / "labels.csv"),
    ]
    done = CliRunner().invoke(
        app, [*arguments, "--out-json", str(place / "tasks.json")], env={"COLUMNS": "150"}
    )
    assert done.exit_code == 0, done.output
    for heading in ("AUROC", "kappa", "Pearson", "MAE", "c-index"):
        assert heading in done.stdout
    found = json.loads((place / "tasks.json").read_text())
    assert set(found) == {"colour", "grade", "size", "OS_MONTHS"}
    assert found["OS_MONTHS"]["slides"] == 8
    assert found["grade"]["slides"] == 6
    method, _ = open_run(place / "run", CPU)
    assert [task.get("kind", "classes") for task in method.tasks] == [
        "classes",
        "ordinal",
        "regression",
        "survival",
    ]
    assert method.tasks[2]["mean"] == pytest.approx(10.0)  # of the training slides


def test_a_killed_run_goes_on_with_what_it_remembered(place: Path, tmp_path: Path) -> None:
    """The same weights and the same memory, to the bit."""
    made = recipe("hierarchy.tasks=" + TASKS.replace("size", "'size:regression'"))
    pretrain(place / "dataset", made, tmp_path / "run", labels=place / "labels.csv")
    whole = checkpoint.load(tmp_path / "run")
    for path in sorted(checkpoint.folder(tmp_path / "run").iterdir())[3:]:
        if path.suffix == ".pt":
            path.unlink()
    pretrain(place / "dataset", made, tmp_path / "run", labels=place / "labels.csv")
    again = checkpoint.load(tmp_path / "run")
    assert torch.equal(whole["risks"].nan_to_num(-9), again["risks"].nan_to_num(-9))
    for name, value in whole["student"]["tasks"].items():
        assert torch.equal(value, again["student"]["tasks"][name])


def survival(count: int = 12) -> tuple[SlideLabels, SlideObjective]:
    rng = np.random.default_rng(0)
    values, times = rng.integers(0, 2, (count, 1)), rng.integers(1, 6, (count, 1)).astype(float)
    names = tuple(f"s{n}" for n in range(count))
    task = LabelTask("os", (), "survival", None, "event")
    labels = SlideLabels(Path("l"), (task,), names, values, ("train",) * count, (), times)
    return labels, SlideObjective(labels, CPU)


def slide(labels: SlideLabels, row: int) -> Slide:
    layout: Any = Layout
    return Slide(torch.empty(0), layout, torch.from_numpy(labels.values[row]), row)


def test_slides_one_by_one_give_the_full_batchs_gradient() -> None:
    labels, objective = survival()
    assert labels.numbers is not None
    weights = torch.randn(3, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True)
    x = torch.randn(12, 3, dtype=torch.float64)
    for row in range(12):  # an epoch with the weights as they are fills the memory
        objective.remember(objective.seen([(x[row] @ weights)[None]], slide(labels, row)), None)
    for row in range(12):
        loss = objective.loss([(x[row] @ weights)[None]], slide(labels, row), False)
        (loss / 12).backward()  # type: ignore[no-untyped-call]
    found, weights.grad = weights.grad, None
    whole = cox_loss(
        x @ weights, torch.from_numpy(labels.numbers[:, 0]), torch.from_numpy(labels.values[:, 0] == 1)
    )
    whole.backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    torch.testing.assert_close(found, weights.grad, rtol=0, atol=1e-14)


def test_what_was_not_taken_is_not_remembered_and_ranks_are_averaged() -> None:
    labels, objective = survival()
    one = objective.seen([torch.tensor([2.0])], slide(labels, 3))
    objective.remember(one, torch.tensor(False))
    assert objective.memory is not None
    assert objective.memory.isnan().all()
    other = objective.seen([torch.tensor([5.0])], slide(labels, 4))
    objective.remember((one + other) / 2, torch.tensor(True))  # as two ranks with a slide each
    assert objective.memory[0, 3:5].tolist() == [2, 5]
    assert int(objective.memory.isnan().sum()) == 10


def test_labels_of_every_kind(tmp_path: Path) -> None:
    known = {f"{kind}{n}" for kind in COLOURS for n in range(4)}
    found = read(
        table(tmp_path / "l.csv"), known, ("grade:ordinal", "size:regression", "OS_MONTHS,OS_STATUS:survival")
    )
    grade, size, months = found.tasks
    assert (grade.classes, grade.kind) == (("0", "1", "2"), "ordinal")
    assert (size.mean, size.sd) == (pytest.approx(10.0), pytest.approx(0.5))
    assert found.numbers is not None
    assert found.numbers[:, 2].tolist() == [30, 31, 32, 33, 3, 4, 5, 6]
    assert found.values[:, 2].tolist() == [0, 1, 0, 1, 1, 1, 1, 1]
    assert [LabelTask.of(task) for task in found.describe()] == [grade, size, months]
    text = re.sub(r"\d+\.5", "1", (tmp_path / "l.csv").read_text())
    (tmp_path / "p.csv").write_text(text)
    plain = read(tmp_path / "p.csv", known)
    assert plain.numbers is None
    hints = " ".join(plain.account)
    assert "OS_MONTHS,OS_STATUS:survival" in hints
    assert found.digest() != plain.digest()


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("OS_STATUS:survival", "TIME,EVENT:survival"),
        ("OS_MONTHS,died:survival", "no column died"),
        ("colour:regression", "colour is 'a', not a number"),
        ("colour:ordinal", "colour:ordinal:a<b"),
        ("colour:ordinal:a<c", "colour is b, which is not in the order a<c"),
        ("nothing", "no task nothing"),
        ("OS_MONTHS,colour:survival", "colour is 'a'; give 1 where the event came"),
    ],
)
def test_tasks_that_are_asked_for_wrongly(task: str, error: str, tmp_path: Path) -> None:
    known = {f"{kind}{n}" for kind in COLOURS for n in range(4)}
    with pytest.raises(UsageError, match=error.replace("(", r"\(")):
        read(table(tmp_path / "l.csv"), known, (task,))

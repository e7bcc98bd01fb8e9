"""The table of tile tasks: what is found, what is missing, the published row, the figure, the command."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.toys import labelled_folder as folder
from helpers.toys import write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.papers.published import EXAONEPATH, TASKS
from pathtrain.evaluate.papers.tile_table import TaskPaths, find, table
from pathtrain.models.backbone import build
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.export import export
from pathtrain.runs.opening import load

FEW = {"iterations": 60, "sgd_batch": 8, "seeds": 2}
GROUPS = {f"g{number}": "pb"[number % 2] for number in range(10)}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """PCam with a test set, MHIST without."""
    root = tmp_path / "tasks"
    (root / "pcam").mkdir(parents=True)
    folder(root / "pcam" / "train", GROUPS)
    folder(root / "pcam" / "test", {"h1": "p", "h2": "b"})
    folder(root / "mhist", GROUPS)
    (root / "til").mkdir()
    folder(root / "til" / "train", GROUPS)
    folder(root / "til" / "test", {"h1": "p", "h2": "b"})
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


def test_published_row_adds_up() -> None:
    assert set(EXAONEPATH.top1) == {task.key for task in TASKS}
    assert round(EXAONEPATH.mean(list(EXAONEPATH.top1)), 3) == 0.861  # as published
    backbone = build(ModelConfig(name="vit_base_patch16_224"))
    assert sum(weights.numel() for weights in backbone.parameters()) == EXAONEPATH.parameters


def test_tasks_are_found_in_folders_and_files(tasks: Path, tmp_path: Path) -> None:
    expected = {
        "pcam": TaskPaths(tasks / "pcam/train", tasks / "pcam/test"),
        "mhist": TaskPaths(tasks / "mhist", None),
        "til": TaskPaths(tasks / "til/train", tasks / "til/test"),
    }
    assert find(tasks) == expected
    del expected["til"]
    file = tmp_path / "tasks.yaml"
    entries = {
        "mhist": {"train": "tasks/mhist"},
        "pcam": {"train": "tasks/pcam/train", "test": "tasks/pcam/test"},
    }
    file.write_text(yaml.safe_dump(entries))
    assert find(file) == expected
    assert list(find(file)) == ["pcam", "mhist"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- pcam", "expected tasks with train"),
        ("pcan: {train: x}", "task pcan is not one of pcam, mhist"),
        ("pcam: {test: x}", "pcam needs train"),
        ("pcam: {train: x, val: y}", "and nothing else"),
        ("pcam: {train: nowhere}", "nowhere is neither a dataset nor images"),
        ("{}", "offers none of the tasks"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        find(tmp_path / "tasks.yaml")
    with pytest.raises(UsageError, match="offers none of the tasks"):
        find(tmp_path)


def test_table_and_figure(tasks: Path, run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "slides": 123}))
    export(run, tmp_path / "model")
    models = [load(run), load(tmp_path / "model")]
    result = table(models, tasks, figure=tmp_path / "figure.png", **FEW)
    assert (result["present"], result["missing"]) == (
        ["pcam", "mhist", "til"],
        ["crc-100k", "msi-crc", "msi-stad"],
    )
    for entry in result["models"]:
        assert entry["slides"] == 123
        assert entry["parameters"] == sum(p.numel() for p in models[0].module.parameters())
        model, _, _, colour, _ = entry["rows"]
        assert colour["top1"] == {"pcam": 1.0, "mhist": 1.0, "til": 1.0}
        learnt = {key: entry["evaluations"][key]["left_out_tiles"] for key in ("pcam", "til")}
        assert learnt == {"pcam": 0, "til": 8}  # PCam's validation set is apart
        assert colour["leads"]["pcam"]["accuracy"] == pytest.approx(model["top1"]["pcam"] - 1)
        assert model["mean"] == pytest.approx(sum(model["top1"].values()) / 3)
    assert result["published"][0]["mean"] == pytest.approx((0.901 + 0.818 + 0.939) / 3)
    json.dumps(result)
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > picture.height


def test_command(tasks: Path, run: Path, tmp_path: Path) -> None:
    files = ["--out-json", str(tmp_path / "table.json"), "--figure", str(tmp_path / "figure.png")]
    command = ["table", str(run), "--tasks", str(tasks), "--iterations", "20", "--seeds", "1", *files]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert [line.split().count("-") for line in done.stdout.splitlines()].count(3) == 5
    published = next(line for line in done.stdout.splitlines() if "1.0, paper" in line)
    assert [f"{value:.3f}" in published for value in EXAONEPATH.top1.values()] == [True] * 6
    assert "0.861 over all six" in done.stdout
    assert "Trained on 80 % of each training set, by group;" in done.stdout
    assert json.loads((tmp_path / "table.json").read_text())["models"][0]["slides"] is None
    assert (tmp_path / "figure.png").stat().st_size > 1000

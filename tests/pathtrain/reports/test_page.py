"""The run's page: complete, self-contained, readable in a real browser, and honest about what is missing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.browser import check_page
from helpers.toys import TINY, labelled_folder, noise, write_dataset, write_run
from typer.testing import CliRunner

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.cli import evaluations as app
from pathtrain.data.training_data import of
from pathtrain.errors import ModelError
from pathtrain.recipes.load import dump, load
from pathtrain.reports.page import report
from pathtrain.runs.export import export
from pathtrain.runs.identity import TRAINING, VERSION_KEY
from pathtrain.stain.target import ModelTarget
from pathtrain.training.held_out import hold_out


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {name: noise(12, side=48, seed=seed) for seed, name in enumerate(("a", "b", "c"))}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def invoke(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output


@pytest.fixture
def evaluated(run: Path, dataset: Path, tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text("slide,label\na,<b>tumour</b>\nb,normal\nc,normal\n")
    invoke("knn", run, "--train", dataset, "--labels", tmp_path / "labels.csv", "--k", 5)
    invoke("collapse", run, dataset, "--k", 5, "--labels", tmp_path / "labels.csv")
    return run


@pytest.fixture
def linear(run: Path, tmp_path: Path) -> tuple[str, ...]:
    """What linear evaluations of the run need; the folder is also a task."""
    (tmp_path / "tasks").mkdir()
    groups = {f"g{number}": "pb"[number % 2] for number in range(10)}
    folder = labelled_folder(tmp_path / "tasks" / "pcam", groups, each=2)
    return "linear", str(run), "--train", str(folder), "--iterations", "20", "--seeds", "2"


@pytest.fixture
def panels(run: Path, dataset: Path, tmp_path: Path) -> Path:
    """A folder with the three panels of the run and one that normalises."""
    other = write_run(tmp_path / "normalised", dataset, seed=1)
    (other / "recipe.yaml").write_text(dump(load("smoke", [*TINY, "steps=20", "stain.mode=normalize"])))
    ModelTarget.of(stain.Target.default(), Dataset(dataset)).save(other)
    pairs = ("--plain", run, dataset, "--normalised", other, dataset)
    invoke("collapse", *pairs, "--k", 5, "--out", tmp_path / "panels")
    return tmp_path / "panels"


def test_the_page_says_when_a_run_had_collapsed(run: Path) -> None:
    same = {
        "loss": 5.545,
        "kl": 0.0,
        "teacher_entropy": 5.545,
        "output_entropy": 5.545,
        "outputs_used": 256.0,
    }
    row = {"steps": 200, **same, "feature_rank": 9.0, "feature_sd": 0.4, "images_s": 1.0, "data_wait": 0.0}
    lines = [json.dumps({"step": step, **row, "lr": 0.1}) for step in (200, 400)]
    (run / "log.jsonl").write_text("\n".join(lines) + "\n")
    text = report(run).read_text()
    assert "Steps 1 to 400: the network says the same of every tile, all 256 outputs alike" in text
    assert "Effective rank of features" in text


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (390, True)])
def test_page_in_a_browser(
    evaluated: Path, linear: tuple[str, ...], panels: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    invoke(*linear)
    invoke("table", evaluated, "--tasks", tmp_path / "tasks", *linear[4:])
    page = report(evaluated, results=[panels / "collapse-panels.json"])
    result = check_page(page, width, None, dark)
    assert result.errors == []
    assert result.external == []
    assert result.broken == []
    assert result.without_alt == 0
    assert result.overflow == 0
    assert result.images == 4 * (1 + 2 + 4) + 1 + 1  # tiles and views, and both t-SNEs
    for text in (
        "20 of 20",
        "Loss",
        "Teacher momentum",
        "mean of random weights, seeds 1, 2, 3",
        "lead over it",
        "of one: ",
        "Within a class: own share",
        "labels told by neighbours from other slides",
        "whole tiles at 32 px",
        "colour: mean and SD",
        "own share",
        "Linear evaluation",
        "EXAONEPath 1.0, published",
        "normalised model, normalised tiles",
        "from a to c",
    ):
        assert text in result.text
    assert "Not measured yet" not in result.text
    assert "<b>tumour</b>" in result.text  # shown as it is written, not as bold


@pytest.mark.browser
def test_page_of_a_run_that_has_nothing_yet(run: Path) -> None:
    (run / "log.jsonl").unlink()
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "run.json").unlink()
    result = check_page(report(run), 390, None)
    assert (result.errors, result.broken, result.overflow, result.images) == ([], [], 0, 0)
    for text in (
        "Nothing was logged yet",
        "run.json does not say which dataset",
        f"pathtrain evaluate knn {run.name}",
        f"pathtrain evaluate collapse {run.name}",
        "none yet",
    ):
        assert text in result.text


def test_the_stain_stage_is_shown(normalising: Callable[..., Path], target: stain.Target, run: Path) -> None:
    page = report(normalising(target, "stain.concentration=0.1", "stain.shift=0.02")).read_text()
    assert page.count("its stain in training") == 4
    assert "normalised to the reference, concentration ±0.1, shift ±0.02" in page
    assert "cannot be shown" not in page
    plain = report(run).read_text()
    assert (
        "first steps, drawn as this version draws them.</p>" in plain
    )  # which it does not say it was begun by
    assert "its stain in training" not in plain
    assert "as stored" in plain


def test_views_are_of_slides_that_are_trained_on(tmp_path: Path) -> None:
    slides = {name: noise(3, side=48, seed=seed) for seed, name in enumerate("abcde")}
    dataset = write_dataset(tmp_path / "dataset", slides)
    run = write_run(tmp_path / "run", dataset)
    recipe = load("smoke", [*TINY, "steps=20", "probes=[{kind: collapse, every: 5}]"])
    (run / "recipe.yaml").write_text(dump(recipe))
    held_out = hold_out(of(Dataset(dataset)), recipe).slides
    info = json.loads((run / "run.json").read_text())
    info["identity"]["held-out slides"] = held_out  # as training writes it
    (run / "run.json").write_text(json.dumps(info))
    shown = set(re.findall("<h3>slide (.), tile", report(run).read_text()))
    assert len(held_out) == 2
    assert shown
    assert not shown & set(held_out)


def test_views_of_a_run_of_another_version_are_said_to_be_of_this_one(run: Path) -> None:
    words = "first steps, drawn as this version draws them.</p>"
    assert words in report(run).read_text()  # its run.json is of before versions were counted
    info = json.loads((run / "run.json").read_text())
    info["identity"][VERSION_KEY] = TRAINING
    (run / "run.json").write_text(json.dumps(info))
    assert words not in report(run).read_text()


def test_a_lost_target_is_said(normalising: Callable[..., Path]) -> None:
    run = normalising()
    (run / "target.json").unlink()
    assert "The views cannot be shown" in report(run).read_text()
    assert "target.json: gone or damaged" in report(run).read_text()


def test_dataset_that_is_gone_or_was_built_again(run: Path, dataset: Path) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    params = {**info["params"], "quality": 1}
    changed = {**info, "params": params, "build_id": build_id(params)}
    atomic.write_json(dataset / "dataset.json", changed)
    assert "was built again since the run" in report(run).read_text()
    (dataset / "dataset.json").unlink()
    assert "dataset.json: gone, though slides are there" in report(run).read_text()


def test_old_evaluation_is_called_old(evaluated: Path) -> None:
    path = evaluated / "evaluation" / "knn.json"
    assert "run the command again" not in report(evaluated).read_text()
    result = json.loads(path.read_text())
    result["model"]["step"] = 10
    atomic.write_json(path, result)
    assert (
        "Measured on the model of step 10. The newest checkpoint is of step 20"
        in report(evaluated).read_text()
    )


def test_figures_are_those_of_the_results(run: Path, linear: tuple[str, ...], tmp_path: Path) -> None:
    invoke(*linear, "--out-json", tmp_path / "mine.json")
    page = report(run).read_text()
    assert "Linear evaluation</h2>" not in page
    assert f"pathtrain evaluate linear {run.name}" in page
    page = report(run, results=[tmp_path / "mine.json"]).read_text()
    assert f"pathtrain evaluate linear {run.name}" not in page
    assert "From <code>mine.json</code>" in page
    result = json.loads((tmp_path / "mine.json").read_text())
    for row in result["results"]:
        for key in ("accuracy", "balanced"):
            low, high = row[f"{key}_interval"]
            assert f"<td>{row[key]:.3f}</td>" in page
            assert f"<td>{low:.3f} to {high:.3f}</td>" in page


def test_scores_of_a_runs_own_heads(run: Path) -> None:
    (run / "evaluation").mkdir()
    scores = {"organ": {"auroc": 0.912, "balanced_accuracy": None, "slides": 12}}
    atomic.write_json(run / "evaluation" / "tasks.json", scores)
    assert "<td>organ</td><td>0.912</td><td>-</td><td>12</td>" in report(run).read_text()


def test_a_result_of_an_exported_model(run: Path, linear: tuple[str, ...], tmp_path: Path) -> None:
    export(run, tmp_path / "model")
    invoke("linear", tmp_path / "model", *linear[2:], "--out-json", tmp_path / "mine.json")
    assert "Measured on model." in report(run, results=[tmp_path / "mine.json"]).read_text()


def test_results_that_cannot_be_shown(run: Path, linear: tuple[str, ...], tmp_path: Path) -> None:
    invoke(*linear, "--out-json", tmp_path / "mine.json")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "copy.json").write_bytes((tmp_path / "mine.json").read_bytes())
    for names, message in (
        (["nowhere"], "nowhere.json: no such file"),
        (
            ["other"],
            r"other.json: not a result of .* \(knn, linear, table exaonepath1, .*, collapse panels\)",
        ),
        (["mine", "copy"], r"copy.json: of the same evaluation as .*mine.json \(linear\)"),
    ):
        with pytest.raises(UsageError, match=message):
            report(run, results=[tmp_path / f"{name}.json" for name in names])


def test_results_of_another_version(run: Path, linear: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    invoke(*linear, "--out-json", path)
    whole = json.loads(path.read_text())
    for key in ("model", "majority"):
        atomic.write_json(path, {name: value for name, value in whole.items() if name != key})
        with pytest.raises(UsageError, match=r"mine.json: of another version \(.*\); run `pathtrain"):
            report(run, results=[path])


def test_errors(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ModelError, match="not a run"):
        report(tmp_path / "nothing")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "knn.json").write_text("{")
    with pytest.raises(UsageError, match=r"knn\.json: damaged"):
        report(run)
    (run / "evaluation" / "knn.json").unlink()
    with pytest.raises(UsageError, match="cannot be written"):
        report(run, run / "recipe.yaml" / "page.html")


def test_out(run: Path, tmp_path: Path) -> None:
    assert report(run) == run / "report.html"
    page = report(run, tmp_path / "deep" / "page.html")
    assert page.read_text().startswith("<!doctype html>")


def test_a_result_of_another_model_is_not_called_this_run(
    evaluated: Path, dataset: Path, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", dataset, steps=30)
    page = report(other, results=[evaluated / "evaluation" / "knn.json"]).read_text()
    assert "Measured on run." in page
    assert "this model" not in page
    assert "run the command again" not in page
    own = report(evaluated).read_text()
    assert "Measured on the model of step 20." in own
    assert "this model" in own

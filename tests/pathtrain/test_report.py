"""The run's page: complete, self-contained, readable in a real browser, and honest about what is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import check_page
from toys import noise, write_dataset, write_run
from typer.testing import CliRunner

from pathprep import atomic, stain
from pathprep.errors import UsageError
from pathprep.shards import build_id
from pathtrain.errors import ModelError
from pathtrain.evaluate.cli import app
from pathtrain.report import report


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {name: noise(12, side=48, seed=seed) for seed, name in enumerate(("a", "b", "c"))}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


@pytest.fixture
def evaluated(run: Path, dataset: Path, tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text("slide,label\na,<b>tumour</b>\nb,normal\nc,normal\n")
    common = ["--k", "5"]
    knn = ["knn", str(run), "--train", str(dataset), "--labels", str(tmp_path / "labels.csv"), *common]
    assert CliRunner().invoke(app, knn).exit_code == 0
    assert CliRunner().invoke(app, ["collapse", str(run), str(dataset), *common]).exit_code == 0
    return run


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (390, True)])
def test_page_in_a_browser(evaluated: Path, width: int, dark: bool) -> None:
    result = check_page(report(evaluated), width, None, dark)
    assert result.errors == []
    assert result.external == []
    assert result.broken == []
    assert result.without_alt == 0
    assert result.overflow == 0
    assert result.images == 4 * (1 + 2 + 4) + 1  # tiles and views, and the t-SNE
    for text in (
        "20 of 20",
        "Loss",
        "Teacher momentum",
        "random weights",
        "colour: mean and SD",
        "own share",
    ):
        assert text in result.text
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
        f"pathtrain evaluate knn {run}",
        f"pathtrain evaluate collapse {run}",
        "none yet",
    ):
        assert text in result.text


def test_the_stain_stage_is_shown(normalising: Callable[..., Path], target: stain.Target, run: Path) -> None:
    page = report(normalising(target, "stain.concentration=0.1")).read_text()
    assert page.count("its stain in training") == 4
    assert "normalised to the reference, concentration ±0.1" in page
    assert "cannot be shown" not in page
    plain = report(run).read_text()
    assert "its stain in training" not in plain
    assert "as stored" in plain


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
    assert "not a dataset (no dataset.json)" in report(run).read_text()


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

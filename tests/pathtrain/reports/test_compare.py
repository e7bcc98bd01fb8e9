"""The page of several runs: what is in it, what is said of runs that are unlike, and how browsers show it."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import check_page
from helpers.toys import TINY, noise, write_dataset, write_run
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.cli import app
from pathtrain.errors import ModelError
from pathtrain.recipes.load import dump, load
from pathtrain.reports.compare import compare
from pathtrain.runs.described import STEP_KEY
from pathtrain.runs.identity import TRAINING, VERSION_KEY

KNN = "probes.0={kind: knn, name: crc, every: 10, train: crc}"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", {"a": noise(4, 32)})


@pytest.fixture
def runs(tmp_path: Path, dataset: Path) -> tuple[Path, Path]:
    """Of equal folder names; the second has another rate, a probe in both, and no end."""
    first, second = (write_run(tmp_path / name / "run", dataset) for name in ("one", "two"))
    for run, settings in ((first, ["optim.lr=0.001"]), (second, ["optim.lr=0.002", "steps=40"])):
        (run / "recipe.yaml").write_text(dump(load("smoke", [*TINY, "steps=20", KNN, *settings])))
    append(first, {"step": 0, "knn_crc_accuracy": 0.25, "knn_crc_accuracy_colour": 0.375})
    append(first, {"step": 10, "knn_crc_accuracy": 0.75})
    append(first, {"step": 20, "loss": 9.0, "knn_crc_accuracy": 0.5, "of_tomorrow": 1.5})
    append(second, {"step": 20, "loss": 5.0, "knn_crc_accuracy": 0.6})
    return first, second


def append(run: Path, *rows: dict[str, Any]) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_figures_and_differences(runs: tuple[Path, Path], tmp_path: Path) -> None:
    found = compare(runs, tmp_path / "page.html")
    assert [run["name"] for run in found["runs"]] == ["one/run", "two/run"]
    accuracy = found["figures"]["knn_crc_accuracy"]
    assert accuracy["one/run"] == {"last": 0.5, "last_step": 20, "best": 0.75, "best_step": 10}
    assert accuracy["two/run"] == {"last": 0.6, "last_step": 20, "best": 0.6, "best_step": 20}
    loss = found["figures"]["loss"]["one/run"]
    assert (loss["last"], loss["best"], loss["best_step"]) == (9.0, pytest.approx(5.6), 20)
    assert found["figures"]["of_tomorrow"] == {"one/run": {"last": 1.5, "last_step": 20}}
    assert found["recipe"] == {
        "steps": {"one/run": 20, "two/run": 40},
        "optim.lr": {"one/run": 0.001, "two/run": 0.002},
    }
    assert found["data"] == {}
    assert found["notes"] == []
    page = (tmp_path / "page.html").read_text()
    for text in (
        "kNN accuracy [crc]",
        "of_tomorrow",
        "20 of 20 steps, finished",
        "20 of 40 steps, unfinished",
    ):
        assert text in page
    assert (
        page.count(">colour 0.375</text>") == 1
    )  # a level in its accuracy's chart, which has none of its own
    assert "<h3>kNN accuracy: colour alone" not in page


def test_what_makes_runs_unlike_is_said(runs: tuple[Path, Path], tmp_path: Path) -> None:
    third = write_run(tmp_path / "third", tmp_path / "other")
    (third / "log.jsonl").unlink()
    (third / "run.json").unlink()
    with (runs[0] / "log.jsonl").open("a") as file:
        file.write('{"step": 21, "lo\n[1]\n{"step": 22, "loss": 1')  # two damaged, and one cut off
    recipe = load("exaonepath2-tiny", ["probes.0={kind: knn, name: crc, every: 10, train: other}"])
    (third / "recipe.yaml").write_text(dump(recipe))
    notes = compare([*runs, third], tmp_path / "page.html")["notes"]
    assert notes == [
        "one/run: 2 lines of log.jsonl damaged, left out.",
        "third: nothing was logged yet.",
        "third: no run.json, so its data are not known.",
        "The methods differ (dino, hierarchical): so do their losses.",
        "They are trained on different tiles.",
        "The probe knn_crc is not the same in all: its figures are of different tiles.",
    ]


def test_what_differs_in_the_data_and_in_probes(runs: tuple[Path, Path], tmp_path: Path) -> None:
    info = json.loads((runs[1] / "run.json").read_text())
    info["dataset"] = "another"
    info["identity"] |= {"dataset build id": "another", "held-out slides": ["a", "b"]}
    atomic.write_json(runs[1] / "run.json", info)
    found = compare(runs, tmp_path / "page.html")
    assert found["data"]["dataset build id"]["two/run"] == "another"
    assert found["data"]["held-out slides"] == {"two/run": ["a", "b"]}
    assert found["notes"] == ["They are trained on different tiles."]
    (runs[1] / "recipe.yaml").write_text(dump(load("smoke", [*TINY, KNN, "seed=1"])))
    assert compare(runs, tmp_path / "page.html")["notes"][1:] == [
        "The probe knn_crc draws its tiles by the seed, which differs, if the set has more."
    ]


def test_runs_of_two_versions_and_of_two_starts(runs: tuple[Path, Path], tmp_path: Path) -> None:
    info = json.loads((runs[1] / "run.json").read_text())
    info["identity"] |= {VERSION_KEY: TRAINING, STEP_KEY: 300}
    atomic.write_json(runs[1] / "run.json", info)
    append(runs[1], {"step": 30, "steps": 10, "loss": 4.0})
    (runs[1] / "log.jsonl").write_text((runs[1] / "log.jsonl").read_text().splitlines()[-1] + "\n")
    found = compare(runs, tmp_path / "page.html")
    assert found["data"] == {VERSION_KEY: {"two/run": TRAINING}, STEP_KEY: {"two/run": 300}}
    assert found["notes"] == [
        "They were trained by versions of pathtrain whose steps differ (see CHANGELOG).",
        "one/run: rows of the log are of their last step, in the others means of their steps.",
    ]


def test_runs_that_cannot_be_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 run: give 2 or more"):
        compare(runs[:1])
    with pytest.raises(UsageError, match="one/run: given twice"):
        compare([*runs, runs[0] / ".." / "run"])
    with pytest.raises(ModelError, match="nowhere: not a run"):
        compare([*runs, tmp_path / "nowhere"])


def test_the_command(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page, result = tmp_path / "page.html", tmp_path / "result.json"
    done = CliRunner().invoke(
        app, ["compare", *map(str, runs), "--out", str(page), "--out-json", str(result), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(result.read_text())["page"] == str(page)
    assert json.loads(done.stdout) == json.loads(result.read_text())


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_page_in_a_browser(runs: tuple[Path, Path], tmp_path: Path, width: int, dark: bool) -> None:
    named = runs[0].rename(runs[0].parent / "<b>bold")
    compare([named, runs[1]], tmp_path / "page.html")
    result = check_page(tmp_path / "page.html", width, None, dark)
    assert (result.errors, result.external, result.broken, result.overflow) == ([], [], [], 0)
    for text in ("<b>bold", "run", "optim.lr", "0.002", "kNN accuracy [crc]"):
        assert text in result.text


def test_runs_without_a_log(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for run in runs:
        (run / "log.jsonl").unlink()
    compare(runs, tmp_path / "page.html")
    assert "None of the runs has logged anything yet" in (tmp_path / "page.html").read_text()

"""The command on features with a known answer: tables, files, the page in a browser, and what it refuses."""

import io
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.browser import check_page
from helpers.featured import key_bags, write_features, write_labels
from helpers.toys import noise, write_dataset
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.storage.seals import sealed
from pathtrain.cli import evaluations as app
from pathtrain.cli.evaluate_slides import tables
from pathtrain.evaluate.slide_level.benchmark import evaluate
from pathtrain.evaluate.slide_level.colour import colour
from pathtrain.evaluate.slide_level.figures import paint
from pathtrain.evaluate.slide_level.tasks import Missing, read_tasks
from pathtrain.features.bags import Bags
from pathtrain.params.slide_level import SlidesConfig, TrainConfig

PINK, BLUE = (220, 120, 180), (90, 90, 200)
COUNT = 18
SHORT = TrainConfig(epochs=2)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    bags, _ = key_bags(COUNT)
    named = {f"s{n:02}": bag[: 1 if n == 3 else 12] for n, bag in enumerate(bags)}
    return write_features(tmp_path / "model", named)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = [
        {
            "slide_id": f"s{n:02}",
            "patient_id": f"p{n}",
            "split": "train" if n < 12 else "test",
            "key": "<b>yes</b>" if n % 2 else "no",
            "hue": "pink" if n // 2 % 2 else "blue",
        }
        for n in range(COUNT)
    ]
    return write_labels(tmp_path / "labels.csv", rows)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The same slides, twelve tiles each, told apart by colour; with thumbnails."""
    slides = {f"s{n:02}": noise(12, colour=PINK if n // 2 % 2 else BLUE, seed=n) for n in range(COUNT)}
    root = write_dataset(tmp_path / "dataset", slides)
    for name in slides:
        marker = json.loads((root / "slides" / f"{name}.json").read_text())
        atomic.write_json(root / "slides" / f"{name}.json", sealed({**marker, "width": 320, "height": 64}))
        Image.new("RGB", (160, 32), PINK).save(root / "previews" / f"{name}.jpg")
    return root


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["slides", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.browser
def test_command_and_page(features: Path, labels: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    more = ["--labels", labels, "--dataset", dataset, "--out", out, "--seeds", 2, "--epochs", 2]
    done = run(features, *more)
    assert done.exit_code == 0, done.output
    assert "hue: 18 slides (blue 10, pink 8), fixed split" in done.stdout
    result = json.loads((out / "slides.json").read_text())
    key, hue = result["tasks"]
    rows = [(row["model"], row["method"]) for row in key["results"]]
    methods = ["clam-sb", "clam-mb", "abmil", "linear"]
    alone = [("colour", "linear"), ("colour+LBP", "linear")]
    assert rows == [*(("model", method) for method in methods), *alone]
    assert [len(row["auroc"]["seeds"]) for row in key["results"]] == [2, 2, 2, 1, 1, 1]
    assert hue["results"][-2]["auroc"]["mean"] == 1.0  # colour decides hue
    (over, _) = hue["results"][0]["leads"]
    assert (over["model"], over["auroc"]) == ("colour", hue["results"][0]["auroc"]["mean"] - 1)
    assert (key["slides"], key["patients"], key["test"]) == (18, 18, [6])
    assert (out / "bars.png").stat().st_size > 5000
    for width, dark in ((1200, False), (390, True)):
        page = check_page(out / "slides.html", width, None, dark)
        assert (page.errors, page.external, page.broken, page.without_alt) == ([], [], [], 0)
        assert page.overflow == 0
        # the chart, and per task the reliability and two slides, plain and with three methods
        assert page.images == 1 + 2 + 2 * 2 * (1 + 3)
        for text in (
            "colour: mean and SD",
            "AUROC of each less another",
            "<b>yes</b>",
            "18 labelled slides of 18 patients",
            "Attention",
        ):
            assert text in page.text
    again = run(features, *more, "--out-json", tmp_path / "again.json")
    assert again.exit_code == 0
    assert json.loads((tmp_path / "again.json").read_text()) == result  # the same seeds, the same numbers


def test_folds_several_models_and_a_missing_task(features: Path, labels: Path, tmp_path: Path) -> None:
    vectors = {f"s{n:02}": np.array([n % 2, n, 1.0], np.float32) for n in range(COUNT)}
    write_features(tmp_path / "slide-level", vectors)
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n- {name: Key, labels: labels.csv, column: key, positive: 'no'}\n"
        "- {name: Gone, labels: gone.csv, column: x}\n- {name: Hue, labels: labels.csv, column: hue}\n"
    )
    out = tmp_path / "evaluation"
    done = run(
        features, f"hipt={tmp_path / 'slide-level'}", "--labels", labels, "--tasks", tmp_path / "tasks.yaml",
        "--folds", 3, "--seeds", 1, "--epochs", 1, "--method", "clam-sb", "--method", "linear", "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "missing" in done.stdout
    assert f"Gone: no labels: {tmp_path / 'gone.csv'} is not there" in done.stdout
    key, gone, _ = json.loads((out / "slides.json").read_text())["tasks"]
    assert [(r["model"], r["method"]) for r in key["results"]] == [
        ("model", "clam-sb"), ("model", "linear"), ("hipt", "linear"),
    ]  # fmt: skip
    assert key["results"][2]["auroc"]["mean"] == 1.0  # its first number is the answer
    assert (key["split"], key["results"][0]["slides"], sum(key["test"])) == ("3 folds", 18, 18)
    assert gone["results"] == []
    assert (out / "radar.png").stat().st_size > 5000
    text = (out / "slides.html").read_text()
    assert "Missing: no labels" in text
    assert "give <code>--dataset</code>" in text


def open_all(features: Path, labels: Path) -> tuple[list[Bags], list[Any]]:
    bags = Bags.open(features)
    return [bags], read_tasks([labels], None, set(bags.counts))


def test_attention_is_of_test_slides_and_of_those_asked_for(features: Path, labels: Path) -> None:
    models, tasks = open_all(features, labels)
    config = SlidesConfig(methods=["clam-mb"], seeds=2, training=SHORT)
    shown = evaluate(models, tasks, config).attention
    assert [(one.task, one.slide) for one in shown] == [
        ("key", "s12"), ("key", "s13"), ("hue", "s12"), ("hue", "s14"),
    ]  # fmt: skip
    assert all(one.scores.shape == (12,) and 0.5 <= one.probability <= 1 for one in shown)
    asked = evaluate(models, tasks[:1], config, heatmaps=["s17", "s02"]).attention
    assert [one.slide for one in asked] == ["s17"]  # s02 is a training slide


def test_colour_is_the_mean_and_sd_of_all_pixels(dataset: Path) -> None:
    from pathtrain.data.whole_tiles import DatasetTiles
    from pathtrain.images import decode

    tiles = DatasetTiles(dataset)
    pixels = np.stack([decode(tiles.read(n), "") for n in range(12)]).reshape(-1, 3) / 255
    found = colour(dataset, ["s00"])["s00"]
    # bicubic resizing moves the SD of noise a little
    assert np.allclose(found[:3], pixels.mean(axis=0), atol=2e-3)
    assert np.allclose(found[3:6], pixels.std(axis=0), rtol=0.05)


def test_heat_map_paints_each_tile_by_rank() -> None:
    plain = np.full((20, 40, 3), 200, np.uint8)
    coords = np.array([[0, 0], [100, 0], [200, 0]])
    painted = paint(plain, coords, 100, np.array([1e9, 0.0, 1.0], np.float32), (0.1, 0.1))
    assert (painted[10:] == 200).all()
    assert (painted[:, 30:] == 200).all()
    red = painted[:10, :30, 0].astype(int) - painted[:10, :30, 2]
    assert red[:, :10].min() > 40  # highest
    assert red[:, 10:20].max() < -40  # lowest
    assert np.abs(red[:, 20:]).max() < 10  # in the middle, however far the highest is away
    assert (paint(plain, coords[:1], 100, np.ones(1, np.float32), (0.1, 0.1))[:10, :10] != 200).any()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            ["--method", "clam"],
            "`method` must be clam-sb, clam-mb, abmil, transmil, dsmil, mean-mlp or linear",
        ),
        (["--task", "nothing"], "`task` nothing: there is no such task; there are key, hue"),
        (["--heatmap", "s99"], "`heatmap` s99: no task has a label for it"),
        (["--folds", "40"], "`folds` 40: task key has 9 patients"),
        (
            ["--tasks", "ten"],
            "`tasks` ten: neither camelyon16-small or exaonepath2 or panda-small nor a YAML",
        ),
    ],
)
def test_wrong_options(more: list[str], error: str, features: Path, labels: Path, tmp_path: Path) -> None:
    done = run(features, "--labels", labels, "--out", tmp_path / "out", *more)
    assert isinstance(done.exception, UsageError)
    assert re.match(re.escape(error), str(done.exception))
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_compared(features: Path, labels: Path, dataset: Path, tmp_path: Path) -> None:
    models, tasks = open_all(features, labels)
    with pytest.raises(UsageError, match="two models are called model"):
        evaluate(models * 2, tasks)
    vectors = write_features(tmp_path / "v", {f"s{n:02}": np.ones(3, np.float32) for n in range(COUNT)})
    with pytest.raises(UsageError, match="one vector per slide, which `method` clam-sb cannot use"):
        evaluate([Bags.open(vectors)], tasks, SlidesConfig(methods=["clam-sb"]))
    with pytest.raises(UsageError, match="has no tile of slide t"):
        colour(dataset, ["s00", "t"])
    only = write_features(tmp_path / "w", {"other": np.ones(3, np.float32)})
    with pytest.raises(UsageError, match="share no slide"):
        raise run(features, only, "--labels", labels).exception or AssertionError


def test_tables_fit_80_columns(features: Path, labels: Path) -> None:
    models, tasks = open_all(features, labels)
    result = evaluate(
        models, tasks, SlidesConfig(methods=["clam-sb", "linear"], seeds=2, training=SHORT)
    ).result
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables(result))
    text = console.export_text()
    assert "…" not in text
    row = result["tasks"][1]["results"][0]["auroc"]
    for ends in (row["seeds_interval"], row["patients_interval"]):
        assert f"[{ends[0]:.3f}, {ends[1]:.3f}]" in text


def test_missing_tasks_need_no_slides(features: Path, labels: Path) -> None:
    models, tasks = open_all(features, labels)
    config = SlidesConfig(methods=["linear"])
    result = evaluate(models, [Missing("absent", "why"), tasks[1]], config).result
    assert [task["missing"] for task in result["tasks"]] == ["why", None]


def test_the_result_says_what_its_features_are_of(features: Path, labels: Path) -> None:
    models, _ = open_all(features, labels)
    facts = {"encoder": "uni", "fingerprint": "0" * 16, "readout": "cls"}
    with h5py.File(next(iter(models[0].paths.values())), "a") as file:
        file.attrs.update(facts)
    [said] = evaluate(models, [Missing("absent", "why")], SlidesConfig(methods=["linear"])).result["models"]
    assert {name: said[name] for name in facts} == facts
    assert said["licence"] is None

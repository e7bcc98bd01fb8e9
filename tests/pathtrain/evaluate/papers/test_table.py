"""A paper's table of evaluations whose figures are known: settings, means, leads, differences, failures."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.toys import write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.errors import DatasetError, UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.papers import kinds
from pathtrain.evaluate.papers.table import table
from pathtrain.evaluate.units import Scored, Units, compared
from pathtrain.reports.page import report
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load


class Fake:
    """A linear evaluation whose figures are those of a table by model and folder; counts its calls."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares, self.calls = shares, list[tuple[str, str, dict[str, Any]]]()

    def __call__(self, models: Any, source: Any, cache: Path | None, **settings: Any) -> Scored:
        (model,) = models
        name = Path(source["train"]).name
        self.calls.append((model.name, name, settings))
        if name == "mhist" and self.shares.get("broken"):
            raise DatasetError("mhist: the tar is damaged")
        rng = np.random.default_rng(len(name))
        units = {}
        for row in ("model", "colour"):
            share = self.shares[model.name] if row == "model" else 0.4
            right = (rng.random((20, 1)) < 0.2) * 0.1 + share
            units[row] = Units(tuple(map(str, range(20))), right, np.ones((20, 1)))
        found = compared(units, "accuracy", 0)
        rows = [{"name": name, **each} for name, each in found.items()]
        said = {"baselines": {}, "results": rows}
        return Scored(said, {(row, "accuracy"): each for row, each in units.items()})


@pytest.fixture
def models(tmp_path: Path) -> list[LoadedModel]:
    found = load(write_run(tmp_path / "run", tmp_path / "gone"))
    return [replace(found, name="ours"), replace(found, name="theirs", fingerprint="0" * 16)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    found = Fake({"ours": 0.8, "theirs": 0.7})
    monkeypatch.setitem(kinds.KINDS, "linear", replace(kinds.KINDS["linear"], run=found))
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in ("pcam", "mhist", "til"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").write_text("file,label\n")
    path = tmp_path / "study.yaml"
    tasks = {name: {"train": name} for name in ("pcam", "mhist", "til")}
    tasks["til"] = {**tasks["til"], "settings": {"iterations": 7}}
    path.write_text(yaml.safe_dump({"settings": {"seeds": 2}, "tasks": tasks}))
    return path


def test_figures_means_leads_and_differences(models: list[LoadedModel], fake: Fake, study: Path) -> None:
    result = table(models, study, iterations=9, device="cpu")
    assert (result["present"], result["missing"]) == (
        ["pcam", "mhist", "til"],
        ["crc-100k", "msi-crc", "msi-stad"],
    )
    settings = {name: given for model, name, given in fake.calls if model == "ours"}
    shared = {"seeds": 2, "iterations": 9, "device": "cpu", "seed": 0}
    assert settings == {
        "pcam": {**shared, "whole": True},
        "mhist": shared,
        "til": {**shared, "iterations": 7},  # the task's own
    }
    assert result["own_settings"] == {  # neither the paper's own, nor how it is run
        "pcam": {"seeds": 2, "iterations": 9},
        "mhist": {"seeds": 2, "iterations": 9},
        "til": {"seeds": 2, "iterations": 7},
    }
    ours = result["models"][0]
    assert [row["name"] for row in ours["rows"]] == ["model", "colour"]
    figures = ours["rows"][0]["figures"]
    assert ours["rows"][0]["mean"] == pytest.approx(sum(figures.values()) / 3)
    lead = ours["rows"][1]["leads"]["til"]
    assert lead["lead"] == pytest.approx(figures["til"] - ours["rows"][1]["figures"]["til"])
    assert lead["interval"][0] < lead["lead"] < lead["interval"][1]
    assert [each["column"] for each in result["differences"]] == ["pcam", "mhist", "til"]
    for each in result["differences"]:  # the same groups are right: the difference is exact
        assert (each["first"], each["second"]) == ("ours", "theirs")
        assert each["difference"] == pytest.approx(0.1)
        assert each["interval"] == pytest.approx([0.1, 0.1])
    own = next(row for row in result["published"] if row["own"])
    assert own["mean"] == pytest.approx((0.901 + 0.818 + 0.939) / 3)
    assert own["mean_of_all"] == pytest.approx(0.8607, abs=1e-4)
    virchow = next(row for row in result["published"] if row["name"] == "Virchow")
    assert virchow["mean"] is None  # without TIL its mean would be of other columns
    json.dumps(result)


def test_what_is_finished_is_not_made_again(
    models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"cache": tmp_path / "cache"}
    first = table(models[:1], study, **given)
    assert len(fake.calls) == 3
    again = table(models, study, **given)
    assert [call[0] for call in fake.calls[3:]] == ["theirs"] * 3
    assert again["models"][0] == first["models"][0]
    assert again["differences"][0]["interval"] == pytest.approx([0.1, 0.1])  # units were kept too
    table(models, study, seed=3, **given)  # other settings
    assert len(fake.calls) == 12
    (tmp_path / "til" / "labels.csv").write_text("file,label\nx,y\n")  # other data
    table(models, study, **given)
    assert [call[1] for call in fake.calls[12:]] == ["til", "til"]


def test_another_start_is_another_baseline(
    models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path
) -> None:
    export = replace(models[0], start=None)  # the same weights, but no start to be compared with
    for model in (export, models[0], models[0], replace(models[0], mpps=(0.25,))):
        table([model], study, cache=tmp_path / "cache")
    assert len(fake.calls) == 9


def test_the_seed_of_the_file(models: list[LoadedModel], fake: Fake, study: Path) -> None:
    values = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**values, "settings": {"seed": 5}}))
    table(models[:1], study)
    table(models[:1], study, seed=0)
    assert [settings["seed"] for *_, settings in fake.calls] == [5, 5, 5, 0, 0, 0]


def test_the_cache_of_the_file(
    models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts from the file's folder, and is no setting of a task."""
    values = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**values, "settings": {"cache": "kept"}}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    table(models[:1], study)
    table(models[:1], study)
    assert len(fake.calls) == 3
    assert len(list((tmp_path / "kept" / "results").iterdir())) == 3
    values["tasks"]["til"]["settings"] = {"cache": "kept"}
    study.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="til: `cache` is no setting of evaluate linear"):
        table(models[:1], study)


def test_one_that_fails_is_named_and_the_others_go_on(
    models: list[LoadedModel], fake: Fake, study: Path
) -> None:
    fake.shares = {**fake.shares, "broken": 1}
    result = table(models[:1], study)
    assert result["models"][0]["failed"] == {"mhist": "mhist: the tar is damaged"}
    assert (result["present"], "mhist" in result["missing"]) == (["pcam", "til"], True)
    assert result["models"][0]["rows"][0]["mean"] is not None


def test_files_and_figures(models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path) -> None:
    models = [replace(models[0], name="a|b_c & $1"), models[1]]
    fake.shares = {"a|b_c & $1": 0.9634, "theirs": 0.7}
    result = table(models, study, out=tmp_path / "out", figure=tmp_path / "deep" / "figure.png")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(
        [
            "table.md",
            "table.csv",
            "cells.csv",
            "table.tex",
            "table.json",
            "scatter.png",
            "bars.png",
            "radar.png",
        ]
    )
    text = (tmp_path / "out" / "table.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    width = rows[0].count("|")
    assert all(
        line.replace(r"\|", "").count("|") == width for line in rows[: 2 + 4 + len(result["published"])]
    )
    assert r"| a\|b_c & $1 | **0.9" in text
    assert "Not there: CRC-100K, MSI-CRC, MSI-STAD." in text
    with (tmp_path / "out" / "table.csv").open() as file:
        wide = {row["name"]: row for row in csv.DictReader(file)}
    assert float(wide["a|b_c & $1"]["pcam"]) == result["models"][0]["rows"][0]["figures"]["pcam"]
    assert wide["Virchow (published)"]["til"] == ""
    with (tmp_path / "out" / "cells.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 3
    tex = (tmp_path / "out" / "table.tex").read_text()
    assert r"a|b\_c \& \$1 & \textbf{0.9" in tex
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {4}
    assert json.loads((tmp_path / "out" / "table.json").read_text())["task"] == "table exaonepath1"
    for name in ("scatter", "bars", "radar"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.width > 500
    assert (tmp_path / "deep" / "figure.png").stat().st_size > 1000
    with pytest.raises(UsageError, match=r"`out` .*table\.md: is a file"):
        table(models, study, out=tmp_path / "out" / "table.md")


def test_a_table_without_a_figure_has_no_pictures(
    models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path
) -> None:
    """Nor keeps it those of the table that was there before."""
    values = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**values, "tasks": {"mhist": values["tasks"]["mhist"]}}))
    table(models[:1], study, out=tmp_path / "out")
    assert (tmp_path / "out" / "bars.png").is_file()
    fake.shares = {**fake.shares, "broken": 1}
    result = table(models[:1], study, out=tmp_path / "out", figure=tmp_path / "figure.png")
    assert result["present"] == []
    assert not list((tmp_path / "out").glob("*.png"))
    assert "ours, mhist: failed: mhist: the tar is damaged" in (tmp_path / "out" / "table.md").read_text()


def test_wrong_settings_names_and_models(
    models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"`iteratons`: no evaluation of this paper \(linear\) has it"):
        table(models, study, iteratons=3)
    with pytest.raises(UsageError, match="`models`: give one at least"):
        table([], study)
    with pytest.raises(UsageError, match="two models are called ours"):
        table([models[0], models[0]], study)
    values = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**values, "models": ["run", "run"]}))
    with pytest.raises(UsageError, match="models has run twice"):
        table([], study)
    values["tasks"]["til"]["settings"] = {"iteration": 7}
    study.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="til: `iteration` is no setting of evaluate linear"):
        table(models, study)
    assert fake.calls == []


def test_names_of_models(models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path) -> None:
    fake.shares = {"a": 0.5, "b": 0.6, "run": 0.7}
    run = tmp_path / "run"
    found = table([f"a={run}", f"b={run}", run], study)
    assert [entry["model"]["name"] for entry in found["models"]] == ["a", "b", "run"]
    values = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump({**values, "models": {"b": "run"}}))
    assert [entry["model"]["name"] for entry in table([], study)["models"]] == ["b"]


def test_several_processes_need_a_cache(
    models: list[LoadedModel], fake: Fake, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "x")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="`cache`: several processes"):
        table(models, study)


def test_command(models: list[LoadedModel], fake: Fake, study: Path, tmp_path: Path) -> None:
    fake.shares = {"run": 0.8, "broken": 1}
    given = ["--tasks", study, "--iterations", 20, "--baselines", "colour", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["table", *map(str, [tmp_path / "run", *given])], env={"COLUMNS": "100"})
    assert done.exit_code == 1, done.output  # mhist failed
    assert fake.calls[0][2] == {"seeds": 2, "iterations": 20, "baselines": "colour", "seed": 0, "whole": True}
    assert "run, mhist: failed: mhist: the tar is damaged" in done.stdout
    assert "EXAONEPath 1.0 (published)" in done.stdout
    kept = json.loads((tmp_path / "run" / "evaluation" / "table-exaonepath1.json").read_text())
    assert kept["present"] == ["pcam", "til"]
    assert (tmp_path / "out" / "table.md").is_file()
    page = report(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "EXAONEPath 1.0, table 1" in page
    assert "GigaPath, published" in page

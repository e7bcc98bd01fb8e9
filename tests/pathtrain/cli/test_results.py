"""What commands give: tables, JSON on stdout or in a file, and the options that made it."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.toys import noise, write_dataset, write_run
from typer.testing import CliRunner

from pathtrain.cli import app


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", {name: noise(8, seed=ord(name)) for name in "abc"})


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def invoke(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done


def test_json_of_every_command_that_has_a_result(run: Path, dataset: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "model", tmp_path / "deep" / "result.json"
    for command, key in (
        (("export", run, "--out", out), "fingerprint"),
        (("embed", run, dataset, "--out", tmp_path / "features"), "written"),
        (("evaluate", "collapse", run, dataset, "--k", 3, "--tsne-tiles", 3), "own_share"),
        (("report", run), "page"),
    ):
        printed = json.loads(invoke(*command, "--json", "--out-json", file).stdout)
        assert key in printed
        assert json.loads(file.read_text()).keys() == printed.keys()
        assert invoke(*command).stdout[:1] not in ("{", "")


def test_the_same_evaluation_again_from_what_was_kept(run: Path, dataset: Path) -> None:
    options = ("--k", 3, "--tiles-per-slide", 5, "--tsne-tiles", 3)
    invoke("evaluate", "collapse", run, dataset, *options)
    kept = run / "evaluation" / "collapse.json"
    first = json.loads(kept.read_text())
    kept.unlink()
    invoke("evaluate", "collapse", "--config", run / "evaluation" / "collapse.yaml")
    assert json.loads(kept.read_text()) == first
    other = json.loads(
        invoke(
            "evaluate", "collapse", "--config", run / "evaluation" / "collapse.yaml", "--k", 4, "--json"
        ).stdout
    )
    assert (first["k"], other["k"]) == (3, 4)


def test_a_result_kept_elsewhere_leaves_the_runs_options_alone(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    command = ("evaluate", "collapse", run, dataset, "--tiles-per-slide", 5, "--tsne-tiles", 3)
    invoke(*command, "--k", 3)
    options = (run / "evaluation" / "collapse.yaml").read_text()
    invoke(*command, "--k", 4, "--out-json", tmp_path / "other.json")
    assert (run / "evaluation" / "collapse.yaml").read_text() == options

"""Slides of one tile and of 20,000, through training, features and evaluation."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.hierarchies import SMALL, write_labels, write_slides
from typer.testing import CliRunner

from pathtrain.cli import app
from pathtrain.recipes.load import load
from pathtrain.training import logs
from pathtrain.training.pretrain import pretrain

SLIDE = "slide: {weight: 1.0, batch: 7, side: 16, class_weights: none, chunk: 256}"
PHASES = f"[{{name: slides, steps: 2, alternate: together, lr: 0.001, {SLIDE}}}]"


@pytest.mark.slow
def test_slides_of_one_tile_and_of_20_000(tmp_path: Path) -> None:
    more = {"one": 1, "huge": 20_000}
    dataset = write_slides(tmp_path / "dataset", more)
    labels = write_labels(tmp_path / "labels.csv", tuple(more))
    labels.write_text(labels.read_text().replace(",val,", ",test,").replace("b2,train", "b2,test"))
    # 7 slides are trained on: a step has all of them
    made = load("exaonepath2-tiny", [*SMALL, f"hierarchy.phases={PHASES}"])
    run = tmp_path / "run"
    pretrain(dataset, made, run, labels=labels)
    assert [np.isfinite(row["slide_loss"]) for row in logs.rows(run)] == [True] * 2

    def call(*words: object) -> None:
        found = CliRunner().invoke(app, [str(word) for word in words])
        assert found.exit_code == 0, found.output

    for level, rows in (("slide", {"one": 1, "huge": 1}), ("tile", more)):
        call("embed", run, dataset, "--level", level, "--out", tmp_path / level)
        for name, count in rows.items():
            with h5py.File(tmp_path / level / f"{name}.h5") as file:
                features = file["features"][:]
                assert len(features) == count
                assert np.isfinite(features).all()
    out = tmp_path / "evaluation"
    options = ("--labels", labels, "--task", "colour", "--seeds", 1, "--epochs", 2, "--out", out)
    call("evaluate", "slides", f"tiles={tmp_path / 'tile'}", f"slides={tmp_path / 'slide'}", *options)
    (task,) = json.loads((out / "slides.json").read_text())["tasks"]
    assert task["slides"] == 10
    assert {row["method"] for row in task["results"]} == {"clam-sb", "clam-mb", "abmil", "linear"}

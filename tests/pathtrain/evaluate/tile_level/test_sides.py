"""Which tiles are on which side: given sets, a set's own split, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.published_sets import breakhis
from helpers.toys import labelled_folder as folder
from helpers.toys import write_run
from typer.testing import CliRunner

import pathprep
from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.tile_level.knn import knn
from pathtrain.evaluate.tile_level.linear import linear, linear_scored
from pathtrain.evaluate.tile_level.sides import open_sides
from pathtrain.runs.opening import load

FEW = {"protocol": "eva", "lr": 0.01, "iterations": 60, "sgd_batch": 8, "seeds": 2, "baselines": "colour"}
NAMES = {f"g{number}": "pb"[number % 2] for number in range(12)}
PARTS = {name: ["train", "train", "val", "test"][number // 2 % 4] for number, name in enumerate(NAMES)}


def split_folder(path: Path, parts: dict[str, str], names: dict[str, str] = NAMES) -> Path:
    """A folder whose labels.csv has a column split."""
    folder(path, names)
    header, *rows = (path / "labels.csv").read_text().splitlines()
    made = [f"{header},split", *(f"{row},{parts[row.rpartition(',')[2]]}" for row in rows)]
    (path / "labels.csv").write_text("\n".join(made))
    return path


def opened(train: Path, val: Path | None = None, test: Path | None = None) -> Any:
    return open_sides(train, val, test, None, "auto", None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


def test_a_split_of_its_own(tmp_path: Path) -> None:
    sides = opened(split_folder(tmp_path / "set", PARTS))
    assert (sides.names, sides.scored, sides.own) == (["train", "val", "test"], "test", True)
    assert [int((values >= 0).sum()) for values in sides.labels.values] == [32, 8, 8]
    every = np.stack(sides.labels.values)
    assert ((every >= 0).sum(axis=0) == 1).all()
    assert sides.pair().names == ["train", "test"]
    other = {name: {"val": "validation", "test": "TEST"}.get(part, part) for name, part in PARTS.items()}
    assert opened(split_folder(tmp_path / "other", other)).names == ["train", "val", "test"]
    alone = opened(split_folder(tmp_path / "alone", dict.fromkeys(NAMES, "train")))
    assert (alone.names, alone.own, alone.scored) == (["train"], False, "train")


def test_tiles_of_other_partitions_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sides = opened(split_folder(tmp_path / "set", {**PARTS, "g0": "external"}))
    assert "tiles of partition external are on no side" in caplog.text
    assert int((sides.labels.values[0] >= 0).sum()) == 28


def test_partitions_that_are_no_sides_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folds = {name: f"fold{number % 2}" for number, name in enumerate(PARTS)}
    assert opened(split_folder(tmp_path / "set", folds)).names == ["train"]
    assert "its partitions fold0, fold1 are not used" in caplog.text


def test_what_is_refused(tmp_path: Path) -> None:
    """A group on two sides, a class that is not learnt, one class only, ``val`` alone."""
    leaking = split_folder(tmp_path / "leak", PARTS)
    text = (leaking / "labels.csv").read_text().replace("g4-0.png,p,g4,val", "g4-0.png,p,g0,val")
    (leaking / "labels.csv").write_text(text)
    with pytest.raises(
        UsageError, match=r"leak: shares group g0 between its partitions train and val \(1 in"
    ):
        opened(leaking)
    new = split_folder(tmp_path / "new", PARTS)
    text = (new / "labels.csv").read_text().replace("g6-0.png,p,", "g6-0.png,tumour,")
    (new / "labels.csv").write_text(text)
    with pytest.raises(
        UsageError, match="new: class tumour has no tile in partition train; label some or leave"
    ):
        opened(new)
    train, val = (
        folder(tmp_path / "train", {"a": "p", "b": "b"}),
        folder(tmp_path / "val", {"c": "p", "d": "b"}),
    )
    with pytest.raises(
        UsageError, match="`val` .*: without `test` nothing would be scored; give it as `test`"
    ):
        opened(train, val)
    with pytest.raises(UsageError, match="both training and test set"):
        opened(train, None, train)
    with pytest.raises(UsageError, match="shares groups c, d with .*val"):
        opened(train, val, folder(tmp_path / "again", {"c": "p", "d": "b"}))
    with pytest.raises(UsageError, match=r"one: labels of one class only \(\['p'\]\); two are needed"):
        opened(folder(tmp_path / "one", {"a": "p"}))


def test_a_class_without_a_tile_to_be_scored(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = folder(tmp_path / "train", NAMES), folder(tmp_path / "test", {"h": "p"})
    result = linear(load(run), train, test, **FEW)
    assert result["absent"] == ["b"]
    assert (
        "test: class b has no tile to be scored: balanced accuracy is the mean over the others" in caplog.text
    )
    assert result["results"][0]["per_class"]["b"]["recall"] is None
    assert knn(load(run), train, test, k=3, baselines="none")["absent"] == ["b"]


def test_eva_validates_and_says_on_what(run: Path, tmp_path: Path) -> None:
    result, units = linear_scored(load(run), split_folder(tmp_path / "set", PARTS), **FEW)
    assert result["published"] == "eva"
    assert result["protocol"] == "all of train to test, validated on val, the set's own split"
    assert (result["train_tiles"], result["val_tiles"], result["test_tiles"]) == (32, 8, 8)
    assert (result["resize"], result["crop"]) == (32, 32)
    assert result["differs"] == [
        "seeds 2, not 5",
        "lr 0.01, not 0.0003",
        "sgd_batch 8, not 256",
        "iterations 60, not 12500",
    ]
    model, colour = result["results"]
    assert colour["balanced"] > 0.9
    assert len(model["best_step"]) == len(model["validations"]) == 2
    for name in ("model", "colour"):
        for key in ("accuracy", "balanced", "brier"):
            row = next(each for each in result["results"] if each["name"] == name)
            assert units[name, key].figure(np.ones((1, 2)))[0] == pytest.approx(row[key])
    assert units["model", "balanced"].groups == ("g6", "g7")
    json.dumps(result)


def test_without_a_validation_part_the_scored_one_validates(run: Path, tmp_path: Path) -> None:
    """As eva has it, and said; an own set is not scored."""
    train, test = folder(tmp_path / "train", NAMES), folder(tmp_path / "test", {"h": "p", "i": "b"})
    val = folder(tmp_path / "val", {"j": "p", "k": "b"})
    result = linear(load(run), train, test, **FEW)
    assert result["protocol"] == "all of train to test, validated on test"
    assert result["differs"][-1].startswith("the tiles that choose the weights are those that are scored")
    assert linear(load(run), train, test, val=test, **FEW)["differs"] == result["differs"]
    apart = linear(load(run), train, test, val=val, **FEW)
    assert (apart["protocol"], apart["val_tiles"]) == ("all of train to test, validated on val", 8)
    assert len(apart["differs"]) == 4
    alone = linear(load(run), train, **FEW)
    assert alone["protocol"] == "80:20 by group; the 20 % validate and are scored"
    with pytest.raises(UsageError, match="`val` .*: `protocol` exaonepath validates nothing; leave it out"):
        linear(load(run), train, test, val=val, iterations=5)


def test_a_preset_is_evaluated_by_its_own_split(run: Path, tmp_path: Path) -> None:
    """Imported, then evaluated without naming a split: eva's patients, and the best of what is scored."""
    pathprep.import_tiles(breakhis(tmp_path / "set"), tmp_path / "data", preset="breakhis", workers=1)
    options = ["--protocol", "eva", "--iterations", "20", "--seeds", "2", "--baselines", "colour"]
    figure, out = tmp_path / "figure.png", tmp_path / "out.json"
    more = ["--per-class", "1", "--reliability", str(figure), "--out-json", str(out)]
    done = CliRunner().invoke(
        app,
        ["linear", str(run), "--train", str(tmp_path / "data"), *options, *more],
        env={"COLUMNS": "140"},
    )
    assert done.exit_code == 0, done.output
    assert "Linear evaluation as eva has it, all of train to val, validated on val" in done.stdout
    assert "AdamW lr 0.0003, weight decay 0.01" in done.stdout
    assert "Otherwise than eva: seeds 2, not 50; iterations 20, not 12500; per_class 1, not 10" in " ".join(
        done.stdout.split()
    )
    result = json.loads(out.read_text())
    assert (result["train_tiles"], result["test_tiles"], result["groups"]) == (4, 4, 4)
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = knn(load(run), tmp_path / "data", k=2, baselines="none")
    assert found["protocol"] == "train to val, the set's own split"
    assert found["test_tiles"] == 4

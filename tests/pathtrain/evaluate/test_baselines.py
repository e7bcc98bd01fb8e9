"""The start is what training began with; random networks are others; what cannot be had is named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import noise, write_dataset, write_run

from pathprep.errors import UsageError
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.evaluate.baselines import Beside
from pathtrain.methods.dino import Dino
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How
from pathtrain.recipes.load import dump
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs import checkpoint
from pathtrain.runs.export import export
from pathtrain.runs.model import Start
from pathtrain.runs.model_folder import write
from pathtrain.runs.opening import load
from pathtrain.runs.variants import started


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone", seed=7)


def test_start_is_the_student_that_training_begins_with(run: Path, tmp_path: Path) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    torch.manual_seed(recipe.seed)  # as training.pretrain
    student = Dino(recipe, 10, torch.device("cpu")).student["backbone"].state_dict()  # type: ignore[arg-type]
    export(run, tmp_path / "model")
    for model in (load(run), load(tmp_path / "model")):
        beside = Beside.of(model, BaselineParams(), seed=0)
        (start,) = beside.networks["start"]
        weights = start.module.state_dict()
        assert weights.keys() == student.keys()
        assert all(torch.equal(weights[name], student[name]) for name in weights)
        assert beside.about["random"]["seeds"] == [1, 2, 3]  # not the run's own, 0
        fingerprints = {each.fingerprint for of in beside.networks.values() for each in of}
        assert len(fingerprints) == 5


def test_start_from_a_file_and_a_start_that_is_gone(run: Path, tmp_path: Path) -> None:
    model = load(run)
    torch.save(model.module.state_dict(), tmp_path / "first.pth")
    known = replace(model, start=Start(str(tmp_path / "first.pth"), 0))
    beside = Beside.of(known, BaselineParams("start,random", 1), seed=0)
    assert beside.about == {"start": {"init": str(tmp_path / "first.pth")}, "random": {"seeds": [0]}}
    for gone, reason in (
        (Start(str(tmp_path / "gone.pth"), 0), "gone.pth cannot be read"),
        (None, "export it"),
    ):
        beside = Beside.of(replace(model, start=gone), BaselineParams("start,colour"), seed=0)
        assert list(beside.networks) == ["model"]
        assert reason in beside.about["start"]["missing"]


def test_start_from_another_run_is_its_checkpoint(run: Path, tmp_path: Path) -> None:
    later = write_run(tmp_path / "later", tmp_path / "gone", seed=3)
    recipe = load_recipe(later / "recipe.yaml", [f"model.init=run:{run}"])
    (later / "recipe.yaml").write_text(dump(recipe))
    info = json.loads((later / "run.json").read_text())
    info["identity"]["model.init step"] = 20  # as training writes it
    (later / "run.json").write_text(json.dumps(info))
    first, model = load(run), load(later)
    assert model.start == Start(f"run:{run}@20", recipe.seed)
    beside = Beside.of(model, BaselineParams("start"), seed=0)
    (start,) = beside.networks["start"]
    for name, weights in first.module.state_dict().items():
        assert torch.equal(start.module.state_dict()[name], weights)
    other = replace(model, start=Start(f"run:{run}@20", recipe.seed, "0" * 64))
    about = Beside.of(other, BaselineParams("start"), seed=0).about
    assert "checkpoint of step 20 is not that which later began with" in about["start"]["missing"]
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert "no such checkpoint" in Beside.of(model, BaselineParams("start"), seed=0).about["start"]["missing"]


def test_only_an_export_is_to_be_made_again(run: Path, tmp_path: Path) -> None:
    """Nobody can export a public encoder, or its random weights, again."""
    model = replace(load(run), run=None, start=None, name="m")
    for origin, end in (
        ("timm:vit_tiny", "began with$"),
        ("", "began with$"),
        (str(tmp_path), "; export it again"),
    ):
        with pytest.raises(ModelError, match=end):
            started(replace(model, origin=origin))


def test_what_is_chosen_is_what_is_made(run: Path, tmp_path: Path) -> None:
    tiles = DatasetTiles(write_dataset(tmp_path / "dataset", {"a": noise(6)}))
    beside = Beside.of(load(run), BaselineParams("random,lbp", 2), seed=5)
    found = beside.encode(tiles, np.arange(6), How())
    assert {name: [each.shape for each in of] for name, of in found.items()} == {
        "model": [(6, 24)],
        "random": [(6, 24)] * 2,
        "colour+LBP": [(6, 34)],
    }
    assert list(Beside.of(load(run), BaselineParams("none"), 0).encode(tiles, np.arange(6), How())) == [
        "model"
    ]
    with pytest.raises(UsageError, match="`baselines` strat: give some of start,random,colour,lbp, or none"):
        BaselineParams("strat")


def test_an_export_knows_the_name_of_its_start_only(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_run(tmp_path / "runs" / "other", tmp_path / "gone", seed=3)
    entry = checkpoint.entries(other)[-1]
    begun = Start(f"run:{other}@{entry.step}", 0, entry.sha256)
    write(replace(load(run), start=begun), run, tmp_path / "model")
    model = load(tmp_path / "model")
    assert str(tmp_path) not in str(model.start)
    message = "model: its training began with run:other@20, .* name only; give the run .* that holds other"
    with pytest.raises(ModelError, match=message):
        started(model)
    monkeypatch.chdir(other.parent)
    assert started(model).fingerprint == started(replace(load(run), start=begun)).fingerprint
    write_run(tmp_path / "elsewhere" / "other", tmp_path / "gone", seed=4)
    monkeypatch.chdir(tmp_path / "elsewhere")  # another run of that name
    with pytest.raises(CheckpointError, match="is not that which model began with"):
        started(model)


def test_an_export_takes_no_other_file_of_its_starts_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(run)
    write(replace(model, start=Start("/data/first.pth", 0)), run, tmp_path / "model")
    torch.save(model.module.state_dict(), tmp_path / "first.pth")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match="began with first.pth, of which an exported model has the name only"
    ):
        started(load(tmp_path / "model"))

"""What a run begins with: the hash of its first weights, and a scheme of positions that it keeps."""

import json
from pathlib import Path

import pytest
import torch
from helpers.public_layouts import Shape, hub
from helpers.toys import noise, write_dataset
from helpers.training import train

from pathprep.errors import UsageError
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.evaluate.baselines import started
from pathtrain.recipes.load import load
from pathtrain.runs import beginning
from pathtrain.runs.described import recipe_of
from pathtrain.runs.export import export
from pathtrain.runs.opening import load as load_model
from pathtrain.training.pretrain import pretrain

SHAPE = Shape(dim=24, depth=1, heads=2, grid=3, hidden=24)
NETWORK = (
    "model.name=vit_small_patch14_dinov2",
    "model.kwargs={img_size: 42, depth: 1, embed_dim: 24, num_heads: 2, mlp_ratio: 1.0001}",
    "views.globals.size=28",
    "views.locals.size=14",
    "model.positions=auto",
    "steps=4",
    "checkpoint.every=2",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("begin") / "dataset", {"a": noise(12), "b": noise(9, seed=2)}
    )


def test_a_file_is_part_of_what_a_run_is(dataset: Path, tmp_path: Path) -> None:
    """Compared where it lies when the run goes on; needed no more where it is gone."""
    weights, run = tmp_path / "weights.pth", tmp_path / "run"
    torch.save(hub(SHAPE), weights)
    begun = (*NETWORK, f"model.init={weights}")
    _, said = train(dataset, run, *begun, "steps=4", "optim.freeze_backbone_steps=1")
    assert f"starts from {weights}: the backbone, positions as hub; heads are new\n" in said
    assert "the backbone is frozen for the first 1 step\n" in said
    identity = json.loads((run / "run.json").read_text())["identity"]
    assert len(identity["model.init sha256"]) == 64
    assert identity["model.positions"] == recipe_of(run).model.positions == "hub"
    model = load_model(run)
    assert model.size == 28
    export(run, tmp_path / "model")
    assert load_model(tmp_path / "model").size == 28
    assert started(model).module is not None
    torch.save(hub(SHAPE, seed=1), weights)
    with pytest.raises(CheckpointError, match=r"model.init sha256 was \w+, is \w+"):
        train(dataset, run, *begun, "optim.freeze_backbone_steps=1")
    with pytest.raises(ModelError, match="weights.pth: not the weights that run began with"):
        started(model)
    weights.unlink()
    assert train(dataset, run, *begun, "optim.freeze_backbone_steps=1")[0].resumed_from == 4


def test_a_run_of_before_files_were_hashed_goes_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, run = tmp_path / "weights.pth", tmp_path / "run"
    torch.save(hub(SHAPE), weights)
    begun = (*NETWORK, f"model.init={weights}", "model.positions=hub")
    with monkeypatch.context() as before:
        before.setattr(beginning, "identity", lambda *_: {})
        train(dataset, run, *begun)
    assert train(dataset, run, *begun)[0].resumed_from == 4


def test_auto_from_a_run_is_that_runs(dataset: Path, tmp_path: Path) -> None:
    torch.save(hub(SHAPE), tmp_path / "weights.pth")
    train(dataset, tmp_path / "first", *NETWORK, f"model.init={tmp_path / 'weights.pth'}")
    train(dataset, tmp_path / "second", *NETWORK, f"model.init=run:{tmp_path / 'first'}")
    assert recipe_of(tmp_path / "second").model.positions == "hub"
    export(tmp_path / "first", tmp_path / "model")
    train(dataset, tmp_path / "third", *NETWORK, f"model.init={tmp_path / 'model'}")
    assert recipe_of(tmp_path / "third").model.positions == "hub"
    with pytest.raises(ModelError, match="auto knows no scheme for random"):
        pretrain(dataset, load("smoke", [*NETWORK, "model.init=random"]), tmp_path / "fourth")


@pytest.mark.parametrize("there", ["first", "model"])
def test_another_way_of_positions_is_said(dataset: Path, tmp_path: Path, there: str) -> None:
    small = (*NETWORK, "steps=1", "checkpoint.every=1")
    train(dataset, tmp_path / "first", *small, "model.positions=registers")
    export(tmp_path / "first", tmp_path / "model")
    init = f"model.init={'run:' if there == 'first' else ''}{tmp_path / there}"
    for scheme, told in (("once", True), ("auto", False)):
        _, text = train(dataset, tmp_path / scheme, *small, init, f"model.positions={scheme}")
        assert ("learnt with model.positions=registers, the recipe has once" in text) == told
        assert ("Set model.positions=registers" in text) == told


def test_a_start_that_is_frozen_to_the_end_is_refused(dataset: Path, tmp_path: Path) -> None:
    frozen = ("steps=null", "epochs=1", "optim.freeze_backbone_steps=100")
    with pytest.raises(UsageError, match=r"freeze_backbone_steps=100, and the run has \d+ steps: only heads"):
        train(dataset, tmp_path / "run", *NETWORK, *frozen, "model.positions=once")

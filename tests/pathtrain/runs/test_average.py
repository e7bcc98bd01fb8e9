"""The mean of a run's last encoders, against numpy in float64; plain timm opens it."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.toys import noise, write_dataset
from helpers.training import train
from typer.testing import CliRunner

from pathtrain.cli import app
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.models.folder import read_config
from pathtrain.runs import checkpoint, milestones
from pathtrain.runs.export import export
from pathtrain.runs.opening import load


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 6 and 8, milestones of 3, 6: steps 3, 6 and 8."""
    folder = tmp_path_factory.mktemp("average")
    dataset = write_dataset(folder / "dataset", {"a": noise(12), "b": noise(9, seed=2)})
    kept = "checkpoint={every: 6, keep: 2, milestones: 3}"
    train(dataset, folder / "run", "steps=8", kept, "optim.lr=0.01", "dino.momentum={start: 0.5, end: 0.5}")
    return folder / "run"


def test_the_mean_is_that_of_the_last_encoders(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "model", average=3)
    found = load(tmp_path / "model")
    assert (found.averaged, found.step) == ((3, 6, 8), 8)
    by_step = {e.step: checkpoint.read(run, e)["teacher"]["backbone"] for e in checkpoint.entries(run)}
    by_step[3] = load(dict(milestones.entries(run))[3]).module.state_dict()
    assert by_step.keys() == {3, 6, 8}
    for name, value in found.module.state_dict().items():
        each = [by_step[step][name].numpy().astype(np.float64) for step in (3, 6, 8)]
        expected = (sum(each) / 3).astype(np.float32)
        assert np.array_equal(value.numpy(), expected), name
        assert name.endswith("bias") or not np.array_equal(expected, each[2]) or value.ndim == 1, name
    assert read_config(tmp_path / "model")["averaged"] == [3, 6, 8]
    assert "| Mean of the encoders after steps | 3, 6, 8 |" in (tmp_path / "model" / "README.md").read_text()
    encoder = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    image = torch.rand(1, 3, 32, 32)
    assert torch.allclose(encoder(image), found.module(image), atol=1e-6)
    assert found.fingerprint != load(run).fingerprint


def test_the_command_says_which(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "model"), "--average", "2"])
    assert done.exit_code == 0, done.output
    assert "model: mean of steps 6, 8; timm.create_model(" in done.output


def test_fewer_than_asked_for_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"`average` 4: it has 3 encoders, of 3, 6, 8; give a smaller"):
        export(run, tmp_path / "model", average=4)
    with pytest.raises(ModelError, match="`average` 1: give 2 or more"):
        export(run, tmp_path / "model", average=1)
    with pytest.raises(ModelError, match="neither a run"):
        export(tmp_path, tmp_path / "model", average=2)
    assert not (tmp_path / "model").exists()


def test_a_damaged_checkpoint_is_not_left_out_silently(run: Path, tmp_path: Path) -> None:
    (entry,) = [entry for entry in checkpoint.entries(run) if entry.step == 6]
    path = checkpoint.folder(run) / entry.file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    try:
        with pytest.raises(CheckpointError, match="00000006.pt is damaged"):
            export(run, tmp_path / "model", average=2)
    finally:
        path.write_bytes(data)

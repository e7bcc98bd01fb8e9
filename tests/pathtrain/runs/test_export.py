"""Exports: plain timm gives the same features, and a half-written or foreign folder is never taken."""

import json
from pathlib import Path

import pytest
import timm
import torch
from helpers.toys import noise, write_run
from PIL import Image

from pathprep.errors import UsageError
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.runs.export import export
from pathtrain.runs.model import load, untrained


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "dataset")


@pytest.fixture
def model(tmp_path: Path, run: Path) -> Path:
    export(run, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("size", [32, 48])
def test_plain_timm_gives_the_same_features(run: Path, model: Path, size: int) -> None:
    images = torch.rand(3, 3, size, size)
    encoder = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    with torch.inference_mode():
        expected = load(run).module(images)
        assert torch.equal(encoder(images), expected)
        assert torch.equal(load(model).module(images), expected)
    assert expected.shape == (3, 24)


def test_timm_prepares_images_as_the_run_did(run: Path, model: Path) -> None:
    encoder = timm.create_model(f"local-dir:{model}", pretrained=True)
    data = timm.data.resolve_model_data_config(encoder)
    config = load(run).config
    assert (tuple(data["mean"]), tuple(data["std"])) == (config.mean, config.std)
    assert tuple(data["input_size"]) == (3, 32, 32)
    image = noise(1)[0]
    prepared = timm.data.create_transform(**data, is_training=False)(Image.fromarray(image))
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.mean, config.std))
    expected = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(prepared, expected)


def test_run_and_export_have_one_fingerprint(tmp_path: Path, run: Path, model: Path) -> None:
    assert load(run).fingerprint == load(model).fingerprint
    assert load(write_run(tmp_path / "other", tmp_path, seed=1)).fingerprint != load(run).fingerprint
    assert (load(run).run, load(run).step, load(model).run) == (run, 20, None)


def test_untrained_is_seeded_and_leaves_the_generator_alone(run: Path) -> None:
    model = load(run)
    before = torch.random.get_rng_state()
    first, again, other = (untrained(model, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.size == 32


def test_card_says_where_it_came_from(model: Path) -> None:
    card = (model / "README.md").read_text()
    for text in (
        "dino",
        "| Dataset build id | gone |",
        "batch: 32",
        "| Optimiser steps | 20 |",
        "vit_tiny_patch16_224",
    ):
        assert text in card


def test_files_and_nothing_left_beside_them(tmp_path: Path, run: Path, model: Path) -> None:
    (tmp_path / ".export-new~model").mkdir()  # left by an export that was killed
    export(run, model)
    assert sorted(path.name for path in model.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_earlier_export_is_replaced(tmp_path: Path, model: Path) -> None:
    other = write_run(tmp_path / "other", tmp_path, seed=1)
    export(other, model)
    assert load(model).fingerprint == load(other).fingerprint


def test_foreign_folder_is_not_overwritten(tmp_path: Path, run: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match="exists and is not an exported model; give another `out`"):
        export(run, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    with pytest.raises(UsageError, match="exists and is not an exported model"):
        export(run, run)


def test_failure_while_writing_leaves_the_old_export(
    run: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(model).fingerprint
    monkeypatch.setattr("pathtrain.runs.export._card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(run, model)
    assert load(model).fingerprint == before


def test_export_of_an_export(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match="already an exported model"):
        export(model, tmp_path / "twice")


def test_neither_run_nor_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither a run .* nor an exported model"):
        load(tmp_path)


def test_run_without_a_checkpoint(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load(run)


def test_damaged_exports(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ModelError, match="damaged"):
        load(model)
    (model / "model.safetensors").write_bytes(weights)
    config["model_args"]["depth"] = 2
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="damaged"):
        load(model)
    (model / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a timm model configuration"):
        load(model)


def test_the_card_counts_groups_of_imported_tiles(run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "slides": None, "groups": 365}))
    assert export(run, tmp_path / "model").slides is None
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| Groups | 365 |" in card
    assert "Slides" not in card

"""Exports: plain timm gives the same features, and a half-written or foreign folder is never taken."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from helpers.toys import TINY, noise, write_dataset, write_run
from PIL import Image
from typer.testing import CliRunner

import pathprep
import pathtrain
from pathprep.errors import UsageError, explain_os_error
from pathprep.stain import Target
from pathprep.storage import regular
from pathprep.storage.seals import sealed
from pathtrain.cli import app
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.models.backbone import build
from pathtrain.models.folder import read_config, read_weights
from pathtrain.recipes.load import dump
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs import checkpoint
from pathtrain.runs.export import export
from pathtrain.runs.model_folder import write
from pathtrain.runs.opening import load
from pathtrain.runs.variants import untrained
from pathtrain.stain.target import ModelTarget


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "dataset")


@pytest.fixture
def model(tmp_path: Path, run: Path) -> Path:
    export(run, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(("size", "scheme"), [(32, "once"), (48, "once"), (48, "hub"), (48, "registers")])
def test_plain_timm_gives_the_same_features(run: Path, tmp_path: Path, size: int, scheme: str) -> None:
    """At the grid's size to the bit; at another one if positions are resampled as timm does."""
    (run / "recipe.yaml").write_text(
        (run / "recipe.yaml").read_text().replace("positions: once", f"positions: {scheme}")
    )
    export(run, tmp_path / "model")
    images = torch.rand(3, 3, size, size)
    encoder = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    with torch.inference_mode():
        expected = load(run).module(images)
        assert torch.equal(load(tmp_path / "model").module(images), expected)
        theirs = encoder(images)
        assert torch.equal(theirs, expected) == (size == 32)
        assert torch.allclose(theirs, expected, atol=1e-5) == (size == 32 or scheme == "registers")
    assert expected.shape == (3, 24)


def test_dinov2s_grid_is_the_exports_too(tmp_path: Path) -> None:
    """518 px by its name alone, trained at 28 px: timm makes the same grid, and images are of 28 px."""
    recipe = load_recipe(
        "smoke",
        [
            "model.name=vit_small_patch14_reg4_dinov2",
            "model.kwargs={depth: 1, embed_dim: 24, num_heads: 2}",
            "model.positions=registers", "views.globals.size=28", "views.locals.size=14",
        ],
    )  # fmt: skip
    run = write_run(tmp_path / "run", tmp_path / "dataset")
    backbone = build(recipe.model)
    network = {"backbone": backbone.state_dict(), "head": {}}
    (run / "recipe.yaml").write_text(dump(recipe))
    checkpoint.save(run, {"step": 20, "student": network, "teacher": network}, 20, "config", keep=1)
    export(run, tmp_path / "model")
    opened = load(tmp_path / "model")
    assert (opened.size, load(run).size, opened.patch) == (28, 28, 14)
    assert opened.fingerprint == load(run).fingerprint
    assert opened.config.kwargs == recipe.model.kwargs
    encoder = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    assert encoder.patch_embed.grid_size == (37, 37)
    assert list(timm.data.resolve_model_data_config(encoder)["input_size"]) == [3, 28, 28]
    images = torch.rand(2, 3, 28, 28)
    with torch.inference_mode():
        assert torch.allclose(encoder(images), opened.module(images), atol=1e-5)


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
    monkeypatch.setattr("pathtrain.runs.model_folder._card", lambda *_: 1 / 0)
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


def test_no_flipped_bit_is_taken(model: Path) -> None:
    """Every byte of config.json; the header and a part of the numbers of model.safetensors."""
    for name, step in (("config.json", 1), ("model.safetensors", 97)):
        whole = (model / name).read_bytes()
        for place in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            (model / name).write_bytes(changed)
            with pytest.raises(ModelError, match=name):
                read_weights(model, read_config(model))
        (model / name).write_bytes(whole)
    read_weights(model, read_config(model))


def test_older_exports_are_compared_by_their_fingerprint(run: Path, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    older = {key: value for key, value in config.items() if key not in ("seal", "files", "version")}
    (model / "config.json").write_text(json.dumps(older))
    assert load(model).fingerprint == load(run).fingerprint
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="damaged .its fingerprint was"):
        load(model)


def test_a_seal_that_is_gone_is_damage(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    del config["seal"]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its seal is gone.; copy it again"):
        load(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_args": {"checkpoint_path": "evil.pth"}}, "'checkpoint_path' is not passed to timm"),
        ({"model_args": {"pretrained_cfg": {"file": "evil.pth"}}}, "'pretrained_cfg' is not passed to timm"),
        ({"model_args": {"cache_dir": "/tmp"}}, "'cache_dir' is not passed to timm"),
        ({"architecture": "hf_hub:someone/model"}, "is no name of a timm architecture"),
        ({"architecture": "local-dir:/tmp/model"}, "is no name of a timm architecture"),
        ({"model_args": {"depth": 10**9}}, "depth is beyond 1,000"),
        (
            {"model_args": {"embed_dim": 60000}},
            "is .24,., vit_tiny_patch16_224 with these arguments has .60000,",
        ),
        ({"model_args": {"img_size": {"a": 1}}}, "img_size is no number, text"),
        ({"model_args": []}, "damaged"),
        ({"pretrained_cfg": [1]}, "damaged"),
        ({"target": 3}, "config.json: Input should be"),
        ({"start": {"init": 1, "more": 2}}, "damaged"),
    ],
)
def test_a_model_folder_cannot_ask_timm_for_more_than_a_shape(
    model: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(sealed(config | change)))  # whoever made it can seal
    with pytest.raises(ModelError, match=message):
        load(model)


@pytest.mark.parametrize("header", [b"\xff" * 8, b"\0" * 8, b"\x10" + b"\0" * 7 + b"{" * 16, b""])
def test_weights_without_a_usable_header(model: Path, header: bytes) -> None:
    config = json.loads((model / "config.json").read_text())
    del config["files"]
    (model / "config.json").write_text(json.dumps(sealed(config)))
    (model / "model.safetensors").write_bytes(header)
    with pytest.raises(ModelError, match="model.safetensors: damaged"):
        load(model)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_who_may_not_read_is_told_so(model: Path) -> None:
    (model / "model.safetensors").chmod(0)
    with pytest.raises(ModelError, match="Permission denied; have the right to read it"):
        load(model)


def test_an_error_of_the_disk_is_not_damage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(regular, "read", denied)
    with pytest.raises(ModelError, match="Permission denied; have the right to read it given to you"):
        load(model)


def test_files_have_the_modes_that_the_user_asks_for(run: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export(run, tmp_path / "shared")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()} == {0o640}
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o750


def test_a_users_own_file_stays(run: Path, model: Path) -> None:
    (model / "notes.txt").write_text("for the paper")
    export(run, model)
    assert (model / "notes.txt").read_text() == "for the paper"


def test_thirty_exports_at_once_and_readers_meanwhile(tmp_path: Path, run: Path, model: Path) -> None:
    other = write_run(tmp_path / "other", tmp_path, seed=1)
    models = [pathtrain.load(run), pathtrain.load(other)]
    prints = {one.fingerprint for one in models}
    (model / "notes.txt").write_text("for the paper")
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, models[n % 2], (run, other)[n % 2], model) for n in range(30)]
        for _ in range(10):
            config = read_config(model)  # never absent, never half
            assert config["fingerprint"] in prints
        for writer in writers:
            writer.result()
    assert load(model).fingerprint in prints
    assert (model / "notes.txt").read_text() == "for the paper"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other", "run"]


def test_a_full_disk_is_one_line_and_the_old_export_is_there(
    run: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = load(model).fingerprint
    monkeypatch.setattr(os, "fsync", full)
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(model)])
    assert isinstance(result.exception, OSError)  # which the command's main explains
    assert "No space left on device; make room there" in explain_os_error(result.exception)
    assert "model.safetensors" in explain_os_error(result.exception)
    monkeypatch.undo()
    assert load(model).fingerprint == before


def test_no_path_of_the_machine_is_exported(tmp_path: Path, run: Path) -> None:
    private = tmp_path / "home" / "miller"
    recipe = load_recipe(
        "smoke",
        [
            *TINY,
            f"model.init=run:{private}/runs/first@20",
            "stain.mode=normalize",
            f"stain.target={private}/target.json",
            f"probes=[{{kind: rank, every: 5, dataset: {private}/data}}]",
        ],
    )
    (run / "recipe.yaml").write_text(dump(recipe))
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"dataset": str(private / "biopsies")}))
    ModelTarget.of(Target.default(), pathprep.open(write_dataset(tmp_path / "set", {}))).save(run)
    export(run, tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        assert b"miller" not in path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| Dataset | biopsies |" in card
    assert "init: run:first@20" in card


def test_the_card_counts_groups_of_imported_tiles(run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "slides": None, "groups": 365}))
    assert export(run, tmp_path / "model").slides is None
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| Groups | 365 |" in card
    assert "Slides" not in card

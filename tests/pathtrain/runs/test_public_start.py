"""Runs that start from a public encoder by its name."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers import public_encoders as encoders
from helpers.toys import TINY, noise, write_dataset

from pathprep.errors import UsageError
from pathtrain.errors import ModelError
from pathtrain.models.public import registry
from pathtrain.recipes.load import load
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.opening import load as load_model
from pathtrain.runs.public_start import named
from pathtrain.runs.variants import started
from pathtrain.training.pretrain import pretrain

SIZES = {"img_size": 32, "patch_size": 16, "depth": 1, "embed_dim": 24, "num_heads": 2}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Of an encoder "uni" that is as small as the toy recipe's network."""
    recipe = load("smoke", list(TINY))
    entry = registry.entries()["uni"]
    small = entry.model_copy(
        update={
            "timm": recipe.model.name,
            "arguments": SIZES,
            "mean": recipe.model.mean,
            "std": recipe.model.std,
        }
    )
    monkeypatch.setitem(registry.entries(), "uni", small)
    torch.save(encoders.drawn(timm.create_model(small.timm, num_classes=0, **SIZES)), tmp_path / "uni.pth")
    return tmp_path / "uni.pth"


def test_a_run_starts_from_an_encoder_by_name(weights: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", {name: noise(9, seed=n) for n, name in enumerate("ab")})
    settings = [*TINY, "model.init=uni", "steps=1", "batch=4", "probes=[]"]
    pretrain(dataset, "smoke", tmp_path / "run", settings=settings, weights=weights)
    model = load_model(tmp_path / "run")
    assert model.start is not None
    assert model.start.init == str(weights)
    first = started(model).module.state_dict()
    assert torch.equal(first["blocks.0.attn.qkv.weight"], torch.load(weights)["blocks.0.attn.qkv.weight"])
    again = pretrain(dataset, "smoke", tmp_path / "run", settings=settings, weights=weights)
    assert again.steps == 1  # the same command goes on


def of(encoder: str, **more: Any) -> ModelConfig:
    entry = registry.entries()[encoder]
    values = {
        "name": entry.timm,
        "kwargs": dict(entry.arguments),
        "mean": entry.mean,
        "std": entry.std,
        "init": encoder,
        **more,
    }
    return ModelConfig.model_validate(values)


@pytest.mark.parametrize(
    ("init", "becomes"),
    [
        ("uni2-h", "hf:MahmoodLab/UNI2-h"),
        ("public:uni2-h", "hf:MahmoodLab/UNI2-h"),
        ("hf-hub:MahmoodLab/UNI2-h@v1", "hf:MahmoodLab/UNI2-h@v1"),
        ("hf:MahmoodLab/UNI2-h", "hf:MahmoodLab/UNI2-h"),
        ("hf-hub:lab/other@x", "hf:lab/other@x"),
        ("random", "random"),
        ("run:runs/first", "run:runs/first"),
        ("weights.pth", "weights.pth"),
    ],
)
def test_names_become_places(init: str, becomes: str) -> None:
    assert named(of("uni2-h", init=init), None).init == becomes


def test_timms_are_timms_and_auto_is_the_encoders() -> None:
    found = named(of("dinov2-vits14", positions="auto"), None)
    assert (found.init, found.positions) == ("timm:vit_small_patch14_dinov2.lvd142m", "registers")
    assert named(of("phikon", positions="auto"), None).positions == "transformers"
    assert named(of("phikon", kwargs={"img_size": 112}), None).kwargs == {"img_size": 112}  # is resampled


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            of("uni2-h", kwargs={}),
            r"uni2-h is another network .* give --set model.name=vit_giant_patch14_reg4_dinov2 --set "
            r"model.kwargs='\{depth: 24, num_heads: 24, embed_dim: 1536, mlp_ratio: 5.33334, "
            r"init_values: 1.0e-05, reg_tokens: 8\}' ",
        ),
        (of("uni", name="vit_base_patch16_224"), "--set model.name=vit_large_patch16_224"),
        (of("h0-mini", mean=(0.5, 0.5, 0.5)), r"model.mean='\[0.707223, 0.578729, 0.703617\]'"),
        (of("conch"), r"conch \(ViT-B/16, attention pooling\) is for features alone"),
        (of("lunit-resnet50-bt", kwargs={}), "is for features alone"),
        (of("pathdino-512"), "not on the Hugging Face hub; fetch them from https://.*`weights` FILE"),
        (of("uni", init="public:nobody"), "no such public encoder"),
    ],
)
def test_what_does_not_go_together(model: ModelConfig, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        named(model, None)


def test_the_line_that_is_proposed_is_right() -> None:
    """Typed as it is, nothing is refused any more."""
    with pytest.raises(ModelError) as refused:
        named(load("smoke", ["model.init=h0-mini"]).model, None)
    settings = [part.strip().replace("'", "") for part in str(refused.value).split("--set ")[1:]]
    assert named(load("smoke", [*settings, "model.init=h0-mini"]).model, None).init == "hf:bioptimus/H0-mini"


def test_weights_for_what_is_no_public_encoder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a file alone is model.init=w.pth"):
        named(of("uni", init="random"), Path("w.pth"))
    with pytest.raises(ModelError, match="absent: no such file"):
        named(of("uni"), tmp_path / "absent")


def test_the_licence_of_a_start_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pathtrain")
    assert named(of("phikon"), None).init == "hf:owkin/phikon"
    assert caplog.messages == [
        "phikon: licence Owkin non-commercial, no commercial use (https://huggingface.co/owkin/phikon)"
    ]
    caplog.clear()
    named(of("phikon").model_copy(update={"init": "random"}), None)
    assert caplog.messages == []

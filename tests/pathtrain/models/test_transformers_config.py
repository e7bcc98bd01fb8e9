"""Folders that transformers itself wrote: opened without it, and giving what its modules give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pathtrain.errors import ModelError
from pathtrain.models.transformers_config import described
from pathtrain.runs.opening import opened

library = pytest.importorskip("transformers")

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 14}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Phikon": ("ViT", {"intermediate_size": 96}),
    "Phikon-v2": ("Dinov2", {}),
    "Midnight": ("Dinov2", {"use_swiglu_ffn": True}),
    "Hibou": ("Dinov2WithRegisters", {"num_register_tokens": 4}),
    "registers, SwiGLU": ("Dinov2WithRegisters", {"num_register_tokens": 2, "use_swiglu_ffn": True}),
}


def saved(folder: Path, kind: str, **more: Any) -> Any:
    """A small network of transformers with weights that are not as they begin, in a folder; and itself."""
    name, values = KINDS[kind]
    config = getattr(library, f"{name}Config")(**{**SIZES, "image_size": 56, **values, **more})
    torch.manual_seed(0)
    theirs = getattr(library, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    theirs.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.6, 0.7], "image_std": [0.2, 0.3, 0.4], "crop_size": 56})
    )
    return theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [56, 84])  # at its own grid, and at one that is resampled
def test_features_are_those_of_transformers(tmp_path: Path, kind: str, side: int) -> None:
    theirs = saved(tmp_path / "it", kind)
    model = opened(tmp_path / "it")
    assert (model.size, model.patch, model.dim, model.readout) == (56, 14, 48, "cls")
    assert (model.config.mean, model.config.std) == ((0.5, 0.6, 0.7), (0.2, 0.3, 0.4))
    tiles = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    images = model.normalised(torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255)
    options = {"interpolate_pos_encoding": True} if KINDS[kind][0] == "ViT" else {}
    with torch.no_grad():
        last = theirs(images, **options).last_hidden_state
        registers = KINDS[kind][1].get("num_register_tokens", 0)
        expected = torch.cat([last[:, 0], last[:, 1 + registers :].mean(1)], 1)
    assert np.abs(model(tiles) - expected[:, :48].numpy()).max() < 1e-5
    both = opened(tmp_path / "it", readout="cls+mean")
    assert np.abs(both(tiles) - expected.numpy()).max() < 1e-5
    assert both.fingerprint != model.fingerprint


def test_names_in_memory_are_read_as_well(tmp_path: Path) -> None:
    """Version 5 calls weights otherwise in memory, and torch.save writes those names."""
    for kind in ("Phikon", "Midnight"):
        theirs = saved(tmp_path / kind, kind)
        expected = opened(tmp_path / kind)
        names = theirs.state_dict()
        assert any("q_proj" in name for name in names)
        torch.save(names, tmp_path / f"{kind}.pth")
        model = opened(tmp_path / kind, tmp_path / f"{kind}.pth")
        assert model.fingerprint == expected.fingerprint
        del names[next(name for name in names if "q_proj.weight" in name)]
        torch.save(names, tmp_path / f"{kind}.pth")
        with pytest.raises(ModelError, match=r"lacks encoder.layer.0.attention.attention.query.weight"):
            opened(tmp_path / kind, tmp_path / f"{kind}.pth")


def test_a_norms_epsilon_is_the_files(tmp_path: Path) -> None:
    """1e-12 of ViTModel, 1e-6 of timm: of images without contrast it is all that a norm divides by."""
    saved(tmp_path / "it", "Phikon", layer_norm_eps=1e-3)
    module: Any = opened(tmp_path / "it").module
    assert (module.norm.eps, module.blocks[1].norm2.eps) == (1e-3, 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "swin"}, "is of a swin; known are vit, dinov2, dinov2_with_registers"),
        ({"model_type": None}, "of a model without model_type"),
        ({"hidden_act": "relu"}, "another activation than GELU"),
        ({"hidden_size": None}, "damaged"),
    ],
)
def test_configurations_that_are_something_else(change: dict[str, Any], message: str) -> None:
    values = {"model_type": "vit", "image_size": 28, "intermediate_size": 96, **SIZES, **change}
    with pytest.raises(ModelError, match=message):
        described(values, "it")

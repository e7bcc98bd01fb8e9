"""Architectures that timm lacks, with weights under the hub's names, against formulas written from these."""

from typing import Any

import pytest
import timm
import torch
from helpers import public_encoders as encoders
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from pathtrain.errors import ModelError
from pathtrain.models import readouts
from pathtrain.models.filling import fill
from pathtrain.models.networks.conch import Conch
from pathtrain.models.networks.ctranspath import ConvStem, ctranspath
from pathtrain.models.networks.musk import Musk

TRUNK: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("readout", ["cls", "mean", "patches"])
def test_musk_is_the_image_half_of_beit3(readout: str) -> None:
    state = encoders.musk()
    network = Musk(img_size=64, embed_dim=24, depth=2, num_heads=2).eval()
    filled = fill(network, state)
    assert {"vision_head.weight", "beit3.text_embed.weight", "logit_scale"} <= set(filled.left_out)
    assert "beit3.encoder.layers.1.ffn.B.fc1.weight" in filled.left_out
    images = torch.randn(2, 3, 64, 64)
    tokens = encoders.musk_forward(state, images, 2)
    expected = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1), "patches": tokens[:, 1:]}
    with torch.no_grad():
        close(readouts.features(network, images, readout), expected[readout])


def test_what_is_missing_of_musk_is_named() -> None:
    state = encoders.musk()
    del state["beit3.encoder.layers.1.self_attn.inner_attn_ln.A.bias"]
    state["beit3.encoder.layers.1.self_attn.relative.A.bias"] = torch.zeros(3)
    network = Musk(img_size=64, embed_dim=24, depth=2, num_heads=2)
    with pytest.raises(ModelError, match=r"lacks 1 weights \(blocks.1.inner_norm.bias\)"):
        fill(network, state)
    state["beit3.encoder.layers.1.self_attn.inner_attn_ln.A.bias"] = torch.zeros(24)
    with pytest.raises(ModelError, match=r"has too much: 1 weights .*self_attn.relative.A.bias"):
        fill(network, state)


def test_conch_is_the_image_tower_and_its_query() -> None:
    network = Conch(img_size=64, pooled=16, pool_heads=2, **TRUNK).eval()
    state = encoders.conch(encoders.drawn(network.trunk), 16, 24)
    filled = fill(network, state)
    assert {"visual.proj_contrast", "visual.attn_pool_caption.query", "text.token_embedding.weight"} <= set(
        filled.left_out
    )
    assert (readouts.own(network), readouts.width(network, "pooled"), readouts.width(network, "cls")) == (
        "pooled",
        16,
        24,
    )
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = network.trunk.forward_features(images)
        close(network(images), encoders.conch_pooled(state, tokens, 2))
        close(readouts.features(network, images, "cls"), tokens[:, 0])
        assert network(torch.randn(1, 3, 96, 96)).shape == (1, 16)  # its positions are resampled


def test_ctranspath_takes_the_files_of_old_timm() -> None:
    """Their downsampling is named a stage early, and tables lie among the weights."""
    torch.manual_seed(0)
    network, other = ctranspath().eval(), ctranspath().eval()
    weights = encoders.drawn(network)
    network.load_state_dict(weights)
    old = encoders.old_swin(weights)["model"]
    assert "layers.0.downsample.reduction.weight" in old
    fill(other, old)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(other(images), network(images))
        grid = readouts.features(network, images, "patches")
        assert grid.shape == (1, 49, 768)
        close(grid.mean(1), network(images))


def test_the_stem_is_two_strides_of_convolutions() -> None:
    stem = ConvStem(norm_layer=torch.nn.LayerNorm).eval()
    stem.load_state_dict(encoders.drawn(stem))
    w = {name: value.double() for name, value in stem.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    x = images.double()
    for conv, norm in ((0, 1), (3, 4)):
        x = torch.conv2d(x, w[f"proj.{conv}.weight"], stride=2, padding=1)
        mean, var = (w[f"proj.{norm}.running_{name}"][:, None, None] for name in ("mean", "var"))
        scale, shift = (w[f"proj.{norm}.{name}"][:, None, None] for name in ("weight", "bias"))
        x = ((x - mean) / (var + 1e-5).sqrt() * scale + shift).relu()
    x = torch.conv2d(x, w["proj.6.weight"], w["proj.6.bias"]).permute(0, 2, 3, 1)
    x = torch.nn.functional.layer_norm(x, (96,), w["norm.weight"], w["norm.bias"])
    with torch.no_grad():
        found = stem(images)
    assert found.shape == (2, 8, 8, 96)
    close(found, x)
    with pytest.raises(ValueError, match="patches of 4 px"):
        ConvStem(patch_size=8)


def test_reports_of_ctranspath_in_timms_own_swin() -> None:
    """Xiyue-Wang/TransPath issues 11, 32; hms-dbmi/CHIEF issue 45: unless strict, the stem stays random."""
    plain = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    assert isinstance(plain, SwinTransformer)
    with pytest.raises(
        ModelError, match=r"lacks 2 weights \(patch_embed.proj.bias, patch_embed.proj.weight\)"
    ):
        fill(plain, encoders.old_swin(encoders.drawn(ctranspath()))["model"])


def test_report_of_a_token_too_many() -> None:
    """openmedlab/PathoDuet issue 11: 198 positions for 196 patches; a plain transformer lacks that token."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TRUNK)
    state = encoders.drawn(network)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"]], dim=1)
    with pytest.raises(ModelError, match="fit|positions"):
        fill(network, state, "registers")
    with pytest.raises(ModelError, match="fit|positions"):
        fill(network, state)


def test_report_of_layer_scale_that_is_not_asked_for() -> None:
    """facebookresearch/ConvNeXt issue 51, and all who forget init_values: scales would be left out unsaid."""
    scaled = timm.create_model("vit_tiny_patch16_224", num_classes=0, init_values=1e-5, **TRUNK)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TRUNK)
    with pytest.raises(ModelError, match=r"has too much: 4 weights \(blocks.0.ls1.gamma, blocks.0.ls2.gamma"):
        fill(plain, encoders.drawn(scaled))
    with pytest.raises(ModelError, match=r"lacks 4 weights \(blocks.0.ls1.gamma"):
        fill(scaled, encoders.drawn(plain))


def test_a_shape_is_filled_with_weights_of_its_own() -> None:
    """On the meta device, in the network's type; the file's tensors may change afterwards."""
    with torch.device("meta"):
        shape = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TRUNK)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TRUNK).eval()
    weights = {name: value.half() for name, value in encoders.drawn(plain).items()}
    plain.load_state_dict(weights)
    fill(shape, weights)
    for value in weights.values():
        value.zero_()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(shape.eval()(images), plain(images))
    assert all(parameter.dtype == torch.float32 for parameter in shape.parameters())


def test_blocks_in_stages_are_no_chunks_of_a_transformer() -> None:
    """blocks.1.0. of EfficientNet looks like a chunk of DINOv2's training; it was renamed as one."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    weights = encoders.drawn(network)
    fill(network, {**weights, "classifier.weight": torch.zeros(2, 1280)})
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())

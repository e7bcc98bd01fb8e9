"""Read-outs: against tokens taken by hand, on every kind of network; and their precision under autocast."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from pathprep.errors import UsageError
from pathtrain.models import readouts

SMALL: dict[str, Any] = {"num_classes": 0, "img_size": 32, "depth": 3, "embed_dim": 48, "num_heads": 2}
NETWORKS = {
    "plain": ("vit_tiny_patch16_224", {}),
    "registers": ("vit_small_patch14_reg4_dinov2", {"patch_size": 16, "reg_tokens": 2}),
    "no CLS": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}),
    "rotary": ("vit_small_patch16_dinov3", {"img_size": 32}),
    "mean behind a norm": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
}


def network(kind: str) -> nn.Module:
    name, more = NETWORKS[kind]
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, dynamic_img_size=True, **{**SMALL, **more})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


def tokens(made: Any, images: Tensor) -> list[Tensor]:
    """All tokens after each block, in float64, before the last norm: by hooks, as the network runs itself."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *given: found.append(given[2])) for block in made.blocks]
    with torch.no_grad():
        made.double().forward_features(images.double())
    for hook in hooks:
        hook.remove()
    made.float()
    return found


@pytest.mark.parametrize("kind", ["plain", "registers", "rotary"])
@pytest.mark.parametrize("readout", ["cls", "mean", "cls+mean", "blocks:1", "blocks:3", "patches"])
def test_read_outs_are_these_tokens(kind: str, readout: str) -> None:
    made: Any = network(kind)
    images = torch.randn(2, 3, 32, 48)
    normed = [made.norm.double()(each) for each in tokens(made, images)]
    made.float()
    prefix = made.num_prefix_tokens
    assert normed[-1].shape[1] == prefix + 6
    last = normed[-1]
    expected = {
        "cls": last[:, 0],
        "mean": last[:, prefix:].mean(1),  # registers are no patches
        "cls+mean": torch.cat([last[:, 0], last[:, prefix:].mean(1)], 1),
        "blocks:1": last[:, 0],
        "blocks:3": torch.cat([each[:, 0] for each in normed], 1),
        "patches": last[:, prefix:],
    }[readout]
    readouts.fits(made, readout, "it")
    with torch.no_grad():
        found = readouts.features(made, images, readout)
    torch.testing.assert_close(found.double(), expected.detach(), atol=1e-4, rtol=1e-4)
    assert found.shape[-1] == readouts.width(made, readout)


def test_a_network_gives_its_own_read_out_by_itself() -> None:
    for kind, own in (
        ("plain", "cls"),
        ("registers", "cls"),
        ("mean behind a norm", "pooled"),
        ("no CLS", "pooled"),
    ):
        made = network(kind)
        images = torch.randn(1, 3, 32, 32)
        assert readouts.own(made) == own
        with torch.no_grad():
            assert torch.equal(readouts.features(made, images, own), made(images))


def test_convolutions_and_stages_give_their_mean_and_their_cells() -> None:
    for name, wide in (
        ("resnet18", 512),
        ("tf_efficientnet_lite0", 1280),
        ("swin_tiny_patch4_window7_224", 768),
    ):
        made = timm.create_model(name, num_classes=0).eval()
        images = torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            pooled, cells = (readouts.features(made, images, each) for each in ("pooled", "patches"))
        assert (readouts.own(made), pooled.shape, cells.shape[:2]) == ("pooled", (1, wide), (1, 49))
        torch.testing.assert_close(cells.mean(1), pooled, atol=1e-5, rtol=1e-4)
        with pytest.raises(
            UsageError, match=f"`readout` cls: {name} is no vision transformer; give pooled or"
        ):
            readouts.fits(made, "cls", name)


@pytest.mark.parametrize(
    ("kind", "readout", "message"),
    [
        ("plain", "clss", "'clss': give cls, mean, cls\\+mean, blocks:N, patches or pooled"),
        ("plain", "blocks:0", "give cls"),
        ("plain", "blocks:4", "it has 3 blocks; give blocks:3 at most"),
        ("plain", "pooled", "it pools nothing itself"),
        ("no CLS", "cls", "it has no CLS token; give mean, patches or pooled"),
    ],
)
def test_read_outs_that_a_network_has_not(kind: str, readout: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        readouts.fits(network(kind), readout, "it")


@pytest.mark.parametrize("readout", ["cls", "mean", "cls+mean", "blocks:2", "patches"])
@pytest.mark.parametrize("kind", ["plain", "registers"])
def test_under_autocast_the_norm_and_the_mean_are_in_float32(kind: str, readout: str) -> None:
    """What differs from float32 is what the blocks lost in bfloat16, about 1 %; it is not rounded again."""
    made = network(kind)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        exact = readouts.features(made, images, readout)
        with torch.autocast("cpu", torch.bfloat16):
            found = readouts.features(made, images, readout)
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())  # numbers between those of bfloat16
    assert (found - exact).norm() / exact.norm() < 0.03

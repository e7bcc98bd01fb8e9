"""What a patch stands for, against the tokens that networks give."""

import pytest
import timm
import torch
from torch import nn

from pathtrain.models.patches import stride


@pytest.mark.parametrize(
    ("name", "kwargs", "side"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8, "depth": 1}, 8),
        ("vit_tiny_r_s16_p8_224", {"img_size": 64, "patch_size": 4, "depth": 1}, 16),
        ("vit_tiny_r_s16_p8_224", {"img_size": 64, "patch_size": 8, "depth": 1}, 32),
    ],
)
def test_is_the_images_side_by_its_tokens(name: str, kwargs: dict[str, int], side: int) -> None:
    network = timm.create_model(name, num_classes=0, dynamic_img_size=True, **kwargs)
    tokens = network.forward_features(torch.zeros(1, 3, 64, 64)).shape[1] - 1
    assert stride(network) == side == 64 / tokens**0.5


def test_a_network_without_patches_does_not_say() -> None:
    assert stride(nn.Linear(1, 1)) is None
    assert stride(timm.create_model("resnet18")) is None

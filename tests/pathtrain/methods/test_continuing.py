"""DINOv2 from public weights and from runs: mask token and heads too; a frozen start trains heads alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.public_layouts import Shape, hub
from helpers.toys import noise, write_dataset

from pathtrain.data.block_masks import masks
from pathtrain.distributed.ranks import ALONE
from pathtrain.methods.dinov2 import Dinov2
from pathtrain.methods.masked import Masked
from pathtrain.models.positions import AsDino
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training.optim import adamw, rate_scales
from pathtrain.training.pretrain import pretrain
from pathtrain.training.step import Stepper

CPU = torch.device("cpu")
SHAPE = Shape(dim=24, depth=2, heads=2, grid=3, hidden=24, registers=2)
HEADS = "{out_dim: 16, hidden_dim: 16, bottleneck_dim: 8, layers: 2, norm_last_layer: false}"
SMALL = (
    "model.name=vit_small_patch14_dinov2",
    "model.kwargs={img_size: 42, depth: 2, embed_dim: 24, num_heads: 2, mlp_ratio: 1.0001, reg_tokens: 2,"
    " no_embed_class: true}",
    "model.positions=registers", "views.globals.size=56", "views.locals.size=28", "views.locals.count=2",
    "batch=4", f"dino.head={HEADS}", f"ibot.head={HEADS}",
    "dino.freeze_last_layer_steps=0", "optim.warmup_steps=0",
)  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(hub(SHAPE), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def batch() -> Any:
    rng = torch.Generator().manual_seed(0)
    views = [torch.randn(4, 3, side, side, generator=rng) for side in (56, 56, 28, 28)]
    drawn = torch.from_numpy(masks(np.arange(4), 4, 2, (4, 4), 0.5, (0.1, 0.5), False, 0))
    return SimpleNamespace(views=Masked(views, drawn), tiles=np.arange(4), wait=0.0)


def test_public_weights_give_both_networks_and_the_mask_token(weights: Path) -> None:
    method = Dinov2(load("midnight-tiny", [*SMALL, f"model.init={weights}"]), 10, CPU)
    state = hub(SHAPE)
    for network in (method.student, method.teacher):
        assert torch.equal(network["mask_token"].get_parameter("token"), state["mask_token"])
        assert torch.equal(network["backbone"].get_parameter("norm.weight"), state["norm.weight"])
        assert isinstance(network["backbone"], AsDino)
        assert network["backbone"].antialias


@pytest.mark.parametrize("more", [(), ("precision=bfloat16",), ("micro_batch=2",), ("dino.drop_path=0.5",)])
def test_a_frozen_start_trains_both_heads_alone(weights: Path, more: tuple[str, ...]) -> None:
    frozen = ("optim.freeze_backbone_steps=2", "optim.patch_embed_scale=0.2", "optim.layer_decay=0.5")
    recipe = load("midnight-tiny", [*SMALL, f"model.init={weights}", *frozen, *more])
    torch.manual_seed(0)
    method = Dinov2(recipe, 10, CPU)
    scales = rate_scales(method.student, recipe.optim)
    assert scales["mask_token.token"] == scales["backbone.reg_token"] == 0.125
    assert scales["backbone.patch_embed.proj.weight"] == 0.025
    optimizer = adamw(method.student, recipe.optim)
    stepper = Stepper(method, optimizer, recipe, ALONE, 10)
    first = {name: p.detach().clone() for name, p in method.student.named_parameters()}
    for number in range(3):
        assert stepper.take(batch(), number, stop=False).read().taken
        for part in ("backbone", "mask_token", "head", "patch_head"):
            own = method.student[part]
            moved = any(not torch.equal(p, first[f"{part}.{name}"]) for name, p in own.named_parameters())
            assert moved == (number == 2 or "head" in part), (part, number)
            known = [p in optimizer.state for p in own.parameters()]
            assert all(known) if moved else not any(known), (part, number)


@pytest.mark.parametrize("size", ["same", "larger"])
def test_post_training_takes_heads_and_teacher_of_a_run(weights: Path, tmp_path: Path, size: str) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"a": noise(6, 64), "b": noise(5, 64, seed=2)})
    run = ("steps=2", "checkpoint={every: 2, keep: 1}", "compile=false", "optim.lr=0.01")
    first = tmp_path / "first"
    pretrain(dataset, load("midnight-tiny", [*SMALL, *run, f"model.init={weights}"]), first)
    large = [
        "views.globals.size=84",
        "views.locals.size=42",
        "dino.momentum={start: 1, end: 1}",
        "optim.lr=1e-9",
    ]
    if size == "larger":
        large.append("model.kwargs.img_size=84")
    recipe = load("midnight-tiny", [*SMALL, *run, f"model.init=run:{first}", *large])
    pretrain(dataset, recipe, tmp_path / "second")
    before, after = (checkpoint.load(folder)["teacher"] for folder in (first, tmp_path / "second"))
    assert before.keys() == after.keys() == {"backbone", "head", "patch_head", "mask_token"}
    for part, state in before.items():
        for name, value in state.items():
            resampled = name == "pos_embed" and size == "larger"
            assert torch.equal(after[part][name], value) != resampled, (part, name)
    sides = {"same": 9, "larger": 36}
    assert after["backbone"]["pos_embed"].shape == (1, sides[size], 24)

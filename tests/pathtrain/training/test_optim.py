"""Rates by layer and parameters that stay, against timm's own groups and by hand."""

from typing import Any

import pytest
import timm
import torch
from helpers.hierarchies import FIRST, SMALL
from helpers.toys import TINY
from timm.optim import param_groups_layer_decay
from torch import nn

from pathtrain.errors import ModelError
from pathtrain.methods.dino import Dino
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.runs.identity import CHANGEABLE
from pathtrain.training.optim import adamw, layer_scales, schedule

CPU = torch.device("cpu")
HEADS = "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: true}"


def dino(*more: str) -> Dino:
    return Dino(load("smoke", [*TINY, HEADS, "model.kwargs.depth=3", *more]), 10, CPU)


@pytest.mark.parametrize("decay", [0.65, 0.9])
def test_factors_are_those_of_timm(decay: float) -> None:
    """With a classifier, so that timm counts L + 1 layers. The last norm is BEiT's, not timm's: factor 1."""
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    names = {id(p): name for name, p in vit.named_parameters()}
    theirs = {
        names[id(p)]: group["lr_scale"]
        for group in param_groups_layer_decay(vit, layer_decay=decay)
        for p in group["params"]
    }
    ours = layer_scales(nn.ModuleDict({"backbone": vit}), decay)
    assert {f"backbone.{name}" for name in theirs} == ours.keys()
    for name, factor in theirs.items():
        expected = 1.0 if name.startswith("norm.") else factor
        assert ours[f"backbone.{name}"] == pytest.approx(expected), name
    assert ours["backbone.blocks.0.attn.qkv.weight"] == pytest.approx(decay**12)
    assert ours["backbone.pos_embed"] == ours["backbone.patch_embed.proj.bias"] == pytest.approx(decay**13)


def test_a_step_scales_rates_and_decays_weights_alone() -> None:
    method = dino()
    optimizer = adamw(method.student, load("smoke").optim)
    assert [(g["decays"], g["lr_scale"]) for g in optimizer.param_groups] == [(True, 1.0), (False, 1.0)]
    optimizer = adamw(method.student, load("smoke", ["optim.layer_decay=0.5"]).optim)
    schedule(optimizer, lr=0.8, weight_decay=0.1)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    student = method.student
    expected = {
        "backbone.pos_embed": (0.05, 0.1),
        "backbone.patch_embed.proj.bias": (0.05, 0.0),
        "backbone.blocks.0.mlp.fc1.weight": (0.1, 0.1),
        "backbone.blocks.2.mlp.fc1.weight": (0.4, 0.1),
        "backbone.norm.weight": (0.8, 0.0),
        "head.mlp.0.weight": (0.8, 0.1),
    }
    assert {name: found[id(student.get_parameter(name))] for name in expected} == {
        name: (pytest.approx(lr), decay) for name, (lr, decay) in expected.items()
    }
    trained = [p for p in student.parameters() if p.requires_grad]
    assert len(found) == len(trained) == sum(len(g["params"]) for g in optimizer.param_groups)


def test_later_stages_and_heads_keep_the_whole_rate() -> None:
    recipe = load(
        "exaonepath2-tiny", [*SMALL, f"hierarchy.phases=[{FIRST}]", "model.freeze_patch_embed=true"]
    )
    assert isinstance(recipe, HierarchicalRecipe)
    student = Hierarchical(recipe, 4, CPU).student
    scales = layer_scales(student, 0.5)
    assert {value for name, value in scales.items() if not name.startswith("backbone.")} == {1.0}
    assert scales["backbone.blocks.0.norm1.weight"] == 0.5
    optimizer = adamw(student, recipe.optim)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(student.get_parameter("stage2.blocks.0.norm1.weight")) in held
    assert id(student.get_parameter("backbone.patch_embed.proj.weight")) not in held


def test_a_frozen_patch_embedding_stays_and_the_rest_learns() -> None:
    method = dino("model.freeze_patch_embed=true")
    optimizer = adamw(method.student, load("smoke", ["optim.layer_decay=0.7"]).optim)
    schedule(optimizer, lr=0.01, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in method.student.named_parameters()}
    images = [torch.randn(2, 3, size, size) for size in (32, 32, 16, 16, 16, 16)]
    torch.manual_seed(0)
    method.loss(images, 0).loss.backward()
    optimizer.step()
    method.follow(0.5)
    for name, p in method.student.named_parameters():
        same = torch.equal(p, before[name])
        assert same == (name.startswith("backbone.patch_embed") or not p.requires_grad), name
    teacher = method.teacher.get_parameter("backbone.patch_embed.proj.weight")
    assert torch.equal(teacher, before["backbone.patch_embed.proj.weight"])


def test_networks_without_layers_are_refused() -> None:
    plain: Any = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    assert set(layer_scales(plain, 1.0).values()) == {1.0}
    with pytest.raises(
        ModelError, match=r"optim.layer_decay: the backbone has no numbered blocks; set it to 1"
    ):
        layer_scales(plain, 0.9)


def test_groups_do_not_change_on_the_way() -> None:
    """The optimiser's state lies in them."""
    assert CHANGEABLE.match("optim.lr")
    assert not CHANGEABLE.match("optim.layer_decay")

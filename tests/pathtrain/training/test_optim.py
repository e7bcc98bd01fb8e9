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
from pathtrain.models.dino_head import DinoHead
from pathtrain.recipes.dino import HeadConfig
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.runs.identity import CHANGEABLE
from pathtrain.training.optim import adamw, clip_each, layer_scales, part_of, schedule

CPU = torch.device("cpu")
HEADS = "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: true}"


HEAD = HeadConfig(out_dim=8, hidden_dim=8, bottleneck_dim=4, layers=3, norm_last_layer=False)


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


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_groups_of_a_dinov2_network_are_those_of_a_table(name: str) -> None:
    """DINOv2's utils/param_groups.py and ssl_meta_arch.py, by hand: depth 2, decay .5, patches x .2."""
    vit = timm.create_model(name, num_classes=0, depth=2, img_size=28)
    student = nn.ModuleDict({"backbone": vit, "head": DinoHead(384, HEAD), "patch_head": DinoHead(384, HEAD)})
    student.register_parameter("mask_token", nn.Parameter(torch.zeros(1, 384)))
    config = load("smoke", ["optim.layer_decay=0.5", "optim.patch_embed_scale=0.2"]).optim
    optimizer = adamw(student, config)
    schedule(optimizer, 1.0, 0.04)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    found = {n: rates[id(p)] for n, p in student.named_parameters()}
    block = {
        "norm1.weight": 0, "norm1.bias": 0, "attn.qkv.weight": 0.04, "attn.qkv.bias": 0,
        "attn.proj.weight": 0.04, "attn.proj.bias": 0, "ls1.gamma": 0, "norm2.weight": 0, "norm2.bias": 0,
        "mlp.fc1.weight": 0.04, "mlp.fc1.bias": 0, "mlp.fc2.weight": 0.04, "mlp.fc2.bias": 0, "ls2.gamma": 0,
    }  # fmt: skip
    head = {
        "mlp.0.weight": 0.04, "mlp.0.bias": 0, "mlp.2.weight": 0.04, "mlp.2.bias": 0, "mlp.4.weight": 0.04,
        "mlp.4.bias": 0, "last_direction": 0.04, "last_length": 0.04,
    }  # fmt: skip
    table = {
        "mask_token": (0.125, 0.04),
        "backbone.cls_token": (0.125, 0.04),
        "backbone.pos_embed": (0.125, 0.04),
        "backbone.patch_embed.proj.weight": (0.025, 0.04),
        "backbone.patch_embed.proj.bias": (0.025, 0),
        **{f"backbone.blocks.0.{n}": (0.25, d) for n, d in block.items()},
        **{f"backbone.blocks.1.{n}": (0.5, d) for n, d in block.items()},
        "backbone.norm.weight": (1, 0),
        "backbone.norm.bias": (1, 0),
        **{f"{part}.{n}": (1, d) for part in ("head", "patch_head") for n, d in head.items()},
    }
    if "reg4" in name:
        table["backbone.reg_token"] = (0.125, 0.04)
    assert found == {n: (pytest.approx(lr), decay) for n, (lr, decay) in table.items()}


def test_a_network_without_patches_is_refused() -> None:
    plain: Any = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    with pytest.raises(ModelError, match=r"optim.patch_embed_scale: the backbone has no patch embedding"):
        adamw(plain, load("smoke", ["optim.patch_embed_scale=0.2"]).optim)


@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_gradients_of_a_network_are_clipped_as_torch_does(largest: float) -> None:
    names = ["backbone.a", "head.a", "backbone.b", "mask_token", "head.b"]
    rng = torch.Generator().manual_seed(0)
    grads = [torch.randn(3, 4, generator=rng, dtype=torch.float64) for _ in names]
    ours, theirs = (
        {n: nn.Parameter(torch.zeros_like(g)) for n, g in zip(names, grads, strict=True)} for _ in "ab"
    )
    for parameters in (ours, theirs):
        for p, grad in zip(parameters.values(), grads, strict=True):
            p.grad = grad.clone()
    norms = clip_each(ours.values(), largest, parts=[part_of(name) for name in names])
    assert norms.tolist() == pytest.approx([g.norm().item() for g in grads])  # before, each alone
    for part in (("backbone.a", "backbone.b", "mask_token"), ("head.a", "head.b")):
        nn.utils.clip_grad_norm_([theirs[n] for n in part], largest)
    for name in names:
        assert torch.allclose(ours[name].grad, theirs[name].grad, rtol=1e-12), name  # type: ignore[arg-type]


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
    assert CHANGEABLE.match("optim.clip_by")
    assert not CHANGEABLE.match("optim.layer_decay")
    assert not CHANGEABLE.match("optim.patch_embed_scale")

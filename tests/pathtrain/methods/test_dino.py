"""The DINO method and head: who gets gradients, who moves, and how."""

import pytest
import torch
from helpers.toys import TINY
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pathtrain.losses.dino import dino_loss
from pathtrain.methods.dino import Dino
from pathtrain.models.dino_head import DinoHead
from pathtrain.recipes.dino import HeadConfig
from pathtrain.recipes.load import load

CPU = torch.device("cpu")


def views(batch: int = 3, small: int = 4) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    sizes = [32, 32] + [16] * small
    return [torch.randn(batch, 3, size, size, generator=rng) for size in sizes]


def method(*overrides: str) -> Dino:
    torch.manual_seed(0)
    return Dino(load("smoke", [*TINY, *overrides]), 10, CPU)


@pytest.mark.parametrize(("layers", "linears"), [(1, 1), (2, 2), (3, 3)])
def test_head_layers(layers: int, linears: int) -> None:
    config = HeadConfig(out_dim=11, hidden_dim=7, bottleneck_dim=5, layers=layers, norm_last_layer=True)
    head = DinoHead(4, config)
    assert sum(isinstance(module, nn.Linear) for module in head.mlp) == linears
    assert head(torch.randn(3, 4)).shape == (3, 11)


def test_head_scores_are_cosines() -> None:
    config = HeadConfig(out_dim=200, hidden_dim=8, bottleneck_dim=4, layers=3, norm_last_layer=True)
    scores = DinoHead(6, config)(torch.randn(50, 6) * 100)
    assert scores.abs().max() <= 1 + 1e-6
    assert scores.abs().max() > 0.9


def test_last_layer_is_torchs_weight_normalisation() -> None:
    config = HeadConfig(out_dim=9, hidden_dim=8, bottleneck_dim=4, layers=2, norm_last_layer=False)
    head = DinoHead(6, config)
    nn.init.uniform_(head.last_length, 0.5, 2)
    linear = weight_norm(nn.Linear(4, 9, bias=False))
    linear.parametrizations.weight.original0.data.copy_(head.last_length)  # type: ignore[union-attr,operator]
    linear.parametrizations.weight.original1.data.copy_(head.last_direction)  # type: ignore[union-attr,operator]
    x = torch.randn(5, 6)
    expected = linear(nn.functional.normalize(head.mlp(x), dim=-1))
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_teacher_starts_as_the_student_and_gets_no_gradient() -> None:
    dino = method()
    dino.loss(views(), 0).loss.backward()
    for (name, mine), theirs in zip(dino.student.named_parameters(), dino.teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        assert theirs.grad is None
        assert (mine.grad is not None) == mine.requires_grad, name


def test_loss_is_that_of_views_sent_through_one_by_one() -> None:
    dino = method()
    images = views()
    student = torch.stack([dino.student["head"](dino.student["backbone"](view)) for view in images])
    teacher = torch.stack([dino.teacher["head"](dino.teacher["backbone"](view)) for view in images[:2]])
    outcome = dino.loss(images, 0)
    assert torch.allclose(
        outcome.loss, dino_loss(student, teacher, dino.center, 0.1, dino.schedule(0)["teacher_temp"])
    )
    assert torch.allclose(outcome.means["center"], teacher.mean(dim=(0, 1)), atol=1e-6)


def test_works_without_local_views() -> None:
    dino = method("views.locals.count=0", "views.locals.blur=[0]", "views.locals.solarise=[0]")
    assert torch.isfinite(dino.loss(views(small=0), 0).loss)


def test_update_moves_the_teacher_and_the_centre_by_their_momentum() -> None:
    dino = method("dino.momentum.start=0.9", "dino.momentum.end=0.9", "dino.center_momentum=0.5")
    before = [parameter.clone() for parameter in dino.teacher.parameters()]
    outcome = dino.loss(views(), 0)
    with torch.no_grad():
        for parameter in dino.student.parameters():
            parameter.add_(1)
    dino.update(outcome.means, 0)
    for old, new in zip(before, dino.teacher.parameters(), strict=True):
        assert torch.allclose(new, old + 0.1, atol=1e-6)
    assert torch.allclose(dino.center, outcome.means["center"] / 2)


def test_last_layer_is_frozen_for_its_steps_only() -> None:
    dino = method("dino.freeze_last_layer_steps=3")
    assert [bool(dino.frozen(step)) for step in range(5)] == [True, True, True, False, False]


def test_drop_path_is_in_the_student_only() -> None:
    dino = method("dino.drop_path=0.5", "model.kwargs.depth=3")
    images = views()
    assert not torch.equal(dino.loss(images, 0).loss, dino.loss(images, 0).loss)
    assert torch.equal(dino.loss(images, 0).means["center"], dino.loss(images, 0).means["center"])


def test_state_round_trip() -> None:
    dino, other = method(), Dino(load("smoke", TINY), 10, CPU)
    dino.update(dino.loss(views(), 0).means, 0)
    other.load_state(dino.state())
    assert torch.equal(dino.loss(views(), 1).loss, other.loss(views(), 1).loss)
    with pytest.raises(KeyError):
        other.load_state({"student": {}})

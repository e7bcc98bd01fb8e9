"""DINO's loss, centre, head and teacher against the lightly package's: forward and backward."""

import warnings

import pytest
import torch

from pathtrain.losses.dino import dino_loss, updated_center
from pathtrain.methods import schedules
from pathtrain.models.dino_head import DinoHead
from pathtrain.recipes.dino import HeadConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lightly's imports warn of their own age
    from lightly.loss import DINOLoss
    from lightly.models.modules.heads import DINOProjectionHead

K = 65


@pytest.mark.parametrize(("v", "g"), [(2, 2), (10, 2), (5, 1)])
def test_loss_gradient_and_centre_over_several_steps(v: int, g: int) -> None:
    rng = torch.Generator().manual_seed(v)
    theirs = DINOLoss(output_dim=K, student_temp=0.1, center_momentum=0.9)
    center = torch.zeros(K)
    for step in range(4):
        temp = schedules.linear(step, 3, 0.04, 0.07)
        teacher = torch.randn(g, 6, K, generator=rng) / 5
        mine = (torch.randn(v, 6, K, generator=rng) / 5).requires_grad_()
        other = mine.detach().clone().requires_grad_()
        ours = dino_loss(mine, teacher, center, 0.1, temp)
        ours.backward()
        center = updated_center(center, teacher.mean(dim=(0, 1)), 0.9)
        expected = theirs(list(teacher), list(other), teacher_temp=temp)
        expected.backward()
        assert float(ours.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        assert mine.grad is not None
        assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-6)
        assert torch.allclose(center, theirs.center.flatten(), atol=1e-7)


@pytest.mark.parametrize("normed", [True, False])
def test_head_forward_and_backward(normed: bool) -> None:
    config = HeadConfig(out_dim=K, hidden_dim=32, bottleneck_dim=16, layers=3, norm_last_layer=normed)
    head = DinoHead(24, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's old weight_norm, which lightly uses
        theirs = DINOProjectionHead(24, 32, 16, K, norm_last_layer=normed)
    for ours, layer in zip(
        (m for m in head.mlp if isinstance(m, torch.nn.Linear)),
        (m for m in theirs.layers if isinstance(m, torch.nn.Linear)),
        strict=True,
    ):
        layer.load_state_dict(ours.state_dict())
    theirs.last_layer.weight_v.data.copy_(head.last_direction)
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(7, K, generator=torch.Generator().manual_seed(1))
    mine, other = head(x), theirs(x)
    assert torch.allclose(mine, other, atol=1e-6)
    (mine * weights).sum().backward()
    (other * weights).sum().backward()
    assert head.last_direction.grad is not None
    assert torch.allclose(head.last_direction.grad, theirs.last_layer.weight_v.grad, rtol=1e-4, atol=1e-5)
    first = head.mlp[0].weight.grad
    assert isinstance(first, torch.Tensor)
    assert torch.allclose(first, theirs.layers[0].weight.grad, rtol=1e-4, atol=1e-4)  # entries are about 10
    assert (head.last_length.grad is None) == normed
    if not normed:
        assert torch.allclose(head.last_length.grad, theirs.last_layer.weight_g.grad, atol=1e-5)  # type: ignore[arg-type]

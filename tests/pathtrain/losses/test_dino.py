"""DINO's loss against the formula written out pair by pair in float64."""

import math

import numpy as np
import pytest
import torch

from pathtrain.losses.dino import dino_loss, dino_terms, updated_center
from pathtrain.losses.tasks import masked_cross_entropy
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.mil import bag_loss
from pathtrain.recipes.dino import HeadConfig


def plain(student: np.ndarray, teacher: np.ndarray, center: np.ndarray, ts: float, tt: float) -> float:
    """Every pair of a global teacher view and another student view, every tile, every output."""

    def softmax(x: np.ndarray) -> np.ndarray:
        powers = [math.exp(value - max(x)) for value in x]
        return np.array(powers) / sum(powers)

    terms = []
    for g in range(len(teacher)):
        for v in range(len(student)):
            if v == g:
                continue
            losses = []
            for b in range(student.shape[1]):
                q = softmax((teacher[g, b] - center) / tt)
                p = softmax(student[v, b] / ts)
                losses.append(-sum(q[k] * math.log(p[k]) for k in range(len(q))))
            terms.append(sum(losses) / len(losses))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("v", "g", "b", "k"), [(2, 2, 1, 2), (6, 2, 3, 5), (3, 1, 4, 7), (10, 2, 2, 33)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_formula(v: int, g: int, b: int, k: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(k)
    student, teacher, center = rng.normal(size=(v, b, k)), rng.normal(size=(g, b, k)), rng.normal(size=k) / 5
    ours = dino_loss(*(torch.tensor(x, dtype=dtype) for x in (student, teacher, center)), 0.1, 0.04)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    assert float(ours) == pytest.approx(plain(student, teacher, center, 0.1, 0.04), rel=tolerance)


def test_gradient_is_that_of_the_formula() -> None:
    """(softmax(s / t) - q) / t, averaged over pairs and tiles; none for the teacher."""
    rng = np.random.default_rng(0)
    student = torch.tensor(rng.normal(size=(3, 2, 4)), requires_grad=True)
    teacher = torch.tensor(rng.normal(size=(2, 2, 4)), requires_grad=True)
    center = torch.zeros(4, dtype=torch.float64)
    dino_loss(student, teacher, center, 0.1, 0.05).backward()
    p, q = torch.softmax(student / 0.1, -1), torch.softmax(teacher / 0.05, -1)
    expected = torch.stack([sum((p[v] - q[g]) / 0.1 for g in range(2) if g != v) for v in range(3)]) / (
        2 * 2 * 2
    )
    assert student.grad is not None
    assert torch.allclose(student.grad, expected)
    assert teacher.grad is None


def test_large_scores_stay_finite() -> None:
    """Cosines of 1 over a temperature of 0.0001 overflow a naive exponential."""
    student = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]])
    loss = dino_loss(student, student, torch.zeros(2), 1e-4, 1e-4)
    assert float(loss) == pytest.approx(2e4)


def test_uniform_outputs_cost_log_k() -> None:
    zeros = torch.zeros(4, 3, 8)
    assert float(dino_loss(zeros, zeros[:2], torch.zeros(8), 0.1, 0.04)) == pytest.approx(math.log(8))


def test_half_precision_is_computed_in_float32() -> None:
    rng = torch.Generator().manual_seed(0)
    student = torch.randn(4, 3, 300, generator=rng).bfloat16()
    loss = dino_loss(student, student[:2], torch.zeros(300), 0.1, 0.04)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, dino_loss(student.float(), student[:2].float(), torch.zeros(300), 0.1, 0.04))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_leaves_the_loss_as_it_is(dtype: torch.dtype) -> None:
    """To the bit that of no autocast, gradient included, and float32 is that of float64."""
    rng = torch.Generator().manual_seed(0)
    student = torch.randn(4, 3, 300, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    teacher, center = torch.randn(2, 3, 300, generator=rng).to(dtype), torch.zeros(300, dtype=dtype)
    found = []
    for reduced in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            terms = dino_terms(student, teacher, center, 0.1, 0.04)
            terms.each.mean().backward()
        assert all(value.dtype == dtype for value in terms)
        assert student.grad is not None
        found.append([*terms, student.grad.clone()])
        student.grad = None
    assert all(map(torch.equal, *found))
    exact = dino_terms(student.detach().double(), teacher.double(), center.double(), 0.1, 0.04)
    for value, true in zip(found[1], exact, strict=False):
        torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=1e-7)


def test_autocast_leaves_the_losses_of_slides_as_they_are() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = [torch.randn(c, generator=rng) for c in (2, 5)]
    labels, weights = torch.tensor([1, 3]), [torch.rand(c, generator=rng) for c in (2, 5)]
    exact = masked_cross_entropy([s.double() for s in scores], labels, [w.double() for w in weights])
    half = scores[1].bfloat16()  # as a linear layer gives them
    with torch.autocast("cpu", torch.bfloat16):
        tasks, bag = masked_cross_entropy(scores, labels, weights), bag_loss(half, 3)
    assert tasks.dtype == bag.dtype == torch.float32
    assert float(tasks) == pytest.approx(float(exact), rel=1e-6)
    assert float(bag) == pytest.approx(float(bag_loss(half.double(), 3)), rel=1e-6)


def test_autocast_leaves_the_cosines_of_the_head_as_they_are() -> None:
    """What comes out of its layers in bfloat16 is normalised and compared in float32."""
    config = HeadConfig(out_dim=50, hidden_dim=16, bottleneck_dim=8, layers=2, norm_last_layer=True)
    head, x = DinoHead(12, config), torch.randn(30, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found, inner = head(x), head.mlp(x)
    assert (found.dtype, inner.dtype) == (torch.float32, torch.bfloat16)
    directions = torch.nn.functional.normalize(head.last_direction.double(), dim=-1)
    exact = torch.nn.functional.normalize(inner.double(), dim=-1) @ directions.T
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("student", "teacher", "center"),
    [((4, 3, 8), (2, 2, 8), (8,)), ((4, 3, 8), (2, 3, 7), (8,)), ((4, 3, 8), (2, 3, 8), (7,))],
)
def test_shapes_that_do_not_fit(
    student: tuple[int, ...], teacher: tuple[int, ...], center: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="expected student"):
        dino_loss(torch.zeros(student), torch.zeros(teacher), torch.zeros(center), 0.1, 0.04)


@pytest.mark.parametrize(("v", "g"), [(1, 1), (2, 3), (2, 0)])
def test_no_pair_of_different_views(v: int, g: int) -> None:
    with pytest.raises(ValueError, match="views; got"):
        dino_loss(torch.zeros(v, 1, 4), torch.zeros(g, 1, 4), torch.zeros(4), 0.1, 0.04)


def test_center_is_a_moving_average() -> None:
    center = updated_center(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), 0.9)
    assert torch.allclose(center, torch.tensor([0.9, 0.2]))

"""DINO's loss against the formula written out pair by pair in float64."""

import math

import numpy as np
import pytest
import torch

from pathtrain.losses.dino import dino_loss, updated_center


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

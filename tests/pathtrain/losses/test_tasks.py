"""Losses of ordered classes and numbers against their formulas, and their gradients under autocast."""

import math

import numpy as np
import pytest
import torch

from pathtrain.losses.tasks import class_loss, number_loss, ordinal_loss, rank_probabilities
from pathtrain.models.ordinal import Thresholds, ordinal_head

LOGITS = torch.tensor([1.5, 0.2, -2.0], dtype=torch.float64)


@pytest.mark.parametrize("rank", range(4))
def test_coral_is_a_binary_loss_per_threshold(rank: int) -> None:
    expected = 0.0
    for number, logit in enumerate(LOGITS.tolist()):
        above = 1 / (1 + math.exp(-logit))
        expected -= math.log(above if rank > number else 1 - above)
    assert ordinal_loss(LOGITS, rank).item() == pytest.approx(expected, abs=1e-12)


def test_probabilities_of_ranks() -> None:
    above = 1 / (1 + np.exp(-LOGITS.numpy()))
    expected = [1 - above[0], above[0] - above[1], above[1] - above[2], above[2]]
    np.testing.assert_allclose(rank_probabilities(LOGITS), expected, atol=1e-15)
    wrong = rank_probabilities(torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, -1.0]]))  # out of order
    assert (wrong >= 0).all()
    assert wrong.sum(dim=1).tolist() == pytest.approx([1, 1])


def test_thresholds_start_in_order_and_share_the_score() -> None:
    head = Thresholds(4)
    assert head(torch.zeros(2, 1)).tolist() == [pytest.approx([1, 2 / 3, 1 / 3])] * 2
    assert sum(p.numel() for p in ordinal_head(10, 4).parameters()) == 10 + 3


@pytest.mark.parametrize(("loss", "expected"), [("mse", 9.0), ("huber", 2.5)])
def test_numbers(loss: str, expected: float) -> None:
    output = torch.tensor([4.0], requires_grad=True)
    found = number_loss(output, 1.0, loss)  # type: ignore[arg-type]
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == expected
    assert output.grad is not None
    assert output.grad.item() == (6.0 if loss == "mse" else 1.0)


def test_in_float32_under_autocast() -> None:
    half = LOGITS.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses = [
            ordinal_loss(half, 2),
            number_loss(half[:1], 0.3),
            class_loss(half, 1),
            rank_probabilities(half),
        ]
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert losses[0].item() == pytest.approx(ordinal_loss(half.double(), 2).item(), rel=1e-6)

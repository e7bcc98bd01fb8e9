"""Losses of slide-level tasks: classes, ordered classes, numbers; several tasks of which a slide knows some.

All in float32 also under autocast; float64 stays. Survival: pathtrain.losses.survival.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.losses.precision import wide

RegressionLoss = Literal["mse", "huber"]


def masked_cross_entropy(scores: Sequence[Tensor], labels: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The mean over the known tasks of a slide of the class's weight times its cross-entropy.

    The mean is over tasks, not over weights as in torch's weighted cross-entropy: balanced weights have a
    mean of 1 over the training slides, and divided by themselves they would be gone.

    The heads of unknown tasks get no gradient, so that the optimiser leaves them alone.

    Args:
        scores: per task (C,).
        labels: (T,) class numbers, -1 where unknown; at least one is known.
        weights: per task (C,).

    Returns:
        Scalar, in nats.
    """
    terms = []
    for score, label, weight in zip(scores, labels.tolist(), weights, strict=True):
        if label >= 0:
            terms.append(class_loss(score, label, weight))
    return torch.stack(terms).mean()


def class_loss(logits: Tensor, label: int, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of one slide times its class's weight: logits (C,), weight (C,)."""
    loss = -functional.log_softmax(wide(logits), dim=0)[label]
    return loss if weight is None else weight[label] * loss


def ordinal_loss(logits: Tensor, rank: int) -> Tensor:
    """CORAL (Cao, Mirjalili, Raschka 2020): the sum over thresholds of the binary cross-entropy of rank > k.

    Args:
        logits: (C - 1,), of being above each threshold; see pathtrain.models.ordinal.
        rank: 0 to C - 1.
    """
    above = (torch.arange(len(logits), device=logits.device) < rank).to(wide(logits).dtype)
    return functional.binary_cross_entropy_with_logits(wide(logits), above, reduction="sum")


def rank_probabilities(logits: Tensor) -> Tensor:
    """(..., C - 1) logits of being above each threshold -> (..., C) probabilities of the ranks.

    Thresholds in the wrong order are put right: being above a higher one cannot be likelier.
    """
    above = wide(logits).sigmoid().cummin(dim=-1).values
    ends = above.new_ones((*above.shape[:-1], 1))
    return torch.cat([ends, above], dim=-1) - torch.cat([above, torch.zeros_like(ends)], dim=-1)


def number_loss(output: Tensor, target: float, loss: RegressionLoss = "mse") -> Tensor:
    """Squared error, or Huber's (threshold 1), of a standardised target.

    Args:
        output: () or (1,), in standard deviations of the training slides.
        target: in the same unit.
    """
    output = wide(output).reshape(())
    wanted = torch.full_like(output, target)
    return functional.mse_loss(output, wanted) if loss == "mse" else functional.huber_loss(output, wanted)

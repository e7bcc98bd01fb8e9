"""Cross-entropy of several tasks of which a slide knows some."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.losses.precision import wide


def masked_cross_entropy(scores: Sequence[Tensor], labels: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The mean over the known tasks of a slide of the class's weight times its cross-entropy.

    In float32 also under autocast; float64 stays.

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
            terms.append(-weight[label] * functional.log_softmax(wide(score), dim=0)[label])
    return torch.stack(terms).mean()

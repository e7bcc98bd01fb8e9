"""Whether probabilities of classes are what they say: ECE, Brier score and the reliability curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pathtrain.evaluate.slide_level.measures import Fold

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS = 15  # Guo et al. 2017


def calibration(runs: Sequence[Sequence[Fold]]) -> dict[str, Any]:
    """Of each seed all folds together, then the mean over the seeds.

    Args:
        runs: per seed, per fold, of a task of classes.

    Returns:
        ``ece`` and ``brier``; and ``bins``: of each bin of confidence that has rows ``confidence`` (mean),
        ``accuracy`` and ``share`` of all rows, over all seeds.
    """
    eces, briers, sure, right = [], [], [], []
    for folds in runs:
        values = np.concatenate([fold.seeds[0] for fold in folds])
        labels = np.concatenate([fold.labels for fold in folds])
        eces.append(ece(values, labels))
        briers.append(brier(values, labels))
        sure.append(values.max(axis=1))
        right.append(values.argmax(axis=1) == labels)
    confidence, correct = np.concatenate(sure), np.concatenate(right)
    places = _bins(confidence)
    bins = [
        {
            "confidence": float(confidence[places == number].mean()),
            "accuracy": float(correct[places == number].mean()),
            "share": float((places == number).mean()),
        }
        for number in np.unique(places)
    ]
    return {"ece": float(np.mean(eces)), "brier": float(np.mean(briers)), "bins": bins}


def ece(values: Floats, labels: Ints) -> float:
    """Expected calibration error of the likeliest class, in 15 bins of equal width.

    Args:
        values: (n, C) probabilities. labels: (n,).
    """
    confidence, right = values.max(axis=1), values.argmax(axis=1) == labels
    places = _bins(confidence)
    gaps = np.bincount(places, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(labels))


def brier(values: Floats, labels: Ints) -> float:
    """Mean squared error of the probabilities: of two classes of the second's, of more summed over them."""
    wanted = np.eye(values.shape[1])[labels]
    squares = (values - wanted) ** 2
    return float(squares[:, 1].mean() if values.shape[1] == 2 else squares.sum(axis=1).mean())


def _bins(confidence: Floats) -> Ints:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)

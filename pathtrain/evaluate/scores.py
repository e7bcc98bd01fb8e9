"""AUROC and balanced accuracy over seeds and folds, with intervals over seeds and over patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from pathtrain.evaluate.common import LEVEL, interval
from pathtrain.evaluate.tasks import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Scored slides of one seed and fold.

    Attributes:
        rows: (c,) of the task's slides.
        probabilities: (c, C).
    """

    rows: Ints
    probabilities: Floats


class _Fold:
    """One run's slides, ready to be weighed: AUROC of any number of copies of each patient's slides."""

    def __init__(self, task: Task, predictions: Predictions) -> None:
        labels = task.labels[predictions.rows]
        self.patient = task.patient[predictions.rows]
        self.classes = len(task.classes)
        self.pairs: list[tuple[Ints, Ints, Floats]] = []
        # Two classes: the second is the positive one, and its curve is the mirror of the first's
        for number in [1] if self.classes == 2 else range(self.classes):
            positive, negative = np.flatnonzero(labels == number), np.flatnonzero(labels != number)
            score = predictions.probabilities[:, number]
            ahead = np.sign(score[positive][:, None] - score[negative][None, :])
            self.pairs.append((positive, negative, (ahead + 1) / 2))
        guesses = predictions.probabilities.argmax(axis=1)
        self.labels, self.right = labels, guesses == labels

    def auroc(self, copies: Floats) -> float:
        """Share of pairs in the right order, ties half; mean over classes that have both sides."""
        weights, values = copies[self.patient], []
        for positive, negative, ahead in self.pairs:
            total = weights[positive].sum() * weights[negative].sum()
            if total:
                values.append(float(weights[positive] @ ahead @ weights[negative] / total))
        return float(np.mean(values)) if values else float("nan")

    def balanced(self, copies: Floats) -> float:
        """Mean recall of the classes that are there."""
        weights = copies[self.patient]
        total = np.bincount(self.labels, weights, self.classes)
        right = np.bincount(self.labels, weights * self.right, self.classes)
        there = total > 0
        return float((right[there] / total[there]).mean()) if there.any() else float("nan")


Statistic = Callable[[_Fold, Floats], float]


def score(task: Task, runs: Sequence[Sequence[Predictions]], seed: int) -> dict[str, Any]:
    """Scores of one model and method on a task.

    Args:
        task: what was asked.
        runs: per seed, per fold.
        seed: of the bootstrap.

    Returns:
        JSON-able; for ``auroc`` (of several classes: mean of one against the rest) and
        ``balanced_accuracy`` each ``mean`` over seeds (of a seed: mean over its folds), ``sd`` over seeds,
        ``seeds`` (the values), ``seeds_interval`` (95 %, Student's t over seeds, clipped to 0 and 1; None
        for one seed) and ``patients_interval`` (95 %, bootstrap over the scored patients, of the mean over
        seeds). Beside them ``slides`` and ``patients``, the numbers that were scored.
    """
    folds = [[_Fold(task, predictions) for predictions in run] for run in runs]
    rows = np.unique(np.concatenate([predictions.rows for predictions in runs[0]]))
    scored = np.unique(task.patient[rows])
    result: dict[str, Any] = {"slides": len(rows), "patients": len(scored)}
    for name, statistic in (("auroc", _Fold.auroc), ("balanced_accuracy", _Fold.balanced)):
        each = _per_seed(folds, statistic, np.ones(len(task.patients)))
        draw = partial(_resampled, folds, statistic, scored, len(task.patients))
        result[name] = {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "seeds": each,
            "seeds_interval": over_seeds(each),
            "patients_interval": interval(draw, len(scored), seed),
        }
    return result


def _per_seed(folds: list[list[_Fold]], statistic: Statistic, copies: Floats) -> list[float]:
    found = [[statistic(fold, copies) for fold in run] for run in folds]
    # A resample may leave a fold without a class; its other folds still count
    return [float(np.nanmean(run)) if not np.isnan(run).all() else float("nan") for run in found]


def _resampled(
    folds: list[list[_Fold]], statistic: Statistic, scored: Ints, patients: int, sample: Ints
) -> float:
    copies = np.bincount(scored[sample], minlength=patients).astype(np.float64)
    return float(np.mean(_per_seed(folds, statistic, copies)))


def over_seeds(values: Sequence[float]) -> list[float] | None:
    """95 % interval of the mean by Student's t, clipped to 0 and 1; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.clip(np.mean(values) + side, 0, 1)) for side in (-half, half)]

"""AUROC and balanced accuracy over seeds and folds, with intervals over seeds and over patients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.evaluate.statistics import LEVEL, interval

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
    """One fold's slides, ready to be weighed: scores of any number of copies of each patient's slides.

    Of several seeds, which score the same slides, it gives the mean: both scores are linear in what is
    averaged here, so a resample costs the same for any number of seeds.
    """

    def __init__(self, task: Task, seeds: Sequence[Predictions]) -> None:
        rows = seeds[0].rows
        self.labels, self.patient = task.labels[rows], task.patient[rows]
        self.classes = len(task.classes)
        self.pairs: list[tuple[Ints, Ints, Floats]] = []
        # Two classes: the second is the positive one, and its curve is the mirror of the first's
        for number in [1] if self.classes == 2 else range(self.classes):
            positive, negative = np.flatnonzero(self.labels == number), np.flatnonzero(self.labels != number)
            columns = [one.probabilities[:, number] for one in seeds]
            ahead = [np.sign(p[positive][:, None] - p[negative][None, :]) for p in columns]
            self.pairs.append((positive, negative, (np.mean(ahead, axis=0) + 1) / 2))
        self.right = np.mean([one.probabilities.argmax(axis=1) == self.labels for one in seeds], axis=0)

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
    alone = [[_Fold(task, [one]) for one in run] for run in runs]
    together = [_Fold(task, seeds) for seeds in zip(*runs, strict=True)]
    scored = np.unique(np.concatenate([fold.patient for fold in together]))
    result: dict[str, Any] = {
        "slides": sum(len(fold.labels) for fold in together),
        "patients": len(scored),
    }
    for name, statistic in (("auroc", _Fold.auroc), ("balanced_accuracy", _Fold.balanced)):
        once = np.ones(len(task.patients))
        each = [_over_folds(folds, statistic, once) for folds in alone]
        draw = partial(_resampled, together, statistic, scored, len(task.patients))
        result[name] = {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "seeds": each,
            "seeds_interval": over_seeds(each),
            "patients_interval": interval(draw, len(scored), seed),
        }
    return result


def _over_folds(folds: list[_Fold], statistic: Statistic, copies: Floats) -> float:
    values = [value for fold in folds if not math.isnan(value := statistic(fold, copies))]
    # A resample may leave a fold without a class; its other folds still count
    return float(np.mean(values)) if values else float("nan")


def _resampled(folds: list[_Fold], statistic: Statistic, scored: Ints, patients: int, sample: Ints) -> float:
    copies = np.bincount(scored[sample], minlength=patients).astype(np.float64)
    return _over_folds(folds, statistic, copies)


def over_seeds(values: Sequence[float]) -> list[float] | None:
    """95 % interval of the mean by Student's t, clipped to 0 and 1; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.clip(np.mean(values) + side, 0, 1)) for side in (-half, half)]

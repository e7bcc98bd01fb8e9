"""AUROC and balanced accuracy over seeds and folds, with intervals over seeds and over patients."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pathtrain.evaluate.baselines import HANDMADE
from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.evaluate.statistics import figures, flat, mean_interval

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


Row = tuple[str, str]  # model and method
Asked = tuple[str, Row, Row | None]  # a score of a row, or its lead over another
Runs = Sequence[Sequence[Predictions]]  # per seed, per fold


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
STATISTICS: dict[str, Statistic] = {"auroc": _Fold.auroc, "balanced_accuracy": _Fold.balanced}


def score(task: Task, rows: Mapping[Row, Runs], seed: int) -> dict[Row, dict[str, Any]]:
    """Scores of every model and method on a task, and the lead of each over the others.

    Args:
        task: what was asked.
        rows: model and method -> per seed, per fold; all score the same slides.
        seed: of the bootstrap.

    Returns:
        JSON-able; for ``auroc`` (of several classes: mean of one against the rest) and
        ``balanced_accuracy`` each ``mean`` over seeds (of a seed: mean over its folds), ``sd`` over seeds,
        ``seeds`` (the values), ``seeds_interval`` (95 %, Student's t over seeds, clipped to 0 and 1; None
        for one seed) and ``patients_interval`` (95 %, over the scored patients, of the mean over seeds).
        Beside them ``slides`` and ``patients``, the numbers that were scored, and ``leads``: over each
        ``model`` and ``method`` that it ``competes`` with ``auroc`` and ``balanced_accuracy`` and their
        intervals, of one bootstrap for all, hence paired.
    """
    together = {row: [_Fold(task, seeds) for seeds in zip(*runs, strict=True)] for row, runs in rows.items()}
    folds = next(iter(together.values()))
    scored = np.unique(np.concatenate([fold.patient for fold in folds]))
    pairs = [(row, other) for row in rows for other in rows if competes(row, other)]

    def statistic(samples: Floats) -> dict[Asked, Floats]:
        copies = np.zeros((len(samples), len(task.patients)))
        copies[:, scored] = samples
        values: dict[Asked, Floats] = {
            (name, row, None): np.array([_over_folds(own, each, one) for one in copies])
            for row, own in together.items()
            for name, each in STATISTICS.items()
        }
        leads: dict[Asked, Floats] = {
            (name, row, other): values[name, row, None] - values[name, other, None]
            for row, other in pairs
            for name in STATISTICS
        }
        return {**values, **leads}

    asked: list[tuple[Row, Row | None]] = [*((row, None) for row in rows), *pairs]
    bounds: dict[Asked, tuple[float, float]] = {
        (name, row, other): (0.0 if other is None else -1.0, 1.0)
        for name in STATISTICS
        for row, other in asked
    }
    found = figures(statistic, len(scored), seed, bounds)
    result: dict[Row, dict[str, Any]] = {}
    for row, runs in rows.items():
        alone = [[_Fold(task, [one]) for one in run] for run in runs]
        once = np.ones(len(task.patients))
        result[row] = {"slides": sum(len(fold.labels) for fold in folds), "patients": len(scored)}
        for name, each in STATISTICS.items():
            values = [_over_folds(own, each, once) for own in alone]
            result[row][name] = {
                "mean": float(np.mean(values)),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "seeds": values,
                "seeds_interval": over_seeds(values),
                "patients_interval": found[name, row, None].interval,
            }
        result[row]["leads"] = [
            {
                "model": other[0],
                "method": other[1],
                **flat({name: found[name, row, other] for name in STATISTICS}),
            }
            for mine, other in pairs
            if mine == row
        ]
    return result


def competes(row: Row, other: Row) -> bool:
    """Whether one is to be compared with the other: with what pixels alone say, and with other models by the
    same method.
    """
    if row[0] in HANDMADE:
        return False
    return other[0] in HANDMADE or (other[0] != row[0] and other[1] == row[1])


def _over_folds(folds: list[_Fold], statistic: Statistic, copies: Floats) -> float:
    values = [value for fold in folds if not math.isnan(value := statistic(fold, copies))]
    # A resample may leave a fold without a class; its other folds still count
    return float(np.mean(values)) if values else float("nan")


def over_seeds(values: Sequence[float]) -> list[float] | None:
    """95 % interval of the mean by Student's t, clipped to 0 and 1; None for fewer than two values."""
    ends = mean_interval(values)
    return None if ends is None else [float(np.clip(end, 0, 1)) for end in ends]

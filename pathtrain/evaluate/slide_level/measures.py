"""One fold's scored rows, ready to be weighed: figures of any number of copies of each patient's rows.

Of several seeds, which score the same rows, a figure is the mean of theirs. Those of a bootstrap's samples
come together, as products of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.metrics import (
    comparable,
    concordance,
    explained,
    mean_error,
    median_rank,
    pearson,
    quadratic_kappa,
    spearman,
)
from pathtrain.params.tasks import TOLD

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BOUNDS: dict[str, tuple[float, float]] = {
    "auroc": (0, 1), "balanced_accuracy": (0, 1), "kappa": (-1, 1), "mae": (0, np.inf), "pearson": (-1, 1),
    "spearman": (-1, 1), "r2": (-np.inf, 1), "c_index": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """Scored rows of one seed and fold.

    Attributes:
        rows: (c,) of the task.
        values: (c, C) probabilities of classes or ranks, (c, 1) numbers or log hazards.
    """

    rows: Ints
    values: Floats


class Fold:
    """Some rows of a task and what one or several seeds say of them.

    Attributes:
        rows: (c,).
        patient: (c,) of each row.
        pairs: of classes, for each class that is told apart: rows that are of it, rows that are not, and for
            each pair the share of seeds in which the first is ahead, ties half.
    """

    def __init__(self, task: Task, seeds: Sequence[Predictions]) -> None:
        self.task, self.rows = task, seeds[0].rows
        self.patient, self.labels = task.patient[self.rows], task.labels[self.rows]
        self.numbers = None if task.numbers is None else task.numbers[self.rows]
        self.seeds = [one.values for one in seeds]
        self.pairs: list[tuple[Ints, Ints, Floats]] = []
        if task.kind == "classes":
            self._classes()
        if task.kind == "survival":
            assert self.numbers is not None
            self._comparable = comparable(self.numbers, self.labels)

    def figures(self, copies: Floats) -> dict[str, Floats]:
        """By name (R,), NaN where one is undefined.

        Args:
            copies: (R, patients), how often each patient is there.
        """
        weights = copies[:, self.patient]
        kind = self.task.kind
        if kind == "classes":
            return {"auroc": self._auroc(weights), "balanced_accuracy": self._balanced(weights)}
        found: dict[str, list[Floats]] = {name: [] for name in TOLD[kind]}
        for values in self.seeds:
            own = values[:, 0]
            if kind == "ordinal":
                guesses = median_rank(values)
                found["kappa"].append(quadratic_kappa(self.labels, guesses, values.shape[1], weights))
                found["mae"].append(mean_error(self.labels.astype(float), guesses.astype(float), weights))
            elif kind == "regression":
                assert self.numbers is not None
                for name, each in (
                    ("pearson", pearson),
                    ("spearman", spearman),
                    ("r2", explained),
                    ("mae", mean_error),
                ):
                    found[name].append(each(self.numbers, own, weights))
            else:
                found["c_index"].append(concordance(self._comparable, own, weights))
        return {name: np.mean(values, axis=0) for name, values in found.items()}

    def _classes(self) -> None:
        count = len(self.task.classes)
        # Two classes: the second is the positive one, and its curve is the mirror of the first's
        for number in [1] if count == 2 else range(count):
            positive, negative = np.flatnonzero(self.labels == number), np.flatnonzero(self.labels != number)
            columns = [values[:, number] for values in self.seeds]
            ahead = [np.sign(p[positive][:, None] - p[negative][None, :]) for p in columns]
            self.pairs.append((positive, negative, (np.mean(ahead, axis=0) + 1) / 2))
        self._of = np.eye(count)[self.labels]
        right = np.mean([values.argmax(axis=1) == self.labels for values in self.seeds], axis=0)
        self._right = self._of * right[:, None]

    def _auroc(self, weights: Floats) -> Floats:
        """Share of pairs in the right order, ties half; mean over classes that have both sides."""
        sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
        for positive, negative, ahead in self.pairs:
            own, other = weights[:, positive], weights[:, negative]
            total = own.sum(axis=1) * other.sum(axis=1)
            there = total > 0
            sums += np.divide(
                ((own @ ahead) * other).sum(axis=1), total, out=np.zeros(len(total)), where=there
            )
            counts += there
        return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))

    def _balanced(self, weights: Floats) -> Floats:
        """Mean recall of the classes that are there."""
        total = weights @ self._of
        recall = np.divide(weights @ self._right, total, out=np.zeros_like(total), where=total > 0)
        counts = (total > 0).sum(axis=1)
        return np.asarray(
            np.divide(recall.sum(axis=1), counts, out=np.full(len(counts), np.nan), where=counts > 0)
        )


def over_folds(folds: Sequence[Fold], copies: Floats) -> dict[str, Floats]:
    """The mean of the folds' figures: a sample may leave one without a class; the others still count."""
    found = [fold.figures(copies) for fold in folds]
    result = {}
    for name in found[0]:
        values = np.stack([own[name] for own in found])
        counts = np.isfinite(values).sum(axis=0)
        result[name] = np.divide(
            np.nansum(values, axis=0), counts, out=np.full(len(counts), np.nan), where=counts > 0
        )
    return result

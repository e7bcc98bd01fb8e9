"""Which slides train, which stop the training, which are scored; no patient on two sides.

    fixed       the CSV's train, val and test, for every seed
    folds       StratifiedGroupKFold over patients, drawn once: the same for all seeds, models and
                methods; by classes or ranks, events, or parts of the numbers

Without a fixed val part, each seed draws a fifth of the training patients, stratified, to stop the training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.metrics import comparable
from pathtrain.params.tasks import FIGURES, TOLD

Ints = npt.NDArray[np.int64]

VAL_FOLDS = 5  # a fifth of the training patients
TRIES = 20  # draws until every class is on both sides; with two patients of a class nearly every other is


@dataclass(frozen=True)
class Split:
    """Rows of a task's slides.

    Attributes:
        train: (a,) rows.
        val: (b,) rows; None if each seed draws them from ``train``.
        test: (c,) rows.
    """

    train: Ints
    val: Ints | None
    test: Ints


def splits(task: Task, folds: int | None) -> list[Split]:
    """The task's own parts, or folds.

    Args:
        task: with at least two classes.
        folds: number of folds; None takes the CSV's parts.

    Raises:
        UsageError: neither parts nor folds, both, no slide or class in a part that needs it, or fewer
            patients of a class than folds.
    """
    if folds is None:
        if task.parts is None:
            raise UsageError(
                f"task {task.name}: the labels have no column split (train, val, test); "
                "add one, or give `folds` 5"
            )
        rows = {part: np.flatnonzero(np.array(task.parts) == part) for part in ("train", "val", "test")}
        found = [Split(rows["train"], rows["val"] if len(rows["val"]) else None, rows["test"])]
    else:
        found = list(_folds(task, folds))
    for split in found:
        _check(task, split)
    return found


def _folds(task: Task, folds: int) -> Iterator[Split]:
    fewest = _fewest(task, np.arange(len(task.slides)))
    if not 2 <= folds <= fewest[1]:
        raise UsageError(
            f"`folds` {folds}: task {task.name} has {counted(fewest[1], 'patient')} of class {fewest[0]}; "
            f"give 2 to {fewest[1]}"
            if fewest[1] >= 2
            else f"task {task.name}: {fewest[1]} patient of class {fewest[0]}; folds need at least 2; "
            "`task` picks the tasks to run"
        )
    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    strata = task.strata[1]
    for train, test in drawn.split(strata, strata, task.patient):
        yield Split(train.astype(np.int64), None, test.astype(np.int64))


def hold_out(task: Task, train: Ints, seed: int) -> tuple[Ints, Ints]:
    """A fifth of the training patients (at most half of a class) to stop the training by.

    Args:
        task: whose rows they are.
        train: rows to divide.
        seed: of the draw.

    Returns:
        Rows to train on, rows to validate on; every class is in both.

    Raises:
        UsageError: a class has one patient only, or no draw has every class on both sides.
    """
    name, fewest = _fewest(task, train)
    if fewest < 2:
        raise UsageError(
            f"task {task.name}: {fewest} patient of class {name} to train on; at least 2 are needed, one of "
            "them to stop the training by, or a val part in the column split"
        )
    labels, patient = task.strata[1][train], task.patient[train]
    present = len(np.unique(labels))
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        drawn = StratifiedGroupKFold(
            min(VAL_FOLDS, fewest), shuffle=True, random_state=int(rng.integers(2**31))
        )
        for kept, held in drawn.split(labels, labels, patient):
            if len(np.unique(labels[held])) == len(np.unique(labels[kept])) == present:
                return train[kept], train[held]
    raise UsageError(
        f"task {task.name}: too few patients of class {name} ({fewest}) to hold some of each class out; "
        "fix a val part in the column split"
    )


def _fewest(task: Task, rows: Ints) -> tuple[str, int]:
    """The class (or stratum) with the fewest patients, of slides with that label, and how many.

    Ranks that no slide has do not count, nor does it if all or none had an event.
    """
    names, numbers = task.strata
    there = np.arange(len(names)) if task.kind == "classes" else np.unique(numbers)
    counts = [len(np.unique(task.patient[rows][numbers[rows] == c])) for c in there]
    # StratifiedGroupKFold warns by slides, of which there are at least as many
    number = int(np.argmin(counts))
    return names[there[number]], counts[number]


def _check(task: Task, split: Split) -> None:
    for part, rows in (("train", split.train), ("val", split.val), ("test", split.test)):
        if rows is None:
            continue
        if task.kind in ("classes", "ordinal"):
            there = set(task.labels[rows].tolist())
            needed = set(range(len(task.classes))) if task.kind == "classes" else set(task.labels.tolist())
            lacking = sorted(needed - there)
            if part == "train" and lacking:
                raise UsageError(
                    f"task {task.name}: the train part has no slide of class {task.classes[lacking[0]]}"
                )
            if part == "test" and len(there) < 2:
                what = f"only class {task.classes[there.pop()]}" if there else "no slide"
                figure = FIGURES[TOLD[task.kind][0]]
                raise UsageError(f"task {task.name}: the test part has {what}; {figure} needs two classes")
            continue
        assert task.numbers is not None
        if task.kind == "regression":
            if len(np.unique(task.numbers[rows])) < (1 if part == "val" else 3):
                few = counted(len(rows))
                raise UsageError(
                    f"task {task.name}: the {part} part has {few} with too few different numbers; at least 3 "
                    "are needed to train on and to score"
                )
        elif not comparable(task.numbers[rows], task.labels[rows]).any():
            events = counted(int(task.labels[rows].sum()), "event")
            raise UsageError(
                f"task {task.name}: the {part} part has {counted(len(rows))} with {events}, of which none is "
                "known to have come before another slide's; survival needs such pairs in each part"
            )

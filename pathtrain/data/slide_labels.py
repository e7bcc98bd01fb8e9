"""Labels of slides to train with: a CSV or Parquet file with a row per slide and a column per task.

    slide_id,split,patient,organ,msi
    TCGA-A1,train,p1,colon,MSI-H
    TCGA-A2,val,p2,lung,            an empty label is unknown

A column of many numbers is learnt as numbers, and ``pathtrain.params.tasks`` says how ordered classes and
survival are asked for.

``slide_id`` is the slide's name, as in the dataset's slides/ folder. ``split`` may be train, val or test;
without it every slide is for training. A column of patients names what must not be divided between splits.
Which column is what, and which cells are unknown: pathtrain.data.label_table.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.storage import cells
from pathprep.words import counted
from pathtrain.data import label_account, label_table, targets
from pathtrain.data.label_table import LabelTable
from pathtrain.params.tasks import Asked, Kind, asked

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNKNOWN = -1


@dataclass(frozen=True)
class LabelTask:
    """A task.

    Attributes:
        name: of its column.
        classes: names, in the order of its head's outputs, or from the lowest to the highest; () of numbers
            and survival.
        kind: see pathtrain.params.tasks.
        other, event: the further columns of survival.
        mean, sd: of numbers on the training slides; the head's output is standardised by them.
    """

    name: str
    classes: tuple[str, ...]
    kind: Kind = "classes"
    other: str | None = None
    event: str | None = None
    mean: float = 0.0
    sd: float = 1.0

    @property
    def asked(self) -> Asked:
        """What of a table it needs."""
        order = self.classes if self.kind == "ordinal" else ()
        return Asked(self.name, self.kind, self.other, self.event, order)

    def describe(self) -> dict[str, Any]:
        """For a run's files; ``of`` reads it."""
        found: dict[str, Any] = {"name": self.name, "classes": list(self.classes)}
        if self.kind != "classes":
            found["kind"] = self.kind
        if self.kind == "regression":
            found |= {"mean": self.mean, "sd": self.sd}
        if self.kind == "survival":
            found |= {"other": self.other, "event": self.event}
        return found

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "LabelTask":
        """As ``describe`` wrote it; runs of older versions know classes only."""
        return cls(**{**said, "classes": tuple(said["classes"])})


@dataclass(frozen=True)
class SlideLabels:
    """Labels of S slides for T tasks.

    Attributes:
        path: the file.
        tasks: T of them.
        slides: (S) names, as the dataset has them.
        values: (S, T) int64: number of the class, or -1 where it is unknown; of survival 1 where the event
            came and else 0, of numbers 0.
        splits: (S) ``train``, ``val`` or ``test``.
        account: lines on what was taken as what, for people.
        numbers: (S, T) float64: of survival the time, of numbers the value; None if all tasks are classes.
    """

    path: Path
    tasks: tuple[LabelTask, ...]
    slides: tuple[str, ...]
    values: Ints
    splits: tuple[str, ...]
    account: tuple[str, ...] = ()
    numbers: Floats | None = None

    def of(self, split: str) -> Ints:
        """Numbers of the slides of a split with at least one known label."""
        known = (self.values != UNKNOWN).any(axis=1)
        return np.flatnonzero(known & (np.array(self.splits) == split))

    def class_weights(self, balanced: bool) -> list[npt.NDArray[np.float64]]:
        """Per task (C,): slides / (C x slides of the class), counted over training; else ones."""
        found = []
        for number, task in enumerate(self.tasks):
            if task.kind != "classes":
                found.append(np.ones(len(task.classes)))
                continue
            values = self.values[np.array(self.splits) == "train", number]
            counts = np.bincount(values[values != UNKNOWN], minlength=len(task.classes))
            ones = np.ones(len(counts))
            found.append(counts.sum() / (len(counts) * np.maximum(counts, 1)) if balanced else ones)
        return found

    def digest(self) -> str:
        """16 hex digits that differ where tasks, slides, splits or labels do."""
        rows = sorted(zip(self.slides, self.splits, self.values.tolist(), strict=True))
        more = [] if self.numbers is None else [sorted(zip(self.slides, self.numbers.tolist(), strict=True))]
        text = json.dumps([self.describe(), rows, *more], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> list[dict[str, Any]]:
        """Tasks and classes, for a run's files."""
        return [task.describe() for task in self.tasks]


def read(path: Path, known: AbstractSet[str], tasks: tuple[str, ...] | None = None) -> SlideLabels:
    """Labels to train with.

    Args:
        path: .csv or .parquet.
        known: names of the dataset's slides; one that holds no tile cannot be trained on and does not count.
        tasks: columns to take; None for all that hold classes.

    Raises:
        UsageError: the file cannot be read; an unknown slide, task or split; a slide twice; a group in two
            splits; a task with fewer than two classes among the training slides, or a class only elsewhere.
    """
    table = _table(path, known)
    everywhere = range(len(table.slides))
    splits = ["train"] * len(table.slides) if table.split is None else table.parts(table.split, everywhere)
    _check_groups(table, splits)
    training = [row for row in everywhere if splits[row] == "train"]
    left: dict[str, str] = {}
    if tasks is None:
        names, left = table.tasks(training)
        wanted = [Asked(name, "classes") for name in names]
    else:
        wanted = _wanted(table, tasks, training)
    rows = _labelled(table, wanted, known)
    account = label_account.of_table(table, rows, left, known, "tiles")
    found = [_task(table, one, training) for one in wanted]
    values, numbers = _answers(table, found, rows, account)
    slides, parts = tuple(table.slides[row] for row in rows), tuple(splits[row] for row in rows)
    return SlideLabels(path, tuple(found), slides, values, parts, tuple(account), numbers)


def _task(table: LabelTable, wanted: Asked, training: list[int]) -> LabelTask:
    """A task as the training slides have it."""
    name, kind = wanted.column, wanted.kind or "classes"
    advice = "Leave the column out, or name the tasks: hierarchy.tasks=[...]"
    if kind == "survival":
        found = targets.survival(table, wanted, training)
        events = int((found.events == 1).sum())
        if events < 2:
            raise UsageError(
                f"{table.source}: task {name} has {counted(events, 'event')} among the training slides; "
                f"survival needs two. {advice}"
            )
        return LabelTask(name, (), kind, wanted.other, wanted.event)
    if kind == "regression":
        seen = targets.numbers(table, name, training)
        seen = seen[~np.isnan(seen)]
        if len(seen) < 2 or not seen.std():
            said = "no two different numbers" if len(seen) else "no number"
            raise UsageError(f"{table.source}: task {name} has {said} among the training slides. {advice}")
        return LabelTask(name, (), kind, mean=float(seen.mean()), sd=float(seen.std()))
    table.check_classes(name)
    if kind == "ordinal":
        classes, there = targets.ranks(table, wanted, training)
        present = [classes[rank] for rank in np.unique(there[there >= 0])]
    else:
        labels = table.labels_of(name)
        classes = present = sorted({labels[row] for row in training if labels[row]})
    if len(present) < 2:
        said = f"only {present[0]}" if present else "no label"
        raise UsageError(
            f"{table.source}: task {name} has {said} among the training slides; two classes are needed. "
            f"{advice}"
        )
    return LabelTask(name, tuple(classes), kind)


def _answers(
    table: LabelTable, tasks: Sequence[LabelTask], rows: list[int], account: list[str]
) -> tuple[Ints, Floats | None]:
    """``values`` and ``numbers`` of SlideLabels; adds to the account."""
    values = np.full((len(rows), len(tasks)), UNKNOWN, np.int64)
    numbers = np.full(values.shape, np.nan)
    for number, task in enumerate(tasks):
        if task.kind == "survival":
            found = targets.survival(table, task.asked, rows)
            values[:, number], numbers[:, number] = found.events, found.times
            account += label_account.of_times(task.name, found.times, found.events, found.account)
        elif task.kind == "regression":
            numbers[:, number] = targets.numbers(table, task.name, rows)
            values[:, number] = np.where(np.isnan(numbers[:, number]), UNKNOWN, 0)
            account += label_account.of_numbers(task.name, numbers[:, number])
        elif task.kind == "ordinal":
            values[:, number] = targets.ranks(table, task.asked, rows)[1]
            account += label_account.of_task(table, task.name, task.name, rows, task.classes)
        else:
            table.check_classes(task.name)
            values[:, number] = _numbers(table, task, rows)
            account += label_account.of_task(table, task.name, task.name, rows)
    return values, None if all(task.kind == "classes" for task in tasks) else numbers


def read_for(path: Path, known: AbstractSet[str], tasks: tuple[LabelTask, ...]) -> SlideLabels:
    """Labels to test a run's heads with; tasks that the file lacks are left out, splits do not matter.

    Raises:
        UsageError: as ``read``; a class that the run has not learnt; none of its tasks is in the file.
    """
    table = _table(path, known)
    kept = tuple(task for task in tasks if all(column in table.cells for column in task.asked.columns))
    if not kept:
        wanted = ", ".join(task.name for task in tasks)
        raise UsageError(
            f"{path}: has none of the run's tasks ({wanted}); its columns: {', '.join(table.cells)}"
        )
    everywhere = range(len(table.slides))
    splits = ["train"] * len(table.slides) if table.split is None else table.parts(table.split, everywhere)
    rows = _labelled(table, [task.asked for task in kept], known)
    account = label_account.of_table(table, rows, {}, known, "tiles")
    values, numbers = _answers(table, kept, rows, account)
    slides, parts = tuple(table.slides[row] for row in rows), tuple(splits[row] for row in rows)
    return SlideLabels(path, kept, slides, values, parts, tuple(account), numbers)


def _table(path: Path, known: AbstractSet[str]) -> LabelTable:
    table = label_table.read([path], known)
    if not known & set(table.slides):
        raise UsageError(f"{path}: {label_account.nothing_fits(table.slides, known, 'tiles')}")
    return table


def _wanted(table: LabelTable, tasks: tuple[str, ...], training: Sequence[int]) -> list[Asked]:
    found = []
    for text in tasks:
        one = asked(text, table.cells)
        if one.kind is None and one.column not in table.labels:
            raise UsageError(
                f"{table.source}: no task {one.column}; its tasks: {', '.join(table.labels) or 'none'}"
            )
        targets.check_columns(one, table)
        found.append(replace(one, kind=one.kind or targets.kind_of(table, one.column, training)))
    return found


def _labelled(table: LabelTable, wanted: Sequence[Asked], known: AbstractSet[str]) -> list[int]:
    """Rows of known slides, and those of others that have a label: these are refused."""
    columns = [table.labels_of(one.column) for one in wanted]
    labelled = [any(labels[row] for labels in columns) for row in range(len(table.slides))]
    unknown = [s for s, there in zip(table.slides, labelled, strict=True) if there and s not in known]
    if unknown:
        raise UsageError(
            f"{table.source}: slide {unknown[0]} has no tile in the dataset ({len(unknown)} such; the "
            f"dataset has {min(known, default='none')}, for one); {label_account.how_named(known)}"
        )
    return [row for row, slide in enumerate(table.slides) if slide in known]


def _check_groups(table: LabelTable, splits: list[str]) -> None:
    for column in table.patient_columns:
        first: dict[str, str] = {}
        for cell, split in zip(table.cells[column], splits, strict=True):
            group = cells.known(cell)
            if group and first.setdefault(group, split) != split:
                raise UsageError(
                    f"{table.source}: {column} {group} has slides in {first[group]} and in {split}; what is "
                    "learnt of it would count as a result. Put all its slides into one split"
                )


def _numbers(table: LabelTable, task: LabelTask, rows: list[int]) -> Ints:
    numbers = {"": UNKNOWN} | {name: number for number, name in enumerate(task.classes)}
    for row in rows:
        label = table.labels[task.name][row]
        if label not in numbers:
            raise UsageError(
                f"{table.places[row]}: slide {table.slides[row]}: {task.name} is {label!r}, which no "
                f"training slide is; the classes are {', '.join(task.classes)}"
            )
    return np.array([numbers[table.labels[task.name][row]] for row in rows], np.int64)

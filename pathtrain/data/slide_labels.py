"""Labels of slides to train with: a CSV or Parquet file with a row per slide and a column per task.

    slide_id,split,patient,organ,msi
    TCGA-A1,train,p1,colon,MSI-H
    TCGA-A2,val,p2,lung,            an empty label is unknown

``slide_id`` is the slide's name, as in the dataset's slides/ folder. ``split`` may be train, val or test;
without it every slide is for training. A column of patients names what must not be divided between splits.
Which column is what, and which cells are unknown: pathtrain.data.label_table.
"""

import hashlib
import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.storage import cells
from pathtrain.data import label_account, label_table
from pathtrain.data.label_table import LabelTable

Ints = npt.NDArray[np.int64]

UNKNOWN = -1


@dataclass(frozen=True)
class LabelTask:
    """A task and the names of its classes, in the order of its head's outputs."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class SlideLabels:
    """Labels of S slides for T tasks.

    Attributes:
        path: the file.
        tasks: T of them.
        slides: (S) names, as the dataset has them.
        values: (S, T) int64: number of the class, or -1 where it is unknown.
        splits: (S) ``train``, ``val`` or ``test``.
        account: lines on what was taken as what, for people.
    """

    path: Path
    tasks: tuple[LabelTask, ...]
    slides: tuple[str, ...]
    values: Ints
    splits: tuple[str, ...]
    account: tuple[str, ...] = ()

    def of(self, split: str) -> Ints:
        """Numbers of the slides of a split with at least one known label."""
        known = (self.values != UNKNOWN).any(axis=1)
        return np.flatnonzero(known & (np.array(self.splits) == split))

    def class_weights(self, balanced: bool) -> list[npt.NDArray[np.float64]]:
        """Per task (C,): slides / (C x slides of the class), counted over training; else ones."""
        found = []
        for number, task in enumerate(self.tasks):
            values = self.values[np.array(self.splits) == "train", number]
            counts = np.bincount(values[values != UNKNOWN], minlength=len(task.classes))
            ones = np.ones(len(counts))
            found.append(counts.sum() / (len(counts) * np.maximum(counts, 1)) if balanced else ones)
        return found

    def digest(self) -> str:
        """16 hex digits that differ where tasks, slides, splits or labels do."""
        rows = sorted(zip(self.slides, self.splits, self.values.tolist(), strict=True))
        text = json.dumps([self.describe(), rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> list[dict[str, Any]]:
        """Tasks and classes, for a run's files."""
        return [{"name": task.name, "classes": list(task.classes)} for task in self.tasks]


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
    names, left = (_wanted(table, tasks), {}) if tasks is not None else table.tasks(training)
    rows = _labelled(table, names, known)
    account = label_account.of_table(table, rows, left, known, "tiles")
    found, values = [], np.full((len(rows), len(names)), UNKNOWN, np.int64)
    for number, name in enumerate(names):
        table.check_classes(name)
        labels = table.labels[name]
        classes = sorted({labels[row] for row in training if labels[row]})
        if len(classes) < 2:
            said = f"only {classes[0]}" if classes else "no label"
            raise UsageError(
                f"{path}: task {name} has {said} among the training slides; two classes are needed. "
                "Leave the column out, or name the tasks: hierarchy.tasks=[...]"
            )
        found.append(LabelTask(name, tuple(classes)))
        values[:, number] = _numbers(table, found[-1], rows)
        account += label_account.of_task(table, name, name, rows)
    slides, parts = tuple(table.slides[row] for row in rows), tuple(splits[row] for row in rows)
    return SlideLabels(path, tuple(found), slides, values, parts, tuple(account))


def read_for(path: Path, known: AbstractSet[str], tasks: tuple[LabelTask, ...]) -> SlideLabels:
    """Labels to test a run's heads with; tasks that the file lacks are left out, splits do not matter.

    Raises:
        UsageError: as ``read``; a class that the run has not learnt; none of its tasks is in the file.
    """
    table = _table(path, known)
    kept = tuple(task for task in tasks if task.name in table.labels)
    if not kept:
        wanted = ", ".join(task.name for task in tasks)
        raise UsageError(
            f"{path}: has none of the run's tasks ({wanted}); its columns: {', '.join(table.cells)}"
        )
    everywhere = range(len(table.slides))
    splits = ["train"] * len(table.slides) if table.split is None else table.parts(table.split, everywhere)
    rows = _labelled(table, [task.name for task in kept], known)
    account = label_account.of_table(table, rows, {}, known, "tiles")
    for task in kept:
        account += label_account.of_task(table, task.name, task.name, rows)
    values = np.stack([_numbers(table, task, rows) for task in kept], axis=1)
    slides, parts = tuple(table.slides[row] for row in rows), tuple(splits[row] for row in rows)
    return SlideLabels(path, kept, slides, values, parts, tuple(account))


def _table(path: Path, known: AbstractSet[str]) -> LabelTable:
    table = label_table.read([path], known)
    if not known & set(table.slides):
        raise UsageError(f"{path}: {label_account.nothing_fits(table.slides, known, 'tiles')}")
    return table


def _wanted(table: LabelTable, tasks: tuple[str, ...]) -> list[str]:
    for name in tasks:
        if name not in table.labels:
            raise UsageError(
                f"{table.source}: no task {name}; its tasks: {', '.join(table.labels) or 'none'}"
            )
    return list(tasks)


def _labelled(table: LabelTable, names: list[str], known: AbstractSet[str]) -> list[int]:
    """Rows of known slides, and those of others that have a label: these are refused."""
    labelled = [any(table.labels[name][row] for name in names) for row in range(len(table.slides))]
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

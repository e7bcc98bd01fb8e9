"""Labels of slides: a CSV or Parquet file with a row per slide and a column per task.

    slide_id,split,patient,organ,msi
    TCGA-A1,train,p1,colon,MSI-H
    TCGA-A2,val,p2,lung,            an empty label is unknown

``slide_id`` is the slide's name, as in the dataset's slides/ folder. ``split`` may be train, val or test;
without it every slide is for training. A column ``patient_id``, ``patient`` or ``group`` names what must not
be divided between splits. Every other column is a task.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.schema import slide_name
from pathprep.errors import UsageError
from pathprep.storage import tables
from pathprep.storage.tables import Table

Ints = npt.NDArray[np.int64]

ID, SPLIT = "slide_id", "split"
GROUPS = ("patient_id", "patient", "group")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # spellings
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
    """

    path: Path
    tasks: tuple[LabelTask, ...]
    slides: tuple[str, ...]
    values: Ints
    splits: tuple[str, ...]

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


def read(path: Path, known: set[str], tasks: tuple[str, ...] | None = None) -> SlideLabels:
    """Labels to train with.

    Args:
        path: .csv or .parquet.
        known: names of the dataset's slides; one that holds no tile cannot be trained on and does not count.
        tasks: columns to take; None for all.

    Raises:
        UsageError: the file cannot be read; an unknown slide, task or split; a slide twice; a group in two
            splits; a task with fewer than two classes among the training slides, or a class only elsewhere.
    """
    rows, columns = _rows(path)
    names = _tasks(path, columns, tasks)
    slides, splits = _slides(path, rows, known), _splits(path, rows)
    _check_groups(path, rows, columns, splits)
    found, values = [], np.full((len(rows), len(names)), UNKNOWN, np.int64)
    for number, name in enumerate(names):
        labels = [row[name] for row in rows]
        classes = sorted({x for x, split in zip(labels, splits, strict=True) if x and split == "train"})
        if len(classes) < 2:
            said = f"only {classes[0]}" if classes else "no label"
            raise UsageError(
                f"{path}: task {name} has {said} among the training slides; two classes are needed. "
                "Leave the column out, or name the tasks: hierarchy.tasks=[...]"
            )
        found.append(LabelTask(name, tuple(classes)))
        values[:, number] = _numbers(path, found[-1], labels, slides)
    return SlideLabels(path, tuple(found), slides, values, splits)


def read_for(path: Path, known: set[str], tasks: tuple[LabelTask, ...]) -> SlideLabels:
    """Labels to test a run's heads with; tasks that the file lacks are left out, splits do not matter.

    Raises:
        UsageError: as ``read``; a class that the run has not learnt; none of its tasks is in the file.
    """
    rows, columns = _rows(path)
    kept = tuple(task for task in tasks if task.name in columns)
    if not kept:
        wanted = ", ".join(task.name for task in tasks)
        raise UsageError(f"{path}: has none of the run's tasks ({wanted}); its columns: {', '.join(columns)}")
    slides = _slides(path, rows, known)
    values = [_numbers(path, task, [row[task.name] for row in rows], slides) for task in kept]
    return SlideLabels(path, kept, slides, np.stack(values, axis=1), _splits(path, rows))


def _rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of text, and the columns' names."""
    table = _parquet(path) if path.suffix == ".parquet" else tables.read(path, (ID,))
    return table.rows(), list(table.columns)


def _parquet(path: Path) -> Table:
    try:
        stored = pq.read_table(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise UsageError(f"{path}: not a Parquet file ({error})") from None
    cells = zip(stored.column_names, stored.columns, strict=True)
    columns = {name: [_text(value) for value in column.to_pylist()] for name, column in cells}
    table = Table(path, columns, list(range(stored.num_rows)))
    table.check((ID,))
    return table


def _text(value: object) -> str:
    """A cell of a Parquet file; a whole number that a missing neighbour made a float is whole again."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _tasks(path: Path, columns: list[str], wanted: tuple[str, ...] | None) -> list[str]:
    there = [name for name in columns if name not in (ID, SPLIT, *GROUPS)]
    for name in wanted or ():
        if name not in there:
            raise UsageError(f"{path}: no task {name}; its tasks: {', '.join(there) or 'none'}")
    if not there:
        raise UsageError(f"{path}: no column but {', '.join(columns)}; each task needs one")
    return list(wanted) if wanted is not None else there


def _slides(path: Path, rows: list[dict[str, str]], known: set[str]) -> tuple[str, ...]:
    names = tuple(slide_name(row[ID]) for row in rows)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"{path}: slide {twice[0]} has {Counter(names)[twice[0]]} rows; one is needed")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"{path}: slide {unknown[0]} has no tile in the dataset ({len(unknown)} such; the dataset has "
            f"{min(known, default='none')}, for one); slides are named by their stem"
        )
    return names


def _splits(path: Path, rows: list[dict[str, str]]) -> tuple[str, ...]:
    found = [row.get(SPLIT, "train") for row in rows]
    wrong = sorted(split for split in set(found) if split.lower() not in SPLITS)
    if wrong:
        raise UsageError(f"{path}: split {wrong[0]!r}; give one of train, val, test")
    return tuple(SPLITS[split.lower()] for split in found)


def _check_groups(
    path: Path, rows: list[dict[str, str]], columns: list[str], splits: tuple[str, ...]
) -> None:
    for column in GROUPS:
        if column not in columns:
            continue
        first: dict[str, str] = {}
        for row, split in zip(rows, splits, strict=True):
            group = row[column]
            if group and first.setdefault(group, split) != split:
                raise UsageError(
                    f"{path}: {column} {group} has slides in {first[group]} and in {split}; what is learnt "
                    "of it would count as a result. Put all its slides into one split"
                )


def _numbers(path: Path, task: LabelTask, labels: list[str], slides: tuple[str, ...]) -> Ints:
    numbers = {"": UNKNOWN} | {name: number for number, name in enumerate(task.classes)}
    for label, slide in zip(labels, slides, strict=True):
        if label not in numbers:
            raise UsageError(
                f"{path}: slide {slide}: {task.name} is {label!r}, which no training slide is; "
                f"the classes are {', '.join(task.classes)}"
            )
    return np.array([numbers[label] for label in labels], np.int64)

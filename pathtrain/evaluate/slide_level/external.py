"""An external test set: what is learnt of one table is scored on another, of slides of elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.evaluate.slide_level.tasks import Missing, Task, some
from pathtrain.features.bags import Bags


def open_bags(text: str) -> Bags:
    """A folder of features, or NAME=FOLDER."""
    name, equals, folder = text.partition("=")
    if equals and not Path(text).exists():
        return Bags.open(Path(folder), name)
    return Bags.open(Path(text))


def with_external(
    models: Sequence[Bags],
    tasks: Sequence[Task | Missing],
    features: Sequence[str | Path],
    labels: Sequence[str | Path],
    read: Callable[[Sequence[Bags]], list[Task | Missing]],
) -> tuple[list[Bags], list[Task | Missing]]:
    """Models with the features of both sets, and tasks that are scored on the second.

    Args:
        models, tasks: of the first set.
        features: a folder for each of ``models``, in their order; empty: they hold the second set too.
        labels: of the second set.
        read: the second set's tasks, of the slides in some folders.

    Raises:
        UsageError: as joined_bags and joined_tasks; features without labels, or of another number of models.
    """
    if not labels:
        raise UsageError("`test_features` without `test_labels`: say what is to be scored")
    if features and len(features) != len(models):
        raise UsageError(
            f"`test_features`: {counted(len(features), 'folder')} for {counted(len(models), 'model')}; give "
            "one for each of the features, in their order"
        )
    others = [open_bags(str(each)) for each in features]
    found = joined_tasks(tasks, read(others or models))
    if others:
        return [joined_bags(own, other) for own, other in zip(models, others, strict=True)], found
    return list(models), found


def joined_bags(own: Bags, other: Bags) -> Bags:
    """Both folders as one, under the first one's name.

    Raises:
        UsageError: features of another length, or a slide that both have.
    """
    if (own.dim, own.bags) != (other.dim, other.bags):
        raise UsageError(
            f"`test_features` {other.root}: {other.dim} numbers per {'tile' if other.bags else 'slide'}, "
            f"{own.root} has {own.dim} per {'tile' if own.bags else 'slide'}; give features of one model"
        )
    both = sorted(own.paths.keys() & other.paths.keys())
    if both:
        raise UsageError(
            f"`test_features` {other.root}: {some(both)} there and in {own.root}; an external set has others"
        )
    return Bags(
        own.name, own.root, own.dim, own.bags, {**own.counts, **other.counts}, {**own.paths, **other.paths}
    )


def joined_tasks(tasks: Sequence[Task | Missing], others: Sequence[Task | Missing]) -> list[Task | Missing]:
    """Tasks that learn from the first and are scored on the second; slides for testing of the first stay out.

    Raises:
        UsageError: a task that the second lacks, a class that the first lacks, or a patient in both.
    """
    by_name = {task.name: task for task in others}
    found: list[Task | Missing] = []
    for task in tasks:
        other = by_name.get(task.name)
        if isinstance(task, Missing):
            found.append(task)
        elif other is None or isinstance(other, Missing):
            raise UsageError(f"`test_labels`: no labels of task {task.name}")
        else:
            found.append(_joined(task, other))
    return found


def _joined(task: Task, other: Task) -> Task:
    kept = np.array([part != "test" for part in task.parts or ["train"] * len(task.slides)])
    rows = np.flatnonzero(kept)
    if task.kind != other.kind:
        raise UsageError(
            f"`test_labels`: task {task.name} is of {other.kind}, in `labels` of "
            f"{task.kind}; say its kind, as in {task.name}:{task.kind}"
        )
    strange = [name for name in other.classes if name not in task.classes]
    if strange:
        raise UsageError(
            f"`test_labels`: task {task.name} has class {strange[0]}, which no training slide has; the "
            f"classes are {', '.join(task.classes)}"
        )
    places = np.array([task.classes.index(name) for name in other.classes] or range(2), dtype=np.int64)
    owners = [task.patients[number] for number in task.patient[rows]]
    strangers = [other.patients[number] for number in other.patient]
    both = sorted(set(owners) & set(strangers))
    if both:
        raise UsageError(
            f"`test_labels`: task {task.name}: {some(both, 'patient')} in `labels` too; an external "
            "set is of others"
        )
    patients = {name: number for number, name in enumerate(sorted({*owners, *strangers}))}
    numbers = None
    if task.numbers is not None and other.numbers is not None:
        numbers = np.concatenate([task.numbers[rows], other.numbers])
    parts = task.parts or ["train"] * len(task.slides)
    return replace(
        task,
        slides=[task.slides[row] for row in rows] + other.slides,
        labels=np.concatenate([task.labels[rows], places[other.labels]]),
        patients=list(patients),
        patient=np.array([patients[name] for name in owners + strangers], dtype=np.int64),
        parts=[parts[row] for row in rows] + ["test"] * len(other.slides),
        by_patient=task.by_patient and other.by_patient,
        left_out=task.left_out + other.left_out,
        numbers=numbers,
    )

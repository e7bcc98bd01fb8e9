"""What a table says of the rows of a task: classes, ranks, numbers, or times and events."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.storage import cells
from pathprep.words import counted
from pathtrain.data import label_account, targets
from pathtrain.data.label_table import LabelTable
from pathtrain.evaluate.slide_level.task_file import TaskSpec
from pathtrain.params.tasks import Asked

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """Classes, and of some rows ``labels`` (-1: unknown) and ``numbers``, as of Task."""

    classes: list[str]
    labels: Ints
    numbers: Floats | None = None


def answers(spec: TaskSpec, wanted: Asked, table: LabelTable, rows: Sequence[int]) -> Answers:
    """What is true of some rows; says so.

    Raises:
        UsageError: one class only, no two numbers, no two events.
    """
    where = f"{table.source}: task {spec.name}"
    if wanted.kind == "survival":
        found = targets.survival(table, wanted, rows)
        say(label_account.of_times(spec.name, found.times, found.events, found.account))
        events = int((found.events == 1).sum())
        if events < 2:
            raise UsageError(f"{where}: {counted(events, 'event')}; survival needs at least two")
        return Answers([], found.events, found.times)
    if wanted.kind == "regression":
        values = targets.numbers(table, wanted.column, rows)
        say(label_account.of_numbers(spec.name, values))
        if len(np.unique(values[~np.isnan(values)])) < 3:
            raise UsageError(f"{where}: {wanted.column} has fewer than three different numbers")
        return Answers([], np.where(np.isnan(values), -1, 0).astype(np.int64), values)
    table.check_classes(wanted.column)
    labels = table.labels_of(wanted.column)
    if wanted.kind == "ordinal":
        order, ranks = targets.ranks(table, wanted, rows)
        say(label_account.of_task(table, spec.name, wanted.column, rows, order))
        _classes(spec, {order[rank] for rank in ranks if rank >= 0}, table.source, int((ranks >= 0).sum()))
        return Answers(order, ranks)
    say(label_account.of_task(table, spec.name, wanted.column, rows))
    known = [labels[row] for row in rows if labels[row]]
    classes = _classes(spec, set(known), table.source, len(known))
    numbers = {name: number for number, name in enumerate(classes)}
    return Answers(
        classes, np.array([numbers.get(labels[row], 0) if labels[row] else -1 for row in rows], np.int64)
    )


def _classes(spec: TaskSpec, values: set[str], source: str, slides: int) -> list[str]:
    if len(values) < 2:
        what = f"all {slides} of its slides are {values.pop()}" if values else "no slide has a label"
        raise UsageError(
            f"{source}: task {spec.name}: {what}; two classes are needed (`task` picks the tasks to run)"
        )
    if spec.positive is None:
        return sorted(values)
    positive = cells.label(spec.positive)  # 1.0 is 1, as in the table
    if positive not in values:
        raise UsageError(
            f"{source}: task {spec.name}: no slide is {spec.positive}, the positive class; "
            f"the column {spec.column} has {', '.join(sorted(values))}"
        )
    others = sorted(values - {positive})
    return [others[0] if len(others) == 1 else f"not {positive}", positive]


def say(lines: Iterable[str]) -> None:
    """Tell people what was taken as what."""
    for line in lines:
        log.info("%s", line)

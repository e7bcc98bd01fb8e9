"""What is asked of slides: tasks from CSVs of labels, with their patients and fixed parts.

A table of labels has slide_id, a column per task (empty, NA and the like are unknown), and maybe split
(train, val, test) and patient_id; pathtrain.data.label_table says by which names and cells columns are told,
pathtrain.params.tasks how ordered classes, numbers and survival are asked for.
A YAML may name the tasks of a benchmark: see task_file.
"""

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.data import label_account, label_table, targets
from pathtrain.data.label_table import PARTS, LabelTable
from pathtrain.evaluate.slide_level import challenges
from pathtrain.evaluate.slide_level.answers import answers, say
from pathtrain.evaluate.slide_level.task_file import TaskSpec, read_task_file
from pathtrain.params.tasks import Kind, asked

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One question on slides; slides whose answer is unknown are left out.

    Attributes:
        name: of the task.
        slides: (n) names, in the order of the CSV.
        classes: names; of two, the second is the positive one.
        labels: (n,) numbers into ``classes``.
        patients: names of the patients; each slide's own name without a patient column.
        patient: (n,) numbers into ``patients``.
        parts: (n) train, val or test; None if the CSV fixes none.
        by_patient: whether the CSV has patients.
        left_out: labelled slides without features (only if that is allowed).
        kind: what is asked. Of numbers there are no ``classes`` and ``labels`` are 0; of survival ``labels``
            are 1 where the event came.
        numbers: (n,) numbers or times; None of classes and ranks.
        bags: (n) slides of each row, where a row is a patient; None: each row is a slide.
    """

    name: str
    slides: list[str]
    classes: list[str]
    labels: Ints
    patients: list[str]
    patient: Ints
    parts: list[str] | None
    by_patient: bool
    left_out: list[str]
    kind: Kind = "classes"
    numbers: Floats | None = None
    bags: list[tuple[str, ...]] | None = None

    def bag(self, row: int) -> tuple[str, ...]:
        """The slides of a row."""
        return (self.slides[row],) if self.bags is None else self.bags[row]

    @property
    def strata(self) -> tuple[list[str], Ints]:
        """Names and (n,) numbers of what folds and held-out parts have in equal shares."""
        if self.kind == "survival":
            return ["without an event", "with an event"], self.labels
        if self.kind != "regression":
            return self.classes, self.labels
        assert self.numbers is not None
        parts = 4 if len(self.patients) >= 40 else 2
        ends = np.quantile(self.numbers, np.arange(1, parts) / parts)
        places = np.searchsorted(ends, self.numbers, side="right").astype(np.int64)
        return [f"the {number + 1}. of {parts} parts by size" for number in range(parts)], places

    def answer(self, row: int) -> str:
        """What is true of a row, for people."""
        if self.numbers is None:
            return self.classes[int(self.labels[row])]
        told = f"{self.numbers[row]:g}"
        if self.kind == "regression":
            return told
        return f"{told}, {'event' if self.labels[row] else 'no event'}"


@dataclass(frozen=True)
class Missing:
    """A task of a benchmark that cannot be run here, and why."""

    name: str
    reason: str


def read_tasks(
    labels: Sequence[Path],
    benchmark: str | None,
    known: AbstractSet[str],
    *,
    only: Sequence[str] = (),
    allow_missing: bool = False,
    part: str | None = None,
) -> list[Task | Missing]:
    """The tasks to run, in the order of the YAML or of the CSV's columns.

    Args:
        labels: CSV or Parquet files, read as one; with ``benchmark``, or one folder that holds its CSVs.
        benchmark: a YAML file, or a built-in one; None takes every column as a task that holds classes.
        known: slides with features.
        only: names of tasks; empty for all. Without ``benchmark``: columns, with their kinds or without.
        allow_missing: leave labelled slides without features out instead of refusing.
        part: the part of all slides, whatever the table says; None takes the table's.

    Returns:
        Tasks; Missing for those of the benchmark whose CSV is not there.

    Raises:
        UsageError: a file that cannot be read, a column that is not there, a slide that is named twice or
            has no features, one class only, an unknown part, or patients in more than one part.
    """
    if benchmark is None:
        table = _table(labels, known)
        rows = [row for row, slide in enumerate(table.slides) if slide in known]
        specs, left = _columns(table, rows, only)
        say(label_account.of_table(table, rows, left, known, "features"))
        return [_task(spec, table, known, allow_missing, part) for spec in specs]
    path, specs = read_task_file(benchmark)
    folder = labels[0] if len(labels) == 1 and labels[0].is_dir() else path.parent
    _check_names(only, [spec.name for spec in specs])
    found: list[Task | Missing] = []
    for spec in specs:
        if only and spec.name not in only:
            continue
        paths = list(labels) if spec.labels is None else [folder / file for file in spec.labels]
        absent = [path for path in paths if spec.labels is not None and not path.is_file()]
        if absent:
            found.append(Missing(spec.name, f"no labels: {absent[0]} is not there"))
            continue
        if spec.challenge is not None:
            table = challenges.table(spec.challenge, paths[0], known)
        else:
            table = _table(paths, known)
        found.append(_task(spec, table, known, allow_missing, part))
    if all(isinstance(task, Missing) for task in found):
        reasons = [task.reason for task in found if isinstance(task, Missing)]
        raise UsageError(f"none of {counted(len(found), 'task')} can be run; the first: {reasons[0]}")
    return found


def _check_names(only: Sequence[str], names: Sequence[str]) -> None:
    for name in only:
        if name not in names:
            raise UsageError(f"`task` {name}: there is no such task; there are {', '.join(names)}")


def _table(paths: Sequence[Path], known: AbstractSet[str]) -> LabelTable:
    """CSVs with the same columns as one; at least one of its slides has features."""
    if not paths:
        raise UsageError("`labels`: give a CSV with slide_id and a column per task")
    for path in paths:
        if path.is_dir():
            raise UsageError(f"`labels` {path}: a folder; it goes with `tasks`, whose files it holds")
    table = label_table.read(paths, known)
    if not known & set(table.slides):
        raise UsageError(f"{table.source}: {label_account.nothing_fits(table.slides, known, 'features')}")
    return table


def _columns(
    table: LabelTable, rows: Sequence[int], only: Sequence[str]
) -> tuple[list[TaskSpec], dict[str, str]]:
    """A task for each column that holds one, or that is asked for; and why others hold none."""
    if not only:
        taken, left = table.tasks(rows)
        return [
            TaskSpec(name=name, column=name, kind="classes") for name in table.labels if name in taken
        ], left
    wanted = [asked(text, table.cells) for text in only]
    _check_names([one.column for one in wanted if one.kind is None], list(table.labels))
    twice = next((one.column for one in wanted if [o.column for o in wanted].count(one.column) > 1), None)
    if twice is not None:
        raise UsageError(f"`task` {twice}: asked for twice; the tasks of a YAML may have names of their own")
    specs = []
    for one in wanted:
        kind = one.kind or targets.kind_of(table, one.column, rows)
        order = list(one.order) or None
        specs.append(
            TaskSpec(
                name=one.column, column=one.column, kind=kind, event=one.event, other=one.other, order=order
            )
        )
    places = list(table.cells)
    return sorted(specs, key=lambda spec: places.index(spec.column) if spec.column in places else 0), {}


def _task(
    spec: TaskSpec, table: LabelTable, known: AbstractSet[str], allow_missing: bool, part: str | None
) -> Task:
    source, wanted = table.source, spec.asked(table.cells)
    for column in (*wanted.columns, spec.split):
        if column is not None and column not in table.cells:
            raise UsageError(
                f"{source}: task {spec.name}: no column {column}; it has {', '.join(table.cells)}"
            )
    labels = table.labels_of(wanted.column)
    labelled = [row for row, label in enumerate(labels) if label]
    unknown = [table.slides[row] for row in labelled if table.slides[row] not in known]
    if unknown and not allow_missing:
        raise UsageError(
            f"{source}: {some(unknown)} {'has' if len(unknown) == 1 else 'have'} no features (a folder has "
            f"{min(known)}, for one); embed them, take them out of the CSV, or give `allow_missing`"
        )
    there = [row for row, slide in enumerate(table.slides) if slide in known]
    kind = wanted.kind or ("classes" if spec.positive else targets.kind_of(table, wanted.column, there))
    found = answers(spec, replace(wanted, kind=kind), table, there)
    rows = [row for row, label in zip(there, found.labels.tolist(), strict=True) if label >= 0]
    kept = found.labels >= 0
    column, owners = table.patients or (table.slide_column, table.slides)
    for row in rows:
        if not owners[row]:
            raise UsageError(f"{table.places[row]}: slide {table.slides[row]} has no {column}")
    patients = {owner: number for number, owner in enumerate(sorted({owners[row] for row in rows}))}
    split = spec.split or table.split
    parts = None if split is None else table.parts(split, rows)
    if part is not None:
        parts = [part] * len(rows)
    if parts is not None:
        check_leaks([owners[row] for row in rows], parts, f"{source}: task {spec.name}")
    return Task(
        name=spec.name,
        slides=[table.slides[row] for row in rows],
        classes=found.classes,
        labels=found.labels[kept],
        patients=list(patients),
        patient=np.array([patients[owners[row]] for row in rows], dtype=np.int64),
        parts=parts,
        by_patient=table.patients is not None,
        left_out=unknown,
        kind=kind,
        numbers=None if found.numbers is None else found.numbers[kept],
    )


def check_leaks(owners: Sequence[str], parts: Sequence[str], where: str) -> None:
    """Refuse parts that share a patient.

    Raises:
        UsageError: names the patients (or slides' groups) and their parts.
    """
    seen: dict[str, set[str]] = {}
    for owner, part in zip(owners, parts, strict=True):
        seen.setdefault(owner, set()).add(part)
    leaking = sorted(owner for owner, found in seen.items() if len(found) > 1)
    if leaking:
        shared = " and ".join(sorted(seen[leaking[0]], key=PARTS.index))
        raise UsageError(
            f"{where}: {some(leaking, 'patient')} in more than one part ({leaking[0]}: {shared}); "
            "slides of one patient are alike: keep them in one part"
        )


def some(names: list[str], kind: str = "slide") -> str:
    """The first names of a list, and how many there are."""
    shown = ", ".join(names[:5])
    if len(names) == 1:
        return f"{kind} {shown}"
    return f"{len(names)} {kind}s ({shown}{', ...' if len(names) > 5 else ''})"

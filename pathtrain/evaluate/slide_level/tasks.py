"""What is asked of slides: tasks from CSVs of labels, with their patients and fixed parts.

A labels CSV has slide_id, a column per task (empty = unknown), and maybe split (train, val, test) and
patient_id (or patient, group). A YAML may name the tasks of a benchmark: see task_file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.dataset.schema import slide_name
from pathprep.errors import UsageError
from pathprep.storage import tables
from pathtrain.data.slide_labels import GROUPS as PATIENTS
from pathtrain.data.slide_labels import ID as SLIDE
from pathtrain.data.slide_labels import SPLIT
from pathtrain.data.slide_labels import SPLITS as PARTS
from pathtrain.evaluate.slide_level.task_file import TaskSpec, read_task_file

Ints = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class Missing:
    """A task of a benchmark that cannot be run here, and why."""

    name: str
    reason: str


def read_tasks(
    labels: Sequence[Path],
    benchmark: str | None,
    known: set[str],
    *,
    only: Sequence[str] = (),
    allow_missing: bool = False,
) -> list[Task | Missing]:
    """The tasks to run, in the order of the YAML or of the CSV's columns.

    Args:
        labels: CSVs, read as one; with ``benchmark``, or one folder that holds its CSVs.
        benchmark: a YAML file, or ``exaonepath2``; None takes every column as a task.
        known: slides with features.
        only: names of tasks; empty for all.
        allow_missing: leave labelled slides without features out instead of refusing.

    Returns:
        Tasks; Missing for those of the benchmark whose CSV is not there.

    Raises:
        UsageError: a file that cannot be read, a column that is not there, a slide that is named twice or
            has no features, one class only, an unknown part, or patients in more than one part.
    """
    if benchmark is None:
        rows, source = _rows(labels)
        columns = [c for c in rows[0] if c not in (SLIDE, SPLIT, *PATIENTS)]
        specs = [TaskSpec(name=column, column=column) for column in columns]
        if not specs:
            raise UsageError(f"{source}: no column with labels beside {', '.join(rows[0])}")
        folder = Path()
    else:
        path, specs = read_task_file(benchmark)
        folder = labels[0] if len(labels) == 1 and labels[0].is_dir() else path.parent
    names = [spec.name for spec in specs]
    for name in only:
        if name not in names:
            raise UsageError(f"`task` {name}: there is no such task; there are {', '.join(names)}")
    found: list[Task | Missing] = []
    for spec in specs:
        if only and spec.name not in only:
            continue
        paths = list(labels) if spec.labels is None else [folder / file for file in spec.labels]
        absent = [path for path in paths if spec.labels is not None and not path.is_file()]
        if absent:
            found.append(Missing(spec.name, f"no labels: {absent[0]} is not there"))
            continue
        found.append(_task(spec, *_rows(paths), known, allow_missing))
    if all(isinstance(task, Missing) for task in found):
        reasons = [task.reason for task in found if isinstance(task, Missing)]
        raise UsageError(f"none of the {len(found)} tasks can be run; the first: {reasons[0]}")
    return found


def _rows(paths: Sequence[Path]) -> tuple[list[dict[str, str]], str]:
    """Rows of several CSVs with the same columns, and how to name them in an error."""
    if not paths:
        raise UsageError("`labels`: give a CSV with slide_id and a column per task")
    rows: list[dict[str, str]] = []
    for path in paths:
        if path.is_dir():
            raise UsageError(f"`labels` {path}: a folder; it goes with `tasks`, whose files it holds")
        new = tables.read(path, (SLIDE,)).rows()
        if rows and new[0].keys() != rows[0].keys():
            raise UsageError(
                f"{path}: columns {', '.join(new[0])}; {paths[0]} has {', '.join(rows[0])}; make them equal"
            )
        rows += new
    return rows, " and ".join(map(str, paths))


def _task(
    spec: TaskSpec, rows: list[dict[str, str]], source: str, known: set[str], allow_missing: bool
) -> Task:
    for column in (spec.column, spec.split):
        if column is not None and column not in rows[0]:
            raise UsageError(f"{source}: task {spec.name}: no column {column}; it has {', '.join(rows[0])}")
    rows = [{**row, SLIDE: slide_name(row[SLIDE])} for row in rows]
    names = [row[SLIDE] for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{source}: slide {twice} is there more than once; keep one row per slide")
    rows = [row for row in rows if row[spec.column]]
    unknown = [row[SLIDE] for row in rows if row[SLIDE] not in known]
    if unknown and not allow_missing:
        raise UsageError(
            f"{source}: {_some(unknown)} {'has' if len(unknown) == 1 else 'have'} no features (a folder has "
            f"{min(known)}, for one); embed them, take them out of the CSV, or give `allow_missing`"
        )
    rows = [row for row in rows if row[SLIDE] in known]
    classes = _classes(spec, {row[spec.column] for row in rows}, source, len(rows))
    negative = classes[0]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers.get(row[spec.column], numbers[negative]) for row in rows]
    patient_column = next((column for column in PATIENTS if column in rows[0]), None)
    owners = [row[patient_column or SLIDE] for row in rows]
    if "" in owners:
        raise UsageError(f"{source}: slide {rows[owners.index('')][SLIDE]} has no {patient_column}")
    patients = {owner: number for number, owner in enumerate(sorted(set(owners)))}
    split = spec.split or (SPLIT if SPLIT in rows[0] else None)
    parts = None if split is None else _parts(rows, split, source)
    if parts is not None:
        check_leaks(owners, parts, f"{source}: task {spec.name}")
    return Task(
        name=spec.name,
        slides=[row[SLIDE] for row in rows],
        classes=classes,
        labels=np.array(labels, dtype=np.int64),
        patients=list(patients),
        patient=np.array([patients[owner] for owner in owners], dtype=np.int64),
        parts=parts,
        by_patient=patient_column is not None,
        left_out=unknown,
    )


def _classes(spec: TaskSpec, values: set[str], source: str, slides: int) -> list[str]:
    if len(values) < 2:
        what = f"all {slides} of its slides are {values.pop()}" if values else "no slide has a label"
        raise UsageError(
            f"{source}: task {spec.name}: {what}; two classes are needed (`task` picks the tasks to run)"
        )
    if spec.positive is None:
        return sorted(values)
    if spec.positive not in values:
        raise UsageError(
            f"{source}: task {spec.name}: no slide is {spec.positive}, the positive class; "
            f"the column {spec.column} has {', '.join(sorted(values))}"
        )
    others = sorted(values - {spec.positive})
    return [others[0] if len(others) == 1 else f"not {spec.positive}", spec.positive]


def _parts(rows: list[dict[str, str]], column: str, source: str) -> list[str]:
    parts = []
    for row in rows:
        part = PARTS.get(row[column].lower())
        if part is None:
            raise UsageError(
                f"{source}: slide {row[SLIDE]}: {column} is {row[column] or 'empty'}; give train, val or test"
            )
        parts.append(part)
    return parts


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
        shared = " and ".join(sorted(seen[leaking[0]], key=list(PARTS).index))
        raise UsageError(
            f"{where}: {_some(leaking, 'patient')} in more than one part ({leaking[0]}: {shared}); "
            "slides of one patient are alike: keep them in one part"
        )


def _some(names: list[str], kind: str = "slide") -> str:
    """The first names of a list, and how many there are."""
    shown = ", ".join(names[:5])
    if len(names) == 1:
        return f"{kind} {shown}"
    return f"{len(names)} {kind}s ({shown}{', ...' if len(names) > 5 else ''})"

"""Which spots are learnt from and which are tested: HEST's splits, patients, sections, or parts of
sections.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pathprep.errors import UsageError
from pathprep.storage import tables
from pathtrain.evaluate.expression.spots import TILE_UM, Fold, Task
from pathtrain.evaluate.statistics import Doubles, Ints

FEWEST = 3  # spots to test on: two are always on a line
SAMPLE = ("sample_id", "id", "sample", "section")
Split = tuple[str, list[str], list[str]]


def patients_of(path: Path) -> dict[str, str]:
    """Sample -> patient of a table with columns sample_id (or id, sample, section) and patient.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    table = tables.read(path)
    lower = {name.lower(): name for name in table.columns}
    name = next((lower[key] for key in SAMPLE if key in lower), None)
    if name is None:
        raise UsageError(f"{path}: no column {' or '.join(SAMPLE)}; {table.has()}")
    return dict(zip(table.columns[name], table.columns[table.first("patient")], strict=True))


def by_split(task: Task, splits: Sequence[Split]) -> list[Fold]:
    """Folds of published splits.

    Raises:
        UsageError: a patient is on both sides of one.
    """
    numbers = {section.name: number for number, section in enumerate(task.sections)}
    found = []
    for name, train, test in splits:
        sides = [np.array([numbers[sample] for sample in side], dtype=np.int64) for side in (train, test)]
        owners = [{task.sections[number].patient for number in side} - {""} for side in sides]
        shared = sorted(owners[0] & owners[1])
        if shared:
            raise UsageError(
                f"{task.path / 'splits'}: patient {shared[0]} is in train_{name}.csv and in test_{name}.csv; "
                "keep each patient on one side (`folds` patient makes such folds)"
            )
        rows = [np.flatnonzero(np.isin(task.section, side)) for side in sides]
        found.append(Fold(name, rows[0], rows[1]))
    return _large_enough(task, found)


def one_out(task: Task, kind: str) -> list[Fold]:
    """Leave one patient, or one section, out.

    Raises:
        UsageError: there is one only, or a section's patient is not known.
    """
    if kind == "patient":
        unknown = [section.name for section in task.sections if not section.patient]
        if unknown:
            raise UsageError(
                f"{task.path}: whose is section {unknown[0]}? Give `patients`, a table of sample_id "
                "and patient "
                "(a column patient in sections.csv), or `folds` section"
            )
    owners = [section.patient if kind == "patient" else section.name for section in task.sections]
    names = sorted(set(owners))
    if len(names) < 2:
        several = len(task.sections) > 1
        raise UsageError(
            f"{task.path}: all sections are of {kind} {names[0]}, none can be left out; add another, or give "
            f"`folds` {'section or blocks' if kind == 'patient' and several else 'blocks'}, whose "
            "figures say "
            "nothing about other patients"
        )
    owner = np.array([names.index(name) for name in owners])[task.section]
    return _large_enough(
        task,
        [Fold(name, np.flatnonzero(owner != n), np.flatnonzero(owner == n)) for n, name in enumerate(names)],
    )


def in_parts(task: Task, parts: int) -> list[Fold]:
    """Leave a part of a section out: strips of equal numbers of spots along its longer axis.

    Spots of the same section whose tiles overlap a tested one are neither learnt from nor tested, where the
    section says how large its pixels are.
    """
    found = []
    for number, section in enumerate(task.sections):
        rows = np.flatnonzero(task.section == number)
        part = _strips(section.places, parts)
        for each in range(parts):
            tested = part == each
            near = np.zeros(len(rows), dtype=bool)
            if section.um is not None and tested.any():
                near = _overlap(section.places, section.places[tested], TILE_UM / section.um)
            train = np.ones(len(task.values), dtype=bool)
            train[rows[tested | near]] = False
            found.append(Fold(f"{section.name}, part {each + 1}", np.flatnonzero(train), rows[tested]))
    return _large_enough(task, found)


def _strips(places: Doubles, parts: int) -> Ints:
    """(N,) number of each spot's strip."""
    centred = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ (axes[0] * (1 if axes[0][np.abs(axes[0]).argmax()] > 0 else -1))
    order = np.empty(len(places), dtype=np.int64)
    order[np.argsort(along, kind="stable")] = np.arange(len(places))
    return order * parts // max(len(places), 1)


def _overlap(places: Doubles, tested: Doubles, side: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """(N,) whether a tile of ``side`` overlaps one of the tested."""
    near = np.zeros(len(places), dtype=bool)
    for place in tested:
        near |= (np.abs(places - place) < side).all(axis=1)
    return near


def _large_enough(task: Task, folds: list[Fold]) -> list[Fold]:
    for fold in folds:
        if len(fold.test) < FEWEST or len(fold.train) < FEWEST:
            raise UsageError(
                f"{task.path}: fold {fold.name} has {len(fold.train)} spots to learn from and "
                f"{len(fold.test)} "
                f"to test; {FEWEST} are needed: take fewer `blocks`, or the section out"
            )
    return folds


def squares(task: Task, fold: Fold, across: int) -> Ints:
    """(M,) number of the square of its section that each tested spot lies in: ``across`` x ``across`` of the
    section's extent, numbered from 0 without gaps.
    """
    cells = np.empty(len(fold.test), dtype=np.int64)
    section = task.section[fold.test]
    places = task.places[fold.test]
    for number in np.unique(section):
        every = task.sections[number].places
        low, extent = every.min(axis=0), np.maximum(np.ptp(every, axis=0), 1e-9)
        rows = section == number
        at = np.minimum(((places[rows] - low) / extent * across).astype(np.int64), across - 1)
        cells[rows] = (number * across + at[:, 0]) * across + at[:, 1]
    return np.unique(cells, return_inverse=True)[1].astype(np.int64)

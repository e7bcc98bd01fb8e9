"""All slides of a patient as one bag."""

from dataclasses import replace

import numpy as np

from pathprep.errors import UsageError
from pathtrain.evaluate.slide_level.tasks import Task


def by_patient(task: Task) -> Task:
    """The task with a row per patient, whose bag is all tiles of its slides, in the order of the table.

    Raises:
        UsageError: the labels have no patients, or slides of a patient have different labels.
    """
    if not task.by_patient:
        raise UsageError(f"task {task.name}: `by` patient needs a column of patients, such as patient_id")
    members = [np.flatnonzero(task.patient == number).tolist() for number in range(len(task.patients))]
    for patient, rows in zip(task.patients, members, strict=True):
        other = next((row for row in rows if task.answer(row) != task.answer(rows[0])), None)
        if other is not None:
            raise UsageError(
                f"task {task.name}: the slides of patient {patient} have different labels "
                f"({task.slides[rows[0]]}: {task.answer(rows[0])}; "
                f"{task.slides[other]}: {task.answer(other)}); correct them, or leave `by` at slide"
            )
    first = np.array([rows[0] for rows in members], dtype=np.int64)
    return replace(
        task,
        slides=list(task.patients),
        labels=task.labels[first],
        patient=np.arange(len(first), dtype=np.int64),
        parts=None if task.parts is None else [task.parts[row] for row in first],
        numbers=None if task.numbers is None else task.numbers[first],
        bags=[tuple(task.slides[row] for row in rows) for rows in members],
    )

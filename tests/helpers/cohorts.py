"""Features of tiles with a class, a centre and a patient each, of which the answers are known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.statistics import Floats, Ints


def cohort(label: Ints, column: Ints, group: Ints, apart: str = "group") -> Cohort:
    """With names made of numbers."""

    def names(prefix: str, numbers: Ints) -> list[str]:
        return [f"{prefix}{number}" for number in range(int(numbers.max()) + 1)]

    return Cohort(
        "tiles", "centre", label, names("class", label), column, names("centre", column), group,
        names("patient", group), "group", apart,
    )  # fmt: skip


def balanced(classes: int = 2, centres: int = 2, patients: int = 5, each: int = 6) -> Cohort:
    """As many tiles in each cell: patients of one class at one centre."""
    label, column, group = [], [], []
    number = 0
    for one in range(classes):
        for other in range(centres):
            for _ in range(patients):
                label += [one] * each
                column += [other] * each
                group += [number] * each
                number += 1
    return cohort(np.array(label), np.array(column), np.array(group))


def features(
    made: Cohort, *, label: float, column: float, noise: float = 1.0, dim: int = 16, seed: int = 0
) -> Floats:
    """Directions of classes and centres of given lengths, with noise."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    points = rng.normal(0, noise / np.sqrt(dim), (len(made), dim))
    points += label * axes[made.label] + column * axes[len(made.classes) + made.column]
    return points.astype(np.float32)


def manifest(made: Cohort, subset: Sequence[str] | None = None) -> pd.DataFrame:
    """As croma takes it."""
    frame = pd.DataFrame(
        {
            "sample_id": [str(row) for row in range(len(made))],
            "image_path": [f"{row}.png" for row in range(len(made))],
            "label": [made.classes[number] for number in made.label],
            "group_id": [made.groups[number] for number in made.group],
            "center": [made.values[number] for number in made.column],
        }
    )
    if subset is not None:
        frame["subset"] = list(subset)
    return frame

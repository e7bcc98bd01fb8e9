"""A column of scores: numbers, or classes by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathprep.storage import cells

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_CLASSES = 100  # distinct texts of a column; of more, they are names of files, or of tiles
# Columns whose whole numbers are names: cluster 3 is not more than cluster 2
CLASSES = re.compile(r"cluster|class|label|predict|leiden|louvain|kmeans|group", re.IGNORECASE)
# ... but not of these: a probability of class 2 that is 0 or 1 on every tile is a number all the same
NUMBERS = re.compile(r"^p |prob|score|confidence", re.IGNORECASE)


@dataclass(frozen=True)
class Classes:
    """A class for each tile.

    Attributes:
        names: each once, in the order in which they are shown.
        codes: (N,) number of the tile's class; -1 of one without.
    """

    names: tuple[str, ...]
    codes: Ints

    @classmethod
    def of(cls, values: Sequence[str]) -> "Classes":
        """Of names, "" for none; names are sorted, numbers in them by size."""
        names, inverse = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
        order = sorted(range(len(names)), key=lambda place: natural(str(names[place])))
        numbers, shown = np.full(len(names), -1, np.int64), list[str]()
        for place in order:
            if names[place]:
                numbers[place] = len(shown)
                shown.append(str(names[place]))
        return cls(tuple(shown), numbers[inverse.reshape(-1)])

    def __len__(self) -> int:
        return len(self.codes)

    def at(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Classes":
        """Of some tiles; the names stay, so that a class has one colour on every slide."""
        return Classes(self.names, self.codes[rows])


Column = Floats | Classes


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that puts cluster 2 before cluster 10."""
    parts = re.findall(r"\d+|\D+", text)
    # of whole numbers the longer is larger; as numbers, Python takes no more than 4,300 digits
    numbers = [part.lstrip("0") if part.isdecimal() else None for part in parts]
    return [
        (1, 0, part) if digits is None else (0, len(digits), digits)
        for part, digits in zip(parts, numbers, strict=True)
    ]


def of_texts(name: str, texts: Sequence[str]) -> Column | None:
    """A column of a CSV: numbers if all cells are, with a comma for the point too; else classes.

    Returns:
        None for what is neither: more different texts than classes could be.
    """
    known = [cells.label(text) for text in texts]
    values = _numbers(known)
    if values is not None and not is_named_by_numbers(name, values):
        return values
    return of_names(known)


def of_names(names: Sequence[str]) -> Classes | None:
    """Classes, unless they are too many to be such."""
    made = Classes.of(names)
    return made if 0 < len(made.names) <= MOST_CLASSES else None


def is_named_by_numbers(name: str, values: Floats) -> bool:
    """Whether a column's numbers are names of classes."""
    if NUMBERS.search(name) is not None:
        return False
    known = values[~np.isnan(values)]
    whole = bool((known == np.rint(known)).all()) and bool(np.isfinite(known).all())
    return whole and CLASSES.search(name) is not None and len(np.unique(known)) <= MOST_CLASSES


def texts_of(values: Floats) -> list[str]:
    """Whole numbers as the names that they are; "" for none."""
    return ["" if np.isnan(value) else str(int(value)) for value in values.tolist()]


def _numbers(texts: Sequence[str]) -> Floats | None:
    """(N,) with NaN where nothing is known; None if a cell is no number, or nothing is known at all."""
    made = np.full(len(texts), np.nan)
    for place, text in enumerate(texts):
        if text:
            try:
                made[place] = float(text)
            except ValueError:
                try:
                    made[place] = float(text.replace(",", "."))  # 0,25, as half of the world writes it
                except ValueError:
                    return None
    return None if np.isnan(made).all() else made

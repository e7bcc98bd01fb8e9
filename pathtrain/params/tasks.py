"""Kinds of tasks, and how people write one in a line."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pathprep.errors import UsageError

Kind = Literal["classes", "ordinal", "regression", "survival"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What each kind is told by, the first above all
TOLD: dict[Kind, tuple[str, ...]] = {
    "classes": ("auroc", "balanced_accuracy"),
    "ordinal": ("kappa", "mae"),
    "regression": ("pearson", "spearman", "r2", "mae"),
    "survival": ("c_index",),
}
FIGURES = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "kappa",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "r2": "R2",
    "mae": "MAE",
    "c_index": "c-index",
}

_SAID = re.compile(rf"(?P<column>.+?):(?P<kind>{'|'.join(KINDS)})(:(?P<order>.+))?")


def told(results: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """The figures that some tasks have, and what people call them."""
    return {key: name for key, name in FIGURES.items() if any(key in row for row in results.values())}


@dataclass(frozen=True)
class Asked:
    """A task as it is asked for.

    Attributes:
        column: of the labels; of survival the time's.
        kind: None if it is not said.
        other: of survival, the column with the time of those without an event, where there are two.
        event: of survival, the column that says whether the event came.
        order: of ordinal, the classes from the lowest to the highest; () if they are numbers.
    """

    column: str
    kind: Kind | None = None
    other: str | None = None
    event: str | None = None
    order: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All that it reads."""
        return tuple(name for name in (self.column, self.other, self.event) if name is not None)


def asked(text: str, columns: Collection[str]) -> Asked:
    """Read a task: the name of a column, or one with its kind.

        grade                                                  classes, or numbers if it has many
        grade:ordinal    stage:ordinal:low<mid<high            ordered classes
        age:regression
        OS_MONTHS,OS_STATUS:survival                           time and event
        days_to_death|days_to_last_follow_up,vital_status:survival

    Args:
        text: the line.
        columns: of the table; a column that is called so is taken as it is.

    Raises:
        UsageError: not one of these.
    """
    found = _SAID.fullmatch(text)
    if text in columns or found is None:
        return Asked(text)
    column, order = found["column"], found["order"]
    kind = next(kind for kind in KINDS if kind == found["kind"])
    if kind == "survival":
        time, comma, event = column.rpartition(",")
        first, _, other = time.partition("|")
        if not comma or not first or not event or order:
            raise UsageError(f"`{text}`: survival needs two columns: TIME,EVENT:survival")
        return Asked(first, kind, other or None, event)
    if order and kind != "ordinal":
        raise UsageError(f"`{text}`: only ordinal has an order, as in {column}:ordinal:low<mid<high")
    ranks = tuple(part.strip() for part in (order or "").split("<") if part.strip())
    if order and len(set(ranks)) < 2:
        raise UsageError(f"`{text}`: give the classes in their order, as in {column}:ordinal:low<mid<high")
    return Asked(column, kind, order=ranks)

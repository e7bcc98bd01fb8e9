"""Numbers, ranks, times and events from the cells of a table of labels.

Events are told by 1 and 0, or by words as registries write them: Dead and Alive, DECEASED and LIVING,
1:DECEASED and 0:LIVING (cBioPortal), True and False. A time of zero counts; a negative one is a mistake.
Where an event or its time is not known, the slide is left out of the task, and counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.storage import cells
from pathprep.words import counted
from pathtrain.data.label_table import LabelTable, many_numbers
from pathtrain.params.tasks import Asked, Kind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HAPPENED = frozenset(
    {
        *(
            "1",
            "true",
            "yes",
            "y",
            "t",
            "event",
            "dead",
            "deceased",
            "died",
            "death",
            "recurred",
            "recurrence",
        ),
        *("recurred/progressed", "progressed", "progression", "relapse", "relapsed"),
    }
)
NOT_YET = frozenset(
    {
        *("0", "false", "no", "n", "f", "no event", "alive", "living", "censored", "censored/no event"),
        *("diseasefree", "disease-free", "disease free", "progression-free", "progression free"),
    }
)


@dataclass(frozen=True)
class Times:
    """Survival of R rows.

    Attributes:
        times: (R,), NaN where the time or the event is not known.
        events: (R,) 1 if it came, 0 if not by then, -1 where not known.
        account: lines on what was left out.
    """

    times: Floats
    events: Ints
    account: list[str]


def kind_of(table: LabelTable, column: str, rows: Sequence[int]) -> Kind:
    """What a column holds that was asked for without its kind: classes, or numbers if it has many."""
    labels = table.labels_of(column)
    return "regression" if many_numbers([labels[row] for row in rows]) else "classes"


def check_columns(asked: Asked, table: LabelTable) -> None:
    """Refuse columns that are not there.

    Raises:
        UsageError: names one, and those that there are.
    """
    for column in asked.columns:
        if column not in table.cells:
            raise UsageError(f"{table.source}: no column {column}; it has {', '.join(table.cells)}")


def numbers(table: LabelTable, column: str, rows: Sequence[int]) -> Floats:
    """(len(rows),) of a column, NaN where a cell is missing.

    Raises:
        UsageError: a cell is no finite number; it names the line.
    """
    return np.array([_number(table, column, row) for row in rows], dtype=np.float64)


def ranks(table: LabelTable, asked: Asked, rows: Sequence[int]) -> tuple[list[str], Ints]:
    """Names of the classes from the lowest to the highest, and (len(rows),) ranks, -1 where missing.

    Raises:
        UsageError: classes that are no numbers and whose order is not said, or one that the order lacks.
    """
    labels = table.labels_of(asked.column)
    values = {labels[row] for row in rows if labels[row]}
    order = [cells.label(name) for name in asked.order]
    if not order:
        try:
            order = sorted(values, key=lambda value: float(value.replace(",", ".")))
        except ValueError:
            shown = "<".join(sorted(values)[:6])
            raise UsageError(
                f"{table.source}: {asked.column} is ordinal, but its classes are no numbers; say their "
                f"order: `{asked.column}:ordinal:{shown}`"
            ) from None
    for row in rows:
        if labels[row] and labels[row] not in order:
            raise UsageError(
                f"{table.places[row]}: {asked.column} is {labels[row]}, which is not in the order "
                f"{'<'.join(order)}"
            )
    places = {name: number for number, name in enumerate(order)} | {"": -1}
    return order, np.array([places[labels[row]] for row in rows], dtype=np.int64)


def survival(table: LabelTable, asked: Asked, rows: Sequence[int]) -> Times:
    """Times and events.

    With two columns of times, as the GDC has them, the first is that of an event, the other that of none.

    Raises:
        UsageError: a time is negative or no number, an event is none of the words, or a time of an event
            stands where there was none; it names the line.
    """
    assert asked.event is not None
    times, events = np.full(len(rows), np.nan), np.full(len(rows), -1, np.int64)
    without_time: list[str] = []
    without_event: list[str] = []
    for place, row in enumerate(rows):
        event = _event(table, asked.event, row)
        first = _number(table, asked.column, row)
        second = _number(table, asked.other, row) if asked.other is not None else math.nan
        if event == 0 and asked.other is not None and not math.isnan(first):
            raise UsageError(
                f"{table.places[row]}: {asked.event} is {table.cells[asked.event][row]}, but there is a time "
                f"of the event ({asked.column} {table.cells[asked.column][row]}); correct one of them"
            )
        time = second if event == 0 and asked.other is not None else first
        for value, column in ((first, asked.column), (second, asked.other)):
            if value < 0:
                raise UsageError(
                    f"{table.places[row]}: {column} is {value:g}, a negative time; correct it, or leave the "
                    "cell empty"
                )
        if event < 0:
            if not math.isnan(first) or not math.isnan(second):
                without_event.append(table.slides[row])
        elif math.isnan(time):
            without_time.append(table.slides[row])
        else:
            times[place], events[place] = time, event
    account = []
    for names, what in (
        (without_time, "an event's state, but no time"),
        (without_event, "a time, but no event"),
    ):
        if names:
            account.append(f"{counted(len(names), 'slide')} left out: {what} ({', '.join(names[:2])})")
    zero = int((times == 0).sum())
    if zero:
        account.append(f"{counted(zero, 'slide has', 'slides have')} a time of 0")
    return Times(times, events, account)


def _number(table: LabelTable, column: str, row: int) -> float:
    cell = cells.known(table.cells[column][row])
    if not cell:
        return math.nan
    try:
        value = float(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise UsageError(
            f"{table.places[row]}: {column} is {cell!r}, not a number; correct it, or leave the cell empty"
        )
    return value


def _event(table: LabelTable, column: str, row: int) -> int:
    """1, 0, or -1 where it is not known."""
    cell = cells.label(table.cells[column][row])
    if not cell:
        return -1
    number, colon, _ = cell.partition(":")
    word = number.strip() if colon else cell.casefold()
    if word in HAPPENED:
        return 1
    if word in NOT_YET:
        return 0
    raise UsageError(
        f"{table.places[row]}: {column} is {cell!r}; give 1 where the event came and 0 where it did not (or "
        "Dead and Alive, 1:DECEASED and 0:LIVING)"
    )

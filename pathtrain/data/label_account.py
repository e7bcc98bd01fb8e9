"""What is said of a table of labels before anything is trained: the columns, the tasks, what is left out."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt

from pathprep.pseudonyms.key import PSEUDONYM
from pathprep.storage import tables
from pathprep.words import counted
from pathtrain.data.label_table import LabelTable

CLASSES = 12  # that are printed of a task; the rest is counted


def of_table(
    table: LabelTable, rows: Sequence[int], left: Mapping[str, str], known: AbstractSet[str], where: str
) -> list[str]:
    """Lines on a table: its columns, those that are no task, slides that have no row.

    Args:
        table: the labels.
        rows: of slides that are known.
        left: columns that are no task, and why.
        known: slides with features, or of the dataset.
        where: what knows them: ``features``.
    """
    owners = table.patients
    of = "no column of patients" if owners is None else _patients(owners, rows)
    split = "no column split" if table.split is None else f"{table.split} is the split"
    lines = [
        f"{table.source}: {counted(len(table.slides), 'row')}; {table.slide_column} names the slides, "
        f"{of}, {split}"
    ]
    others = [name for name in table.patient_columns if owners is None or name != owners[0]]
    found = {**dict.fromkeys(others, "patients"), **left}
    if found:
        lines.append("no task: " + ", ".join(f"{name} ({why})" for name, why in found.items()))
        lines += _hints(table, left)
    named = set(table.slides)
    absent, unlisted = sorted(named - known), sorted(known - named)
    if absent:
        lines.append(
            f"{counted(len(absent), 'slide')} of the table {_has(absent)} no {where}: {some(absent)}"
        )
    if unlisted:
        lines.append(
            f"{counted(len(unlisted), 'slide')} with {where} {_are(unlisted)} in no row: {some(unlisted)}"
        )
    return lines


def of_task(
    table: LabelTable, name: str, column: str, rows: Sequence[int], order: Sequence[str] = ()
) -> list[str]:
    """Lines on a task: its classes with their slides, missing labels as they are written, mixed patients.

    Args:
        order: of ordered classes, from the lowest to the highest.
    """
    labels = table.labels_of(column)
    counts = sorted(Counter(labels[row] for row in rows if labels[row]).items())
    if order:
        counts.sort(key=lambda found: list(order).index(found[0]))
        name = f"{name} (ordinal)"
    shown = ", ".join(f"{label} {count}" for label, count in counts[:CLASSES])
    if len(counts) > CLASSES:
        shown += f" and {len(counts) - CLASSES} more classes"
    line = f"task {name}: {shown}"
    missing = table.missing(column, rows)
    if missing:
        written = ", ".join(f"{cell or 'empty'} {count}" for cell, count in missing.most_common(5))
        line += f"; {counted(missing.total(), 'slide')} without a label ({written})"
    lines = [line]
    mixed = table.mixed(column, rows)
    if mixed:
        lines.append(
            f"task {name}: {counted(len(mixed), 'patient')} {_has(mixed)} slides of different classes: "
            f"{some(mixed)}"
        )
    return lines


def of_numbers(name: str, values: npt.NDArray[np.float64]) -> list[str]:
    """A line on a task of numbers, NaN where none is known."""
    known = values[~np.isnan(values)]
    told = f"{known.min():g} to {known.max():g}, mean {known.mean():.4g}" if len(known) else "none"
    missing = len(values) - len(known)
    more = f"; {counted(missing, 'slide')} without one" if missing else ""
    return [f"task {name}: taken as numbers (regression): {counted(len(known))}, {told}{more}"]


def of_times(
    name: str, times: npt.NDArray[np.float64], events: npt.NDArray[np.int64], account: Sequence[str]
) -> list[str]:
    """Lines on a task of survival, NaN where it is not known."""
    known = times[events >= 0]
    told = f", times {known.min():g} to {known.max():g}" if len(known) else ""
    happened = counted(int((events == 1).sum()), "event")
    return [
        f"task {name} (survival): {counted(len(known))}, {happened}{told}",
        *(f"task {name}: {line}" for line in account),
    ]


def _hints(table: LabelTable, left: Mapping[str, str]) -> list[str]:
    """How columns that were left out are asked for, where a kind of task fits them."""
    lines = []
    plain = {tables.plain(name): name for name in table.cells}
    for name in table.cells:
        short = tables.plain(name)
        event = plain.get(re.sub("(months|days|years|time)$", "status", short))
        if event not in (None, name):
            lines.append(
                f"{name} and {event} are learnt as survival if they are asked for: {name},{event}:survival"
            )
    numbers = [name for name, why in left.items() if why.startswith("numbers: ") and name in table.labels]
    if numbers:
        lines.append(f"numbers are learnt if they are asked for: {numbers[0]}:regression")
    return lines


def some(names: Sequence[str], most: int = 2) -> str:
    """The first of some names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def nothing_fits(slides: Sequence[str], known: AbstractSet[str], where: str) -> str:
    """What to say where no slide of a table is known."""
    return (
        f"none of its {counted(len(slides), 'slide')} ({some(sorted(slides))}) has {where}; "
        f"there {_are(known)} {some(sorted(known)) or 'none'}; {how_named(known)}"
    )


def how_named(known: AbstractSet[str], *, drawings: bool = False) -> str:
    """What to say where a slide's name is not known: by what slides are named there.

    Args:
        drawings: names are those of files in a folder, not cells of a table.
    """
    if not known or not all(PSEUDONYM.match(name) for name in known):
        return "slides are named by their file's stem"
    if drawings:
        return "these are pseudonyms: `pathprep pseudonyms KEYFILE SLIDE` tells them, for copies of the files"
    return "these are pseudonyms: `pathprep pseudonyms KEYFILE --labels TABLE --out NEW` puts them into it"


def _patients(owners: tuple[str, list[str]], rows: Sequence[int]) -> str:
    column, cells = owners
    return f"{column} the patients ({len({cells[row] for row in rows} - {''})})"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _are(names: Sequence[str] | AbstractSet[str]) -> str:
    return "is" if len(names) == 1 else "are"

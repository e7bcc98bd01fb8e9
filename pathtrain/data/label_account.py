"""What is said of a table of labels before anything is trained: the columns, the tasks, what is left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from pathprep.pseudonyms.key import PSEUDONYM
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


def of_task(table: LabelTable, name: str, column: str, rows: Sequence[int]) -> list[str]:
    """Lines on a task: its classes with their slides, missing labels as they are written, mixed patients."""
    labels = table.labels_of(column)
    counts = sorted(Counter(labels[row] for row in rows if labels[row]).items())
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

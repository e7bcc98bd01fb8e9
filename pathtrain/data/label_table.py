"""Tables of slides' labels: which column is what, which are tasks, and what is said about it.

One place decides for training and evaluation. Columns are told by their names (pathprep.storage.tables):
slides, patients, the split; numbers of rows have no name. Every other column is a task, unless its cells
say otherwise: one class, a value of its own for every slide or patient, dates, measurements, free text.
Whoever names a column as a task gets it whatever it holds. Missing labels and the spelling of classes are
those of pathprep.storage.cells.
"""

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.slides.own_names import SlideNames
from pathprep.storage import cells, tables
from pathprep.storage.tables import Table
from pathprep.words import counted

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PARTS = ("train", "val", "test")
FEW = 5  # so many values may be classes even if each is there once
NUMBERS = 20  # more different numbers are a measurement
FRACTIONS = 10  # the same, where some are not whole
LONG = 100  # characters of a text that is no class

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4})"
    r"([T ]\d{1,2}:\d{2}.*)?|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
)
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
# Columns that tell of a patient or a file, by their names as tables.plain has them; their values may be few
_NO_CLASSES = re.compile(
    r"(age|year|dob|date|time)|(age|year|date)(at|of|in|yrs|years).*|.*(date|datetime|timestamp)"
    r"|.*(in|os|pfs|dfs|rfs|to|survival)(days|months|years)|daysto.*|.*(uuid|barcode)"
    r"|(n|num|number)(of)?(tiles|patches)"
)
_FOLD = ("fold", "folds", "fold_id", "cv_fold", "kfold")
_ROW = ("index", "level_0", "row", "row_id", "row_number", "row_names", "rownames", "#")


@dataclass(frozen=True)
class LabelTable:
    """A row per slide.

    Attributes:
        source: the files, for messages. places: (R) file and line of each row.
        slide_column: what the column of slides is called. slides: (R) names, as a dataset has them.
        patient_columns: in the order of preference. others: columns that are neither task, slide nor patient.
        cells: (R) by column, as they are written. labels: (R) by column that may be a task; "" is missing.
        split: the column of train, val and test, if there is one.
        unasked: columns that are a task only for who names them, and why.
    """

    source: str
    places: list[str]
    slide_column: str
    slides: list[str]
    patient_columns: list[str]
    split: str | None
    others: dict[str, str]
    cells: dict[str, list[str]]
    labels: dict[str, list[str]]
    unasked: dict[str, str]

    @property
    def patients(self) -> tuple[str, list[str]] | None:
        """The column of patients and its (R) cells, "" where it is missing: the first that is not empty."""
        for column in self.patient_columns:
            found = [cells.known(cell) for cell in self.cells[column]]
            if any(found):
                return column, found
        return None

    def parts(self, column: str, rows: Sequence[int]) -> list[str]:
        """The split of some rows: ``train``, ``val`` or ``test``.

        Raises:
            UsageError: a cell is none of them; it names the line.
        """
        found = []
        for row in rows:
            cell = self.cells[column][row]
            part = SPLITS.get(cell.lower())
            if part is None:
                raise UsageError(
                    f"{self.places[row]}: slide {self.slides[row]}: {column} is {cell or 'empty'}; "
                    "give train, val or test"
                )
            found.append(part)
        return found

    def tasks(self, rows: Sequence[int]) -> tuple[list[str], dict[str, str]]:
        """Columns that are tasks by what some rows hold; and why the others are not.

        Raises:
            UsageError: there is none.
        """
        taken, left = [], dict(self.others)
        owners = self.patients
        for column, labels in self.labels.items():
            holders = None if owners is None else [owners[1][row] for row in rows]
            reason = why_no_task([labels[row] for row in rows], holders) or self.unasked.get(column)
            if reason is None:
                taken.append(column)
            else:
                left[column] = reason
        if not taken:
            other = ", ".join([self.slide_column, *self.patient_columns, *filter(None, [self.split])])
            why = "; ".join(
                f"{tables.cut(column)}: {reason}" for column, reason in [*left.items()][: tables.SHOWN]
            )
            why = why or "there is none"
            raise UsageError(f"{self.source}: no column beside {other} holds classes to learn ({why})")
        return taken, left

    def labels_of(self, column: str) -> list[str]:
        """(R) classes of any column; "" is missing."""
        return self.labels.get(column) or [cells.label(cell) for cell in self.cells[column]]

    def check_classes(self, column: str) -> None:
        """Refuse classes that differ in capitals only: they are one, and a mistake.

        Raises:
            UsageError: names both, and a line.
        """
        first: dict[str, str] = {}
        for row, name in enumerate(self.labels_of(column)):
            other = first.setdefault(name.casefold(), name)
            if other != name:
                raise UsageError(
                    f"{self.places[row]}: {column} is {name!r}, elsewhere {other!r}; write a class in one way"
                )

    def missing(self, column: str, rows: Sequence[int]) -> Counter[str]:
        """How many of some rows have no label, by how that is written."""
        labels, written = self.labels_of(column), self.cells[column]
        return Counter(written[row] for row in rows if not labels[row])

    def mixed(self, column: str, rows: Sequence[int]) -> list[str]:
        """Patients whose slides have different labels."""
        owners, labels = self.patients, self.labels_of(column)
        if owners is None:
            return []
        seen: dict[str, set[str]] = {}
        for row in rows:
            if owners[1][row] and labels[row]:
                seen.setdefault(owners[1][row], set()).add(labels[row])
        return sorted(owner for owner, found in seen.items() if len(found) > 1)


def read(paths: Sequence[Path], known: AbstractSet[str]) -> LabelTable:
    """Tables of the same columns, CSV or Parquet, as one.

    Args:
        paths: at least one.
        known: slides with features, or of the dataset; they tell which of two columns names slides, and
            with SlideNames, slides are found by their own names too.

    Raises:
        UsageError: a table cannot be read, none of its columns names slides, or a slide is there twice.
    """
    known = SlideNames.of(known)
    read_ones = [tables.read(path) for path in paths]
    for table in read_ones[1:]:
        if table.columns.keys() != read_ones[0].columns.keys():
            raise UsageError(
                f"{table.path}: other columns than {paths[0]}: {table.has()}, the other: "
                f"{read_ones[0].has()}; make them equal"
            )
    first = read_ones[0]
    joined = {name: [cell for table in read_ones for cell in table.columns[name]] for name in first.columns}
    unnamed = [cell for table in read_ones for cell in table.unnamed or [""] * len(table)]
    source = " and ".join(map(str, paths))
    places = [table.at(row) for table in read_ones for row in range(len(table))]
    column, names = _slides(joined, unnamed, known, source, first)
    slides = [known.find(name, place) or name for name, place in zip(names, places, strict=True)]
    for row, slide in enumerate(slides):
        if slide not in known and cells.is_missing(slide):
            raise UsageError(f"{places[row]}: the slide has no name{f' ({slide})' if slide else ''}")
    _check_once(slides, places)
    return _roles(source, places, column, slides, joined, first.unnamed is not None)


def _slides(
    columns: dict[str, list[str]], unnamed: list[str], known: SlideNames, source: str, table: Table
) -> tuple[str, list[str]]:
    """The column of slides: of those whose name says so, the one that names most of the known slides."""
    candidates = {name: columns[name] for name in table.named("slide")}
    if not candidates and any(map(known.means, unnamed)):
        candidates = {"(no name)": unnamed}
    if not candidates:
        owner = next(iter(table.named("patient")), None)
        row = "" if owner is None else f"; a row per slide is needed, with its {owner}"
        raise UsageError(f"{source}: no column slide_id (or slide, filename, image); {table.has()}{row}")
    best = max(candidates, key=lambda name: sum(map(known.means, candidates[name])))
    return best, candidates[best]


def _check_once(slides: list[str], places: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, slide in enumerate(slides):
        if slide in seen:
            raise UsageError(
                f"{places[row]}: slide {slide} is there more than once (before: {places[seen[slide]]}); "
                "keep one row per slide"
            )
        seen[slide] = row


def _roles(
    source: str,
    places: list[str],
    slide: str,
    slides: list[str],
    columns: dict[str, list[str]],
    numbers: bool,
) -> LabelTable:
    patients, split = tables.named("patient", columns), tables.named("split", columns)
    others = {"(no name)": "numbers of rows"} if numbers and slide != "(no name)" else {}
    labels, unasked = {}, dict[str, str]()
    for name, written in columns.items():
        if name in (slide, *patients, *split[:1]):
            continue
        if name in tables.named("slide", columns):
            others[name] = "names slides too"
        elif tables.plain(name) in map(tables.plain, _FOLD):
            others[name] = "numbers of folds; a column split with train, val and test is taken"
        elif tables.plain(name) in map(tables.plain, _ROW) and len(set(written)) == len(written):
            others[name] = "numbers of rows"
        else:
            labels[name] = [cells.label(cell) for cell in written]
            if _NO_CLASSES.fullmatch(tables.plain(name)):
                unasked[name] = "by its name an age, a date, a number or an identifier"
    return LabelTable(
        source, places, slide, slides, patients, next(iter(split), None), others, columns, labels, unasked
    )


def why_no_task(labels: Sequence[str], owners: Sequence[str] | None) -> str | None:
    """Why a column that nobody named is no task; None if it is one.

    Args:
        labels: (R) of its cells; "" is missing.
        owners: (R) patients, if they are known.
    """
    there = [label for label in labels if label]
    values = set(there)
    if not values:
        return "no label"
    if len(values) == 1:
        return f"all {counted(len(there), 'label is', 'labels are')} {there[0]}"
    if all(_DATE.fullmatch(value) for value in values):
        return "dates"
    if {value.lower() for value in values} <= SPLITS.keys():
        return "names of parts; call the column split if it is to part the slides"
    if max(map(len, values)) > LONG:
        return "free text"
    many = f"{counted(len(values), 'value')} on {counted(len(there))}"
    if many_numbers(there):
        return f"numbers: {many}"
    if len(values) == len(there) > FEW:
        return f"a value of its own for each of {counted(len(there))}"
    if len(values) > FEW and 2 * len(values) >= len(there):
        return f"{many}: names or text, not classes"
    pairs = {(owner, label) for owner, label in zip(owners or (), labels, strict=False) if owner and label}
    if len(pairs) == len(values) == len({owner for owner, _ in pairs}) > FEW:
        return f"a value of its own for each of {counted(len(values), 'patient')}"
    return None


def many_numbers(labels: Sequence[str]) -> bool:
    """Whether a column measures something: more different numbers than classes have.

    Args:
        labels: of its cells; "" is missing.
    """
    values = {label for label in labels if label}
    if not all(_NUMBER.fullmatch(value) for value in values):
        return False
    whole = all(value.lstrip("+-").isdecimal() for value in values)
    return len(values) > (NUMBERS if whole else FRACTIONS)

"""Tables as people's programs write them: one reader for lists of slides, labels and groups.

CSV (csv_text says in which forms) and Parquet. Excel leaves empty columns beside the table, pandas and R put
the numbers of the rows into a column without a name, which pandas reads as ``Unnamed: 0``: none is a column.
Names of columns are compared without capitals, spaces, underscores, dots and hyphens: ``Patient ID`` and
``patient_id`` are one.
"""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from pathprep.errors import UsageError
from pathprep.storage import csv_text, parquet

# In the order of preference; see ``plain``
PATIENT = (
    *("patient_id", "patient", "patient_barcode", "bcr_patient_barcode", "case_id", "case"),
    *("case_submitter_id", "cases.submitter_id", "cases.case_id", "submitter_id", "subject_id", "subject"),
    *("participant_id", "participant", "patient_name", "patient_number", "patient_no", "patient_nr"),
    *(
        "patient_code",
        "patient_key",
        "patient_uuid",
        "patient_identifier",
        "bcr_patient_uuid",
        "pat_id",
        "pt_id",
    ),
    *(
        "pid",
        "mrn",
        "case_barcode",
        "case_number",
        "case_no",
        "case_nr",
        "case_uuid",
        "subject_no",
        "subj_id",
    ),
    *("usubjid", "donor_id", "icgc_donor_id", "submitter_donor_id", "donor", "person_id", "person"),
    *("individual_id", "individual", "animal_id", "animal"),
)
SLIDE = ("slide_id", "slide", "slide_name", "wsi", "wsi_id", "wsi_name")
IMAGE = ("file_name", "file", "image_id", "image_name", "image", "image_file", "image_path", "file_path")
KNOWN = {
    "file": ("file", "image name", "filename", "image", "path", *IMAGE, "tile", "tile name", "patch"),
    "label": ("label", "majority vote label", "class", "class name"),
    "group": ("group", "group_id", *PATIENT, "wsi", *SLIDE),
    "split": ("split", "partition"),
    "slide": (*SLIDE, "slide_file", "slide_path", "wsi_file", *IMAGE, "path"),
    "patient": (*PATIENT, "group", "group_id"),
}
MOST_COLUMNS = 100_000  # genes joined to slides are 60,000
SHOWN, LONGEST = 20, 80  # columns, and letters of one, in a message
_UNNAMED = re.compile(r"(unnamed: \d+(\.\d+|_level_\d+)?|__index_level_\d+__|\.\.\.\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Column names that the user gave; None: the first of KNOWN that the file has."""

    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Table:
    """A table without its blank rows and its columns without a name; names and cells are stripped.

    Attributes:
        path: the file.
        columns: cells (N) by name.
        lines: (N) number of the line that each row ends on; of Parquet: the row's, from 1.
        unnamed: (N) cells of the first column without a name, if there is one.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]
    unnamed: list[str] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> list[dict[str, str]]:
        """Cells by name, row by row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]

    def at(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.path}, {'row' if is_parquet(self.path) else 'line'} {self.lines[row]}"

    def named(self, what: str) -> list[str]:
        """Columns that are called as KNOWN says, in its order."""
        return named(what, self.columns)

    def pick(self, what: str, given: Columns) -> list[str] | None:
        """The cells of a column of KNOWN; None if it was not named and there is none.

        Raises:
            UsageError: the column that was named is not there.
        """
        name = getattr(given, what)
        if name is not None:
            if name not in self.columns:
                raise UsageError(f"{self.path}: no column {name!r} (`{what}_column`); {self.has()}")
            return self.columns[name]
        there = self.named(what)
        return self.columns[there[0]] if there else None

    def need(self, what: str, given: Columns) -> list[str]:
        """As ``pick``, but it must be there."""
        cells = self.pick(what, given)
        if cells is None:
            raise UsageError(
                f"{self.path}: which column is the {what}? Name it with `{what}_column`; {self.has()}"
            )
        return cells

    def first(self, what: str) -> str:
        """The first column of ``named``.

        Raises:
            UsageError: there is none.
        """
        there = self.named(what)
        if not there:
            raise UsageError(f"{self.path}: no column {what}; {self.has()}")
        return there[0]

    def check(self, needed: tuple[str, ...]) -> None:
        """Refuse a table without these columns, or without rows.

        Raises:
            UsageError: names the column.
        """
        missing = [name for name in needed if name not in self.columns]
        if missing:
            raise UsageError(f"{self.path}: no column {' or '.join(missing)}; {self.has()}")
        if not len(self):
            raise UsageError(f"{self.path}: needs a header and rows below it")

    def has(self) -> str:
        """What columns there are, for messages."""
        names = [cut(name) for name in self.columns]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"it has {', '.join(names[:SHOWN]) or 'none'}{more}"


def cut(cell: str) -> str:
    """A cell or a name as messages show it, which may be of megabytes."""
    return cell if len(cell) <= LONGEST else f"{cell[:LONGEST]}..."


def plain(name: str) -> str:
    """A column's name as names are compared: no capitals, spaces, underscores, dots, hyphens."""
    return re.sub(r"[\s_.-]", "", name).casefold()


def named(what: str, columns: Iterable[str]) -> list[str]:
    """Those of some columns that are called as KNOWN says, in its order."""
    order = {plain(name): place for place, name in reversed([*enumerate(KNOWN[what])])}
    return sorted((name for name in columns if plain(name) in order), key=lambda name: order[plain(name)])


def is_unnamed(name: str) -> bool:
    """Whether a column has no name, or one that a program made up for the numbers of the rows."""
    return _UNNAMED.fullmatch(name) is not None


def is_parquet(path: Path) -> bool:
    """Whether a file is read as Parquet, by its ending."""
    return path.suffix.lower() in (".parquet", ".pq")


def read(path: Path, needed: tuple[str, ...] = (), *, any_case: bool = False) -> Table:
    """Read a table: Parquet, or a CSV with a header, as csv_text reads it.

    Args:
        path: the file.
        needed: columns that must be there.
        any_case: names are taken in lower case.

    Raises:
        UsageError: it cannot be read, is in another encoding, lacks a column or rows, has two columns of one
            name, a quote that is not closed, or a row of another length than the header.
    """
    header, cells, lines = _parquet(path) if is_parquet(path) else _csv(path)
    if any_case:
        header = [name.lower() for name in header]
    if len(header) > MOST_COLUMNS:
        raise UsageError(
            f"{path}: {len(header):,} columns, at most {MOST_COLUMNS:,} are read; is it of measurements, "
            "or are its rows and columns exchanged?"
        )
    bare = [place for place, name in enumerate(header) if is_unnamed(name)]
    columns: dict[str, list[str]] = {}
    for place, name in enumerate(header):
        if name in columns:
            raise UsageError(f"{path}: two columns are named {cut(name)!r}; rename one")
        if not is_unnamed(name):
            columns[name] = cells[place]
    table = Table(path, columns, lines, cells[bare[0]] if bare else None)
    table.check(needed)
    return table


def _csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    header, rows = csv_text.parse(path)
    return (
        header,
        [[row[place] for _, row in rows] for place in range(len(header))],
        [line for line, _ in rows],
    )


def _parquet(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    stored = stored_table(path)
    with _told(path):  # dates that Python does not have, texts that are none
        cells = [[_text(value) for value in column.to_pylist()] for column in stored.columns]
    return [name.strip() for name in stored.column_names], cells, list(range(1, stored.num_rows + 1))


def stored_table(path: Path) -> pa.Table:
    """A Parquet file with its columns as they are stored.

    Raises:
        UsageError: it cannot be read, is damaged, or has too many cells.
    """
    with _told(path):
        rows, columns = parquet.shape(path)
        if columns > MOST_COLUMNS or rows * columns > parquet.MOST_CELLS:
            raise UsageError(
                f"{path}: {rows:,} rows of {columns:,} columns; at most {MOST_COLUMNS:,} columns and "
                f"{parquet.MOST_CELLS:,} cells are read: leave out what is not needed"
            )
        return parquet.read(path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a Parquet file, as a line that names it."""
    try:
        yield
    except UsageError:
        raise
    except MemoryError:
        raise UsageError(f"{path}: does not fit into memory; leave out what is not needed") from None
    except Exception as error:  # of a damaged file pyarrow raises what it happens to
        if isinstance(error, OSError) and error.strerror:
            raise UsageError(f"{path}: {error.strerror}") from None
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{path}: not a Parquet file ({words}); write it anew") from None


def _text(value: object) -> str:
    """A cell of a Parquet file; a whole number that a missing neighbour made a float is whole again."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

"""CSV files of labels: which column is which, and rows with their line numbers."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError

# In the order of preference, compared without case
KNOWN = {
    "file": ("file", "image name", "filename", "image", "path"),
    "label": ("label", "majority vote label", "class"),
    "group": ("group", "wsi", "slide", "patient"),
    "split": ("split", "partition"),
}


@dataclass(frozen=True)
class Columns:
    """Column names that the user gave; None: the first of KNOWN that the file has."""

    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Table:
    """A CSV: its path, and columns by their stripped names, cells stripped; row i is line ``lines[i]``."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def pick(self, what: str, given: Columns) -> list[str] | None:
        """The cells of a column of KNOWN; None if it was not named and there is none.

        Raises:
            UsageError: the column that was named is not there.
        """
        name = getattr(given, what)
        if name is not None:
            if name not in self.columns:
                raise UsageError(f"{self.path}: no column {name!r} (--{what}-column); {self.has()}")
            return self.columns[name]
        lower = {column.lower(): cells for column, cells in self.columns.items()}
        return next((lower[known] for known in KNOWN[what] if known in lower), None)

    def need(self, what: str, given: Columns) -> list[str]:
        """As ``pick``, but it must be there."""
        cells = self.pick(what, given)
        if cells is None:
            raise UsageError(
                f"{self.path}: which column is the {what}? Name it with --{what}-column; {self.has()}"
            )
        return cells

    def has(self) -> str:
        """What columns there are, for messages."""
        return f"it has {', '.join(name or '(no name)' for name in self.columns)}"


def read(path: Path) -> Table:
    """Read a CSV with a header.

    Raises:
        UsageError: it cannot be read, has no rows, two columns of one name, or a row of another length.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from None
    if not rows:
        raise UsageError(f"{path}: needs a header and rows below it")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"{path}: two columns are named {twice!r}; rename one")
    for line, row in rows:
        if len(row) != len(header):
            raise UsageError(f"{path}, line {line}: {len(row)} cells, the header has {len(header)}")
    cells = zip(*(row for _, row in rows), strict=True)
    columns = {name: list(column) for name, column in zip(header, cells, strict=True)}
    return Table(path, columns, [line for line, _ in rows])

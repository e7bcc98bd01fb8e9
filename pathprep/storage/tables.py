"""CSV files as people's programs write them: one reader for lists of slides, labels and groups.

Excel writes semicolons where commas are decimal, a byte order mark, or UTF-16 with tabs ("Unicode text"),
and empty columns beside the table; pandas and R put the numbers of the rows into a column without a name.
"""

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError

SEPARATORS = ",;\t"

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
    """A CSV without its blank rows and its columns without a name; names and cells are stripped.

    Attributes:
        path: the file.
        columns: cells (N) by name.
        lines: (N) number of the line that each row ends on.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> list[dict[str, str]]:
        """Cells by name, row by row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]

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
        lower = {column.lower(): cells for column, cells in self.columns.items()}
        return next((lower[known] for known in KNOWN[what] if known in lower), None)

    def need(self, what: str, given: Columns) -> list[str]:
        """As ``pick``, but it must be there."""
        cells = self.pick(what, given)
        if cells is None:
            raise UsageError(
                f"{self.path}: which column is the {what}? Name it with `{what}_column`; {self.has()}"
            )
        return cells

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
        return f"it has {', '.join(self.columns) or 'none'}"


def read(path: Path, needed: tuple[str, ...] = (), *, any_case: bool = False) -> Table:
    """Read a CSV with a header: separated by commas, semicolons or tabs, in UTF-8, or UTF-16 with its mark.

    Args:
        path: the file.
        needed: columns that must be there.
        any_case: names are taken in lower case.

    Raises:
        UsageError: it cannot be read, is in another encoding, lacks a column or rows, has two columns of one
            name, a quote that is not closed, or a row of another length than the header.
    """
    text = _text(path)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_separator(text), skipinitialspace=True, strict=True
    )
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: cannot be read as CSV ({error})") from None
    (_, header), *rows = [(line, row) for line, row in lines if any(row)] or [(0, [])]
    if any_case:
        header = [name.lower() for name in header]
    names = [name for name in header if name]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path}: two columns are named {twice!r}; rename one")
    for line, row in rows:
        if len(row) != len(header):
            raise UsageError(f"{path}, line {line}: {len(row)} cells, the header has {len(header)}")
    table = Table(
        path,
        {name: [row[place] for _, row in rows] for place, name in enumerate(header) if name},
        [line for line, _ in rows],
    )
    table.check(needed)
    return table


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f'{path}, line {line}: not text in UTF-8; save it as "CSV UTF-8"') from None
    if "\0" in text:
        raise UsageError(f'{path}: not text in UTF-8; save it as "CSV UTF-8"')
    return text


def _separator(text: str) -> str:
    """What separates the header's cells: of SEPARATORS, the one that it has most of outside of quotes."""
    header = next((line for line in text.splitlines() if line.strip(f" {SEPARATORS}")), "")
    bare = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=bare.count)

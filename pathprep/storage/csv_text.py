"""The text of a CSV as rows of cells with their lines: encodings, separators, comments, R's row names.

Beside what Excel, LibreOffice and pandas write, these are read: lines that begin with # above the header
(cBioPortal; a single one with as many cells as the rows is the header: numpy's savetxt), ``sep=;`` in the
first line (Excel), and a header that is one short of its rows, because the rows' numbers have no name (R's
write.table).
"""

import codecs
import csv
import io
import re
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage import regular
from pathprep.words import counted

SEPARATORS = ",;\t"
Row = tuple[int, list[str]]

# What to do about what the csv module says
_FIXES = {
    "field larger": "a cell so long mostly is a quote that is not closed; close it, or take it out",
    "unexpected end": "a quote is not closed; close it, or take it out",
    "expected after": "double the quotes within a quoted cell",
    "": "save it anew, as CSV UTF-8",
}

_STATED = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # Excel's hint to itself
_COMMENT = re.compile(r'"?#[^,;\t"]')  # a cell of # alone is the name of a column of numbers


def parse(path: Path) -> tuple[list[str], list[Row]]:
    """The header, and each row with the number of its last line; cells are stripped, blank rows left out.

    Raises:
        UsageError: it cannot be read, is in another encoding, or has a quote that is not closed or a row of
            another length than the header.
    """
    text, above, separator = _after_comments(_text(path))
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        lines = [(above + reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        last = above + reader.line_num
        first = _began(text, separator, reader.line_num) + above
        where = f"line {last}" if first >= last else f"line {first} (read on to line {last})"
        fix = _FIXES[next((word for word in _FIXES if word in str(error)), "")]
        raise UsageError(f"{path}, {where}: cannot be read as CSV ({error}); {fix}") from None
    (_, header), *rows = [(line, row) for line, row in lines if any(row)] or [(0, [])]
    header = _with_row_numbers(header, rows)
    for line, row in rows:
        if len(row) != len(header):
            raise UsageError(
                f"{path}, line {line}: {counted(len(row), 'cell')}, the header has {len(header)}"
            )
    return header, rows


def _began(text: str, separator: str, last: int) -> int:
    """The line on which the row begins that ends, or cannot be read, on line ``last``.

    A quote that is not closed swallows the lines below it: the fault is where the row begins.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    began = 1
    try:
        while reader.line_num < last:
            began = reader.line_num + 1
            next(reader)
    except (csv.Error, StopIteration):
        pass
    return began


def _after_comments(text: str) -> tuple[str, int, str]:
    """The text from its header on, the number of lines above it, and what separates the cells."""
    above, stated, comments = 0, "", []
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        hint = _STATED.fullmatch(line.strip(" \r\n")) if not stated else None
        if hint is not None:
            stated = hint[1]
        elif _COMMENT.match(line) is None:
            if line.strip(f" {SEPARATORS}\r\n"):
                break
            continue
        else:
            comments.append(line)
        above = number + 1
    rest = "".join(lines[above:])
    separator = stated if stated and stated in SEPARATORS else _separator(rest)
    first = next((line for line in lines[above:] if line.strip()), "")
    if len(comments) == 1 and comments[0].count(separator) == first.count(separator) > 0:
        return comments[0].replace("#", "", 1).lstrip() + rest, above - 1, separator
    return rest, above, separator


def _separator(text: str) -> str:
    """What separates the header's cells: of SEPARATORS, the one that it has most of outside of quotes."""
    header = next((line for line in text.splitlines() if line.strip(f" {SEPARATORS}")), "")
    bare = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=bare.count)


def _with_row_numbers(header: list[str], rows: list[Row]) -> list[str]:
    """The header with a name of nothing before it, if every row has a number more than it."""
    numbers = [row[0] for _, row in rows if len(row) == len(header) + 1]
    if not rows or len(numbers) < len(rows) or not all(cell.isdecimal() for cell in numbers):
        return header
    trailing = not any(row[-1] for _, row in rows)  # a separator too many at the end of every row
    return header if trailing or len(set(numbers)) < len(rows) else ["", *header]


def _text(path: Path) -> str:
    try:
        data = regular.read(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise UsageError(f"{path}: does not fit into memory; leave out columns that are not needed") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f'{path}, line {line}: not text in UTF-8; save it as "CSV UTF-8"') from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(f'{path}, line {line}: not text in UTF-8 (it holds a NUL); save it as "CSV UTF-8"')
    return text

"""The table original -> pseudonym, beside the key file: KEYFILE.csv, which its owner alone may read.

A row per slide, file and mask that were ever given a pseudonym with the key; rows are added, never changed.
Pseudonyms are found without it, by the key; only the way back needs it.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from pathprep.errors import UsageError
from pathprep.pseudonyms.key import PSEUDONYM, Key, write_private
from pathprep.slides.own_names import composed
from pathprep.storage import locks, regular


class Row(NamedTuple):
    """A pseudonym and the name that it stands for; of a slide, its file and mask, "" without."""

    pseudonym: str
    name: str
    path: str = ""
    mask: str = ""


def rows(key: Key) -> list[Row]:
    """All rows; none if there is no table yet.

    Raises:
        UsageError: it cannot be read, or is not such a table.
    """
    path = key.table
    try:
        text = regular.read(path).decode(errors="surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{path}: the table of pseudonyms cannot be read ({error.strerror})") from None
    try:
        header, *found = csv.reader(io.StringIO(text, newline=""), strict=True)
        if tuple(header) != Row._fields:
            raise ValueError
        return [Row(*row) for row in found]
    except (ValueError, TypeError, csv.Error):
        raise UsageError(
            f"{path}: not the table of pseudonyms any more (columns {', '.join(Row._fields)}); bring it back "
            "from your backup, or move it away: slides that are given again are entered again"
        ) from None


def add(key: Key, new: Iterable[Row]) -> None:
    """Enter rows that are not there yet; safe while others do the same.

    Raises:
        UsageError: two names would have one pseudonym; the table cannot be read or written.
    """
    path = key.table
    try:
        with locks.exclusive(path.with_name(f".{path.name}.lock"), wait=True):
            there = rows(key)
            known = {row.pseudonym: composed(row.name) for row in there}
            old = set(there)
            added = [row for row in dict.fromkeys(new) if row not in old]
            for row in added:
                other = known.setdefault(row.pseudonym, composed(row.name))
                if other != composed(row.name):
                    raise UsageError(
                        f"{path}: {row.name} and {other} would have one pseudonym, {row.pseudonym}, by "
                        "chance; use another key file, and another `out`"
                    )
            if added:
                _write(path, [*there, *added])
    except OSError as error:
        raise UsageError(f"{path}: the table of pseudonyms cannot be written ({error.strerror})") from None


def _write(path: Path, all_rows: Iterable[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(all_rows)
    write_private(path, text.getvalue().encode(errors="surrogateescape"))


def own_names(table: Iterable[Row]) -> Mapping[str, tuple[str, ...]]:
    """Slides' own names by pseudonym."""
    return {row.pseudonym: (row.name,) for row in table if row.pseudonym.startswith("s")}


def look_up(table: Iterable[Row], name: str) -> list[Row]:
    """Rows of a pseudonym, also with what a dataset adds to it; or of an own name or file."""
    bare = PSEUDONYM.match(name)
    wanted = bare[0] if bare else None
    return [
        row
        for row in table
        if row.pseudonym == wanted or name in (row.name, row.path, PurePath(row.path).name)
    ]

"""A table of labels with pseudonyms instead of slides' and patients' own names."""

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.pseudonyms import signs, table
from pathprep.pseudonyms.key import Key
from pathprep.slides.own_names import SlideNames, own_name
from pathprep.storage import atomic, cells, tables


@dataclass
class Rewritten:
    """What became of a table.

    Attributes:
        rows: how many. slide, patients: columns that have pseudonyms now. kept: columns as they were.
        left: columns that are left out, and why. unknown: slides that the key
            has given no pseudonym before, as the table calls them.
    """

    rows: int
    slide: str
    patients: list[str]
    kept: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def rewrite(key: Key, path: Path, out: Path, *, keep: Collection[str] = ()) -> Rewritten:
    """Write a table of labels as `pathtrain` takes it for a pseudonymised dataset.

    Columns of slides and patients get pseudonyms. Others that seem to tell of a person (dates, numbers of a
    hospital, free text) are left out; what is left is for the user to look at.

    Args:
        key: of the dataset. path: CSV or Parquet. out: CSV. keep: columns that are kept whatever they hold.

    Raises:
        UsageError: there is no column of slides, a slide may be one of several, ``out`` is the table
            itself, or cannot be written.
    """
    if out.exists() and out.samefile(path):
        raise UsageError(f"{out}: is the table itself, which would be lost; choose another `out`")
    given = tables.read(path)
    named = given.named("slide")
    if not named:
        raise UsageError(f"{path}: no column of slides, such as slide; {given.has()}")
    missing = [name for name in keep if name not in given.columns]
    if missing:
        raise UsageError(f"{path}: no column {', '.join(missing)} to keep; {given.has()}")
    own = table.own_names(table.rows(key))
    names = SlideNames.of(own, own)
    done = Rewritten(len(given), named[0], [name for name in given.named("patient") if name != named[0]])
    made: dict[str, list[str]] = {}
    for column, values in given.columns.items():
        if column == done.slide:
            made[column] = [
                _slide(key, names, value, given.at(row), done) for row, value in enumerate(values)
            ]
        elif column in done.patients:
            made[column] = [key.name(value, "g") if cells.known(value) else "" for value in values]
        else:
            why = None if column in keep else _tells(column, values)
            if why is None:
                made[column] = values
                done.kept.append(column)
            else:
                done.left[column] = why
    done.unknown = list(dict.fromkeys(done.unknown))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(made)
    writer.writerows(zip(*made.values(), strict=True))
    try:
        atomic.write_alone(out, text.getvalue().encode())
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); choose another `out`") from None
    return done


def _slide(key: Key, names: SlideNames, value: str, where: str, done: Rewritten) -> str:
    found = names.find(value, where) if value else None
    if found is not None or not value:
        return found or ""
    done.unknown.append(value)
    return key.name(own_name(Path(re.split(r"[/\\]", value)[-1])))


def _tells(column: str, values: list[str]) -> str | None:
    """Why a column may tell of a person; None if it does not look so."""
    if re.search(r"name|birth|dob|date|address|street|phone|mail|mrn", tables.plain(column)) and any(values):
        return "by its name"
    for value in values:
        for found in signs.of_name(value, persons=False):
            return f"{found.what}, such as {value!r}"
        if len(value) > 100:
            return "free text"
    return None

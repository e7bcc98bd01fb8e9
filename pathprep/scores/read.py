"""Reading a file of scores: Parquet or CSV with a row per tile, or HDF5 with ``coords`` and scores.

    slide   name or file of the slide; may be absent where one slide is looked at
    x, y    level-0 pixels, of the tile's left and upper edge
    side    level-0 pixels; may be absent where the dataset, or the user, tells
    ...     every other column: a score (number), or a class (text; whole numbers of a column called cluster,
            class or the like)

Nothing is dropped without a word: what is left out stands in ``notes``.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pathprep.errors import UsageError
from pathprep.scores import columns as kinds
from pathprep.scores import hdf5
from pathprep.scores.columns import Classes, Column, Floats, Ints
from pathprep.scores.rows import Rows, Scores
from pathprep.storage import tables
from pathprep.storage.printable import printable
from pathprep.words import counted

HDF5 = (".h5", ".hdf5")
X = ("x", "x0", "coord x", "x coord", "tile x", "x px", "left", "x start", "start x", "xmin", "minx")
Y = ("y", "y0", "coord y", "y coord", "tile y", "y px", "top", "y start", "start y", "ymin", "miny")
# A patch size alone is none: of which level, it does not say (CLAM's report 41)
SIDE = ("side", "tile side", "side level0", "patch size level0", "tile size level0")
# Of the index of a dataset, and of tables of tiles: where a tile lies and how it is stored is no score
NO_SCORES = (
    *("column", "row", "region", "stored", "offset", "length", "crc32", "width", "height", "index"),
    *("size", "tile size", "patch size", "level", "mpp"),
)
FAR = 1 << 31  # no slide has such coordinates


def read_scores(path: Path) -> Scores:
    """Read a file of scores; see the module.

    Raises:
        UsageError: it cannot be read, has no coordinates or no score, or a value that is none.
    """
    if path.suffix.lower() in HDF5:
        slide, rows, notes = hdf5.read(path)
        return _divided(path, [slide] * len(rows), rows, notes)
    if tables.is_parquet(path):
        return _of_parquet(path)
    return _of_csv(path)


def _of_csv(path: Path) -> Scores:
    table = tables.read(path)
    slide, x, y, side = _places(path, list(table.columns))
    made: dict[str, Column | None] = {
        name: kinds.of_texts(name, texts)
        for name, texts in table.columns.items()
        if name not in (slide, x, y, side) and not _is_no_score(name)
    }
    lines = np.asarray(table.lines, np.int64)

    def numbers(name: str) -> Floats:
        found = kinds.of_texts("", table.columns[name])
        if not isinstance(found, np.ndarray):
            raise UsageError(f"{path}: column {name} are level-0 pixels, whole numbers; {table.has()}")
        return found

    named = table.columns[slide] if slide is not None else [""] * len(table)
    return _made(path, named, numbers(x), numbers(y), numbers(side) if side else None, made, lines)


def _of_parquet(path: Path) -> Scores:
    table = tables.stored_table(path)
    if len(set(table.column_names)) < len(table.column_names):
        raise UsageError(f"{path}: two columns have one name; rename one")
    if not len(table):
        raise UsageError(f"{path}: needs rows")
    slide, x, y, side = _places(path, table.column_names)
    made = {
        name: _column(name, table[name])
        for name in table.column_names
        if name not in (slide, x, y, side) and not _is_no_score(name)
    }

    def numbers(name: str) -> Floats:
        if not _is_numeric(table[name].type):
            raise UsageError(f"{path}: column {name} is {table[name].type}; expected level-0 pixels")
        return _floats(table[name])

    names = [""] * len(table)
    if slide is not None:
        names = ["" if each is None else str(each).strip() for each in table[slide].to_pylist()]
    lines = np.arange(1, len(table) + 1)
    return _made(path, names, numbers(x), numbers(y), numbers(side) if side else None, made, lines)


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _floats(values: pa.ChunkedArray) -> Floats:
    return np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(), np.float64)


def _column(name: str, values: pa.ChunkedArray) -> Column | None:
    if _is_numeric(values.type):
        numbers = _floats(values)
        if np.isnan(numbers).all():
            return None
        return (
            kinds.of_names(kinds.texts_of(numbers)) if kinds.is_named_by_numbers(name, numbers) else numbers
        )
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if not pa.types.is_boolean(values.type):
            return None
        values = pc.if_else(values, "yes", "no")
    return kinds.of_texts(name, ["" if each is None else each for each in values.to_pylist()])


def _places(path: Path, names: list[str]) -> tuple[str | None, str, str, str | None]:
    """Columns of slide, x, y and side."""
    plain = {tables.plain(name): name for name in reversed(names)}

    def first(known: Iterable[str]) -> str | None:
        return next((plain[tables.plain(one)] for one in known if tables.plain(one) in plain), None)

    x, y = first(X), first(Y)
    if x is None or y is None:
        missing = "x" if x is None else "y"
        shown = ", ".join(map(printable, names[:20]))
        raise UsageError(
            f"{path}: no column {missing}; scores have slide, x, y and side (level-0 pixels), and a column "
            f"per score; it has {shown}"
        )
    return first(tables.KNOWN["slide"]), x, y, first(SIDE)


def _is_no_score(name: str) -> bool:
    return tables.plain(name) in map(tables.plain, NO_SCORES) or tables.is_unnamed(name)


def _made(
    path: Path,
    slides: list[str],
    x: Floats,
    y: Floats,
    side: Floats | None,
    columns: dict[str, Column | None],
    lines: Ints,
) -> Scores:
    notes = [
        f"column {printable(name)} is no score and no class (other values, or more than "
        f"{kinds.MOST_CLASSES} texts); left out"
        for name, column in columns.items()
        if column is None
    ]
    scored = {name: column for name, column in columns.items() if column is not None}
    whole = [_whole(path, name, values, lines) for name, values in (("x", x), ("y", y))]
    sides = np.zeros(len(x), np.int64)
    if side is not None:
        sides = _whole(path, "side", np.nan_to_num(side, nan=0.0), lines)
    return _divided(path, slides, Rows(whole[0], whole[1], sides, scored, lines), notes)


def _whole(path: Path, name: str, values: Floats, lines: Ints) -> Ints:
    wrong = ~(np.abs(values) < FAR)  # NaN too
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UsageError(
            f"{path}, row {lines[row]:,}: {name} is {values[row]:g}; expected level-0 pixels "
            f"({counted(int(wrong.sum()), 'such row')})"
        )
    return np.rint(values).astype(np.int64)


def _divided(path: Path, slides: list[str], rows: Rows, notes: list[str]) -> Scores:
    """By slide, after the checks that need no slide."""
    if not rows.columns:
        said = f" ({'; '.join(notes)})" if notes else ""
        raise UsageError(f"{path}: no score; scores have slide, x, y, side, and a column per score{said}")
    ranges = {}
    for name, column in rows.columns.items():
        if isinstance(column, Classes):
            continue
        if np.isinf(column).any():
            row = int(np.argmax(np.isinf(column)))
            raise UsageError(
                f"{path}, row {rows.lines[row]:,}: {printable(name)} is infinite; leave such cells empty"
            )
        ranges[name] = (float(np.nanmin(column)), float(np.nanmax(column)))
    names = np.asarray([name or "" for name in slides], dtype=np.str_)
    if (names == "").any() and not (names == "").all():
        row = int(np.argmax(names == ""))
        raise UsageError(f"{path}, row {rows.lines[row]:,}: says no slide, others do")
    order = np.argsort(names, kind="stable")
    found, starts = np.unique(names[order], return_index=True)
    parts = np.split(order, starts[1:])
    divided = {str(name): rows.at(np.sort(part)) for name, part in zip(found, parts, strict=True)}
    return Scores(path, divided, ranges, notes)

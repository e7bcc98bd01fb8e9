"""Further columns of tiles: the centre, scanner, stain or patient that each is of.

Looked for, in this order, in

    part of the name    a pattern with named groups on the files' names: ``(?P<scanner>[^_]+)_``; ``plism`` is
                        that of PLISM: <stain>_<scanner>_to_<reference>.../<place>
    a table             a CSV or Parquet with a row per slide (slide), per tile (slide, x, y), or, of images
                        and imported tiles, per file (file)
    the data            the columns of an image folder's labels.csv or of a Parquet of images; of datasets
                        also ``slide`` or ``group``, what their tiles are grouped by

What a dataset's index holds of imported tiles is its contract, and has no further columns: the folder's own
labels.csv is given as the table, and joined by the file.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage import cells, tables
from pathprep.storage.tables import Table
from pathtrain.data.image_tables import ImageTable
from pathtrain.data.tile_labels import known_slides
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles

Tiles = DatasetTiles | FolderTiles | ImageTable
# Of owkin/plism-dataset: GIVH_S360_to_GMH_S60.tif, its tiles by their places, in folders or as file names
PLISM = (
    r"(?:^|/)(?P<stain>[A-Z]+)_(?P<scanner>[A-Za-z0-9]+)_to_[A-Z]+_[A-Za-z0-9]+[^/_]*[/_]"
    r"(?P<tile>[^/]+?)(?:\.\w+)?$"
)
PRESETS = {"plism": PLISM}


@dataclass(frozen=True)
class Columns:
    """Where columns may come from besides the data.

    Attributes:
        table: the table's file. names: the pattern, or one of PRESETS.
    """

    table: Path | None = None
    names: str | None = None

    def of(self, tiles: Tiles, column: str) -> list[str]:
        """(N,) cells of a column, empty where unknown.

        Raises:
            UsageError: nothing has this column, a pattern or table that does not fit.
        """
        pattern = self._pattern()
        if pattern is not None and column in pattern.groupindex:
            return _from_names(tiles, pattern, column)
        there: dict[str, list[str]] = {}
        read = None if self.table is None else tables.read(self.table)
        if read is not None:
            name = _find(column, read.columns)
            if name is not None:
                return _joined(tiles, read, name)
            there[str(self.table)] = list(read.columns)
        own = _own(tiles)
        name = _find(column, own)
        if name is not None:
            return [cells.label(cell) for cell in own[name]]
        there[str(tiles.path)] = list(own)
        has = "; ".join(f"{where} has {', '.join(names[:20]) or 'none'}" for where, names in there.items())
        raise UsageError(
            f"{tiles.path}: nothing says the column {column!r} of its tiles: {has}; give `columns`, a "
            f"table with "
            "it, or `names`, a pattern on the files' names"
        )

    def _pattern(self) -> re.Pattern[str] | None:
        if self.names is None:
            return None
        try:
            pattern = re.compile(PRESETS.get(self.names, self.names))
        except re.error as error:
            raise UsageError(f"`names` {self.names}: no pattern: {error}") from None
        if not pattern.groupindex:
            raise UsageError(
                f"`names` {self.names}: has no named group; write (?P<scanner>...) around what names the "
                f"scanner, "
                f"or give one of {', '.join(PRESETS)}"
            )
        return pattern


def _find(column: str, names: "dict[str, list[str]]") -> str | None:
    if column in names:
        return column
    alike = [name for name in names if tables.plain(name) == tables.plain(column)]
    return alike[0] if len(alike) == 1 else None


def names_of(tiles: Tiles) -> list[str]:
    """(N,) what each tile's file was called."""
    if isinstance(tiles, FolderTiles):
        return tiles.files
    if isinstance(tiles, ImageTable):
        return [tiles.name(row) for row in range(len(tiles))]
    return tiles.sources if tiles.labels is not None else [tiles.slides[number] for number in tiles.slide]


def _own(tiles: Tiles) -> dict[str, list[str]]:
    if isinstance(tiles, FolderTiles):
        return tiles.table.columns
    if isinstance(tiles, ImageTable):
        return tiles.columns
    grouped = [tiles.groups[number] for number in tiles.group]
    return {tiles.kind: grouped}


def _from_names(tiles: Tiles, pattern: re.Pattern[str], column: str) -> list[str]:
    names = names_of(tiles)
    found = [pattern.search(name) for name in names]
    missed = [name for name, match in zip(names, found, strict=True) if match is None]
    if missed:
        raise UsageError(
            f"{tiles.path}: {len(missed)} of {len(names)} names do not fit `names` {pattern.pattern}, "
            f"{missed[0]} "
            "for one; mend the pattern"
        )
    return [cells.label(match[column] or "") for match in found if match is not None]


def _joined(tiles: Tiles, table: Table, column: str) -> list[str]:
    """A table's column, by slide, by tile, or by file."""
    if isinstance(tiles, DatasetTiles) and tiles.labels is None:
        return _by_slide(tiles, table, column)
    if isinstance(tiles, ImageTable):
        raise UsageError(f"{table.path}: a table is not joined to {tiles.path}, which brings its own columns")
    files = table.columns[table.first("file")]
    rows: dict[str, str] = {}
    for row, (file, cell) in enumerate(zip(files, table.columns[column], strict=True)):
        if rows.setdefault(file, cell) != cell:
            raise UsageError(f"{table.at(row)}: {file} has two values of {column}; keep one row per file")
    names = names_of(tiles)
    unknown = [name for name in names if name not in rows]
    if len(unknown) == len(names):
        raise UsageError(
            f"{table.path}: no row is of a tile of {tiles.path}; its files are called as {names[0]}, the "
            f"table's as {next(iter(rows), 'none')}"
        )
    return [cells.label(rows.get(name, "")) for name in names]


def _by_slide(tiles: DatasetTiles, table: Table, column: str) -> list[str]:
    known = known_slides([tiles])
    slides = table.columns[table.first("slide")]
    axes = {name.lower(): table.columns[name] for name in table.columns if name.lower() in ("x", "y")}
    placed = len(axes) == 2
    rows: dict[tuple[str, ...], str] = {}
    for row, (slide, cell) in enumerate(zip(slides, table.columns[column], strict=True)):
        name = known.find(slide, table.at(row)) or slide
        key = (name, *(cells.label(axes[axis][row]) for axis in "xy")) if placed else (name,)
        if rows.setdefault(key, cell) != cell:
            what = "this tile" if placed else f"slide {slide}"
            raise UsageError(f"{table.at(row)}: {what} has two values of {column}; keep one row each")
    places = tiles.coords.tolist() if placed else [()] * len(tiles)
    keys = [
        (tiles.slides[slide], *map(str, place))
        for slide, place in zip(tiles.slide.tolist(), places, strict=True)
    ]
    if not any(key in rows for key in keys):
        raise UsageError(
            f"{table.path}: no row is of a slide of {tiles.path}, which has {tiles.slides[0]}, for one"
        )
    return [cells.label(rows.get(key, "")) for key in keys]

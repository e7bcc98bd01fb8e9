"""Labels of tiles: from a CSV per slide or per tile, from drawn annotations, or from the set itself.

An image folder brings its labels.csv, and a dataset of imported tiles has them in its index.

    slide,label             every tile of the slide has it
    slide,x,y,label         x and y as in the dataset's index: level-0 pixels of the tile's corner
    a folder of GeoJSON     <slide>.geojson as QuPath exports it: pathtrain.data.drawn_labels

A missing label (empty, NA and the like: pathprep.storage.cells), and a tile that no row or polygon covers,
is unlabelled: -1. Tables may be Parquet too.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.slides.own_names import SlideNames
from pathprep.storage import cells, tables
from pathprep.storage.tables import Table
from pathprep.words import counted
from pathtrain.data import label_account
from pathtrain.data.drawn_labels import labels_of, read_drawings
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles

Ints = npt.NDArray[np.int64]
Names = list[str]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """Labels of several sets of tiles, with one numbering of the classes.

    Attributes:
        classes: names, sorted.
        values: per set (N,) int64: a number into ``classes``, or -1 where the tile has no label.
    """

    classes: list[str]
    values: list[Ints]


def read_labels(
    sets: Sequence[DatasetTiles | FolderTiles], path: Path | None, origin: AskedOrigin = "auto"
) -> Labels:
    """Labels of each set: image folders bring their own; datasets take theirs from ``path``.

    Without ``path``, datasets of imported tiles (`pathprep import-tiles`) take those of their index.

    Args:
        sets: at least one.
        path: a CSV, or a folder of GeoJSON files; None if no dataset of slides is among the sets.
        origin: of GeoJSON files that do not say theirs, on slides with bounds; see pathprep.slides.masks.

    Raises:
        UsageError: no labels for a dataset, labels that nothing uses, an unknown slide, a file that
            cannot be read, an origin that is not known, a set without a labelled tile, or fewer than two
            classes.
    """
    if origin not in get_args(AskedOrigin):
        raise UsageError(f"`label_origin` is {origin!r}; give {', '.join(get_args(AskedOrigin))}")
    if origin != "auto" and (path is None or not path.is_dir()):
        raise UsageError(f"`label_origin` {origin} is for a folder of GeoJSON as `labels`; leave it out")
    datasets = [tiles for tiles in sets if isinstance(tiles, DatasetTiles)]
    bare = [tiles for tiles in datasets if tiles.labels is None]
    if bare and path is None:
        raise UsageError(
            f"{bare[0].path}: a dataset holds no labels; give `labels`: a CSV with the columns "
            "slide,label or slide,x,y,label, or a folder of GeoJSON annotations"
        )
    if path is not None and not datasets:
        raise UsageError(f"`labels` {path}: not used, image folders bring their labels.csv; leave it out")
    named: list[Names] = []
    found = iter(_of_datasets(datasets, path, origin)) if path is not None else iter(())
    for tiles in sets:
        own = tiles.labels if path is None or isinstance(tiles, FolderTiles) else None
        named.append(next(found) if own is None else list(own))
    for tiles, names in zip(sets, named, strict=True):
        if not any(names):
            raise UsageError(f"{tiles.path}: none of its {counted(len(tiles), 'tile')} has a label")
    classes = sorted({label for names in named for label in names} - {""})
    if len(classes) < 2:
        raise UsageError(f"{path or sets[0].path}: labels of one class only ({classes}); two are needed")
    numbers = {"": -1} | {label: number for number, label in enumerate(classes)}
    values = [np.array([numbers[label] for label in names], dtype=np.int64) for names in named]
    return Labels(classes, values)


def _of_datasets(datasets: Sequence[DatasetTiles], path: Path, origin: AskedOrigin) -> list[Names]:
    if path.is_dir():
        drawings = read_drawings(path, known_slides(datasets))
        _check_slides(datasets, set(drawings), path)
        return [labels_of(tiles, drawings, origin) for tiles in datasets]
    rows = _read_rows(path, known_slides(datasets))
    _check_slides(datasets, set(rows.slides), path)
    per_set = _per_slide if rows.places is None else _per_tile
    return [per_set(tiles, rows) for tiles in datasets]


@dataclass(frozen=True)
class _Rows:
    """Rows (R) of a table; ``labels`` are "" where unknown, ``places`` None without columns x and y."""

    table: Table
    slides: Names
    labels: Names
    places: list[tuple[int, int]] | None


def _read_rows(path: Path, known: SlideNames) -> _Rows:
    table = tables.read(path)
    named, column = table.first("slide"), table.first("label")
    written = table.columns[column]
    labels = [cells.label(cell) for cell in written]
    missing = Counter(cell for cell, label in zip(written, labels, strict=True) if not label)
    unknown = ", ".join(f"{cell or 'empty'} {count}" for cell, count in missing.most_common(5))
    log.info(
        "%s: %d rows; %s names the slides, %s the label%s",
        path, len(table), named, column,
        f"; {missing.total()} without a label ({unknown})" if missing else "",
    )  # fmt: skip
    axes = {name.lower(): table.columns[name] for name in table.columns if name.lower() in ("x", "y")}
    if len(axes) == 1:
        raise UsageError(
            f"{path}: has only one of the columns x and y; give both, or neither to label slides"
        )
    slides = [known.find(name, table.at(row)) or name for row, name in enumerate(table.columns[named])]
    return _Rows(table, slides, labels, _places(table, axes["x"], axes["y"]) if axes else None)


def _places(table: Table, xs: Names, ys: Names) -> list[tuple[int, int]]:
    found = []
    for row, (x, y) in enumerate(zip(xs, ys, strict=True)):
        try:
            found.append((int(cells.label(x)), int(cells.label(y))))  # 10.0 of pandas is 10
        except ValueError:
            raise UsageError(f"{table.at(row)}: x and y must be whole level-0 pixels") from None
    return found


def known_slides(datasets: Sequence[DatasetTiles]) -> SlideNames:
    """All slides, also those without a tile, to be found by their own names."""
    names = [tiles.dataset.slide_names(tiles.dataset.tile_counts()) for tiles in datasets]
    own: dict[str, tuple[str, ...]] = {}
    for each in names:
        own |= {slide: own.get(slide, ()) + called for slide, called in each.own.items()}
    return SlideNames.of(frozenset().union(*names), own)


def _check_slides(datasets: Sequence[DatasetTiles], named: set[str], path: Path) -> None:
    # A slide that kept no tile is known too: its label simply labels nothing
    known = known_slides(datasets)
    unknown = sorted(named - known)
    if unknown:
        raise UsageError(
            f"{path}: slide {unknown[0]} is not in {' or '.join(str(tiles.path) for tiles in datasets)} "
            f"({len(unknown)} such; the dataset has {sorted(known)[0]}, for one); "
            f"{label_account.how_named(known, drawings=path.is_dir())}"
        )


def _per_slide(tiles: DatasetTiles, rows: _Rows) -> Names:
    labels: dict[str, str] = {}
    for row, (slide, label) in enumerate(zip(rows.slides, rows.labels, strict=True)):
        if labels.setdefault(slide, label) != label:
            raise UsageError(f"{rows.table.at(row)}: slide {slide} has two labels; keep one row per slide")
    return [labels.get(tiles.slides[number], "") for number in tiles.slide]


def _per_tile(tiles: DatasetTiles, rows: _Rows) -> Names:
    labels: dict[tuple[str, int, int], str] = {}
    for row, (slide, place, label) in enumerate(
        zip(rows.slides, rows.places or (), rows.labels, strict=True)
    ):
        if labels.setdefault((slide, *place), label) != label:
            raise UsageError(f"{rows.table.at(row)}: this tile has two labels; keep one row per tile")
    places = zip(tiles.slide, tiles.coords.tolist(), strict=True)
    return [labels.get((tiles.slides[number], x, y), "") for number, (x, y) in places]

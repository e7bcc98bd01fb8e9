"""Tiles with a class, a value of a column (centre, scanner, ...) and a group; whether they can be told apart.

Tiles of one group (patient, slide) are alike: they are no neighbours of one another, never stand on both
sides of a split, and intervals are over them. Where the column says no more than the group (a column of
patients, of tiles grouped by patient) every neighbour of the same value would be left out; then only a tile
itself is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.words import counted
from pathtrain.data.image_tables import ImageTable, is_image_table
from pathtrain.data.tile_columns import Columns, Tiles
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import DatasetTiles, open_tiles
from pathtrain.evaluate.statistics import Doubles, Flags, Ints
from pathtrain.stain.target import ModelTarget


@dataclass(frozen=True)
class Cohort:
    """N tiles.

    Attributes:
        source: what messages call the data. by: the column's name.
        labels: (N,) class numbers; None without labels. classes: their names.
        column: (N,) numbers of ``values``.
        group: (N,) numbers of ``groups``. kind: what a group is.
        apart: what is no neighbour of a tile: those of its ``group``, or the ``tile`` alone.
    """

    source: str
    by: str
    labels: Ints | None
    classes: list[str]
    column: Ints
    values: list[str]
    group: Ints
    groups: list[str]
    kind: str = "group"
    apart: str = "group"

    def __len__(self) -> int:
        return len(self.column)

    @property
    def label(self) -> Ints:
        """``labels``, where they must be there."""
        assert self.labels is not None
        return self.labels

    @property
    def aside(self) -> Ints:
        """(N,) numbers; tiles of one are no neighbours of one another."""
        return self.group if self.apart == "group" else np.arange(len(self))

    def banned(self, part: slice) -> Flags:
        """(B, N): who is no neighbour of some tiles."""
        aside = self.aside
        return np.asarray(aside[part, None] == aside[None, :])

    def take(self, rows: Ints) -> "Cohort":
        """Some tiles; numbers stay as they are."""
        labels = None if self.labels is None else self.labels[rows]
        return Cohort(
            self.source, self.by, labels, self.classes, self.column[rows], self.values, self.group[rows],
            self.groups, self.kind, self.apart,
        )  # fmt: skip

    def cells(self) -> Ints:
        """(C, V) tiles of each class at each value."""
        found = np.zeros((len(self.classes), len(self.values)), dtype=np.int64)
        np.add.at(found, (self.label, self.column), 1)
        return found


def cramers_v(counts: Doubles | Ints) -> float:
    """Association of the rows and columns of a table of counts, 0 to 1; empty ones are left out.

    0 for a table of one row or column.
    """
    kept = np.asarray(counts, dtype=np.float64)
    kept = kept[kept.sum(axis=1) > 0][:, kept.sum(axis=0) > 0]
    if min(kept.shape) < 2:
        return 0.0
    total = kept.sum()
    expected = kept.sum(axis=1, keepdims=True) * kept.sum(axis=0, keepdims=True) / total
    squares = float(((kept - expected) ** 2 / expected).sum())
    return float(np.sqrt(squares / (total * (min(kept.shape) - 1))))


def opened(path: Path, target: ModelTarget | None) -> Tiles:
    """A dataset, a folder of images, or Parquet of images.

    Raises:
        UsageError, DatasetError: it is none of these, or cannot be read.
    """
    if is_image_table(path):
        return ImageTable(path, target)
    return open_tiles(path, target, labelled=False)


def read(
    tiles: Tiles,
    by: str,
    columns: Columns,
    *,
    group: str | None = None,
    labels: Path | None = None,
    origin: AskedOrigin = "auto",
) -> tuple[Cohort, Ints]:
    """The tiles that have all that is asked for, and their numbers.

    Args:
        by: the column. group: another one, of groups; None: the data's own.
        labels: of datasets of slides; see pathtrain.data.tile_labels.

    Raises:
        UsageError: as Columns.of and read_labels; one value only, or one class only.
    """
    values = _numbered(columns.of(tiles, by))
    owner = None if group is None else _numbered(columns.of(tiles, group))
    named, classes = _labels(tiles, labels, origin)
    kept = values[1] >= 0
    if owner is not None:
        kept &= owner[1] >= 0
    if named is not None:
        kept &= named >= 0
    order = np.flatnonzero(kept)
    if not len(order):
        raise UsageError(f"{tiles.path}: no tile has both a label and a value of {by}")
    if group is not None:
        kind = group
    else:
        grouped = isinstance(tiles, DatasetTiles) or tiles.grouped
        kind = tiles.kind if grouped else "tile"
    groups, number = (tiles.groups, tiles.group) if owner is None else owner
    column, there = _packed(values[1][order], values[0])
    owners, names = _packed(number[order], groups)
    label, used = (None, []) if named is None else _packed(named[order], classes)
    if len(there) < 2:
        raise UsageError(
            f"{tiles.path}: all {counted(len(order), 'tile')} have the {by} {there[0]}; two values are "
            f"needed to "
            "compare"
        )
    # as many groups as values, each of one value: the column is the groups
    same = len(np.unique(column * len(names) + owners)) == len(names) == len(there)
    made = Cohort(
        str(tiles.path), by, label, used, column, there, owners, names, kind, "tile" if same else "group"
    )
    if label is not None:
        check_classes(made)
    return made, order


def check_classes(cohort: Cohort) -> None:
    """Refuse labels of one class.

    Raises:
        UsageError: they are.
    """
    if len(cohort.classes) < 2:
        raise UsageError(
            f"{cohort.source}: all tiles with a {cohort.by} are of one class only, {cohort.classes[0]}; "
            "two are needed"
        )


def together(cohort: Cohort) -> str:
    """Why class and column cannot be told apart, as where one is the other by another name; else empty."""
    if cramers_v(cohort.cells()) <= 1 - 1e-9:
        return ""
    return (
        f"the label and {cohort.by} go together in every tile (Cramer's V 1), so that what the features "
        f"follow cannot be told; add tiles of one {cohort.by} with several classes"
    )


def check_labelled(cohort: Cohort) -> None:
    """Refuse tiles without labels.

    Raises:
        UsageError: there are none.
    """
    if cohort.labels is None:
        raise UsageError(f"{cohort.source}: the tiles have no labels; give `labels`, or a column label")


def most_neighbours(cohort: Cohort) -> int:
    """The fewest neighbours that a tile can have, which is the most that can be asked for."""
    return len(cohort) - int(np.bincount(cohort.aside).max())


def check_k(k: int | None, most: int, cohort: Cohort) -> None:
    """Refuse more neighbours than every tile has.

    Raises:
        UsageError: it is more, or no tile has any.
    """
    if (k or 1) > most:
        raise UsageError(
            f"{cohort.source}: `k` {k or 1}: must be 1 to {most}, the tiles of other {cohort.kind}s "
            "that every tile has"
        )


def lonely(cohort: Cohort) -> list[str]:
    """Classes that occur at one value of the column alone."""
    counts = (cohort.cells() > 0).sum(axis=1)
    return [name for name, count in zip(cohort.classes, counts, strict=True) if count == 1]


def alone(cohort: Cohort) -> list[str]:
    """Values that occur in one group alone, whose tiles can have no neighbour of their value elsewhere."""
    if cohort.apart == "tile":
        return []
    pairs = np.unique(np.stack([cohort.column, cohort.group]), axis=1)[0]
    counts = np.bincount(pairs, minlength=len(cohort.values))
    return [name for name, count in zip(cohort.values, counts, strict=True) if count == 1]


def unshared(cohort: Cohort) -> str:
    """Why neighbours of other groups say nothing of the column: no value is in two groups; else empty."""
    if not len(cohort) or len(alone(cohort)) < len(cohort.values):
        return ""
    return (
        f"every {cohort.by} is in one {cohort.kind} alone, so that no neighbour of another {cohort.kind} "
        "can share it; give `group`, a column of patients or slides"
    )


def _labels(tiles: Tiles, path: Path | None, origin: AskedOrigin) -> tuple[Ints | None, list[str]]:
    if isinstance(tiles, ImageTable):
        if path is not None:
            raise UsageError(f"`labels` {path}: not used, {tiles.path} brings its own; leave it out")
        if tiles.labels is None:
            return None, []
        names, numbers = _numbered(tiles.labels)
        return numbers, names
    if path is None and not any(tiles.labels or ()):
        return None, []
    found = read_labels([tiles], path, origin)
    return found.values[0], found.classes


def _numbered(texts: Sequence[str]) -> tuple[list[str], Ints]:
    """The different texts, sorted, and each one's number; -1 for an empty one."""
    names = sorted(set(texts) - {""})
    numbers = {"": -1} | {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[text] for text in texts], dtype=np.int64)


def _packed(numbers: Ints, names: Sequence[str]) -> tuple[Ints, list[str]]:
    """Numbers without gaps, and the names that are left."""
    kept, packed = np.unique(numbers, return_inverse=True)
    return packed.astype(np.int64), [names[number] for number in kept]

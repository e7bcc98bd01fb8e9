"""Features that scores are made of: those of slides with places, and those of labelled tiles."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.scores.write import Tiles, write_scores
from pathprep.storage import cells, hdf5_chunks, tables
from pathprep.words import command
from pathtrain.features.bags import Bags
from pathtrain.features.read import opened

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Column = npt.NDArray[np.float64] | list[str]


def slides_of(folder: str | Path) -> Bags:
    """A folder of features of slides' tiles.

    Raises:
        UsageError: none is there, or they are of whole slides.
    """
    bags = Bags.open(Path(folder))
    if not bags.bags:
        raise UsageError(f"{folder}: one vector per slide; scores of tiles need features of tiles")
    return bags


def write(bags: Bags, out: Path, columns: Mapping[str, Mapping[str, Column]]) -> int:
    """Write scores of slides, of each its columns; returns the number of tiles.

    Raises:
        UsageError: a slide's file does not say where its tiles lie, or ``out`` cannot be written.
    """
    return write_scores(out, _placed(bags, columns))


def _placed(bags: Bags, columns: Mapping[str, Mapping[str, Column]]) -> Iterator[Tiles]:
    for slide, own in columns.items():
        places = bags.places(slide)
        path = bags.paths[slide]
        if places is None:
            raise UsageError(
                f"{path}: does not say where its tiles lie (coords, with patch_size_level0); write features "
                f"of slides with {command('pathtrain embed')}"
            )
        yield Tiles(path.stem, places.coords, places.side, own)


def check_alike(one: Bags, other: Bags) -> None:
    """Refuse features of two models.

    Raises:
        UsageError: their lengths differ, or what they say that they are of.
    """
    if one.dim != other.dim:
        raise UsageError(
            f"{other.root}: {other.dim} numbers per tile, {one.root} has {one.dim}; give one model's"
        )
    prints = [bags.said("fingerprint")["fingerprint"] for bags in (one, other)]
    if None not in prints and prints[0] != prints[1]:
        raise UsageError(f"{one.root} and {other.root} are of two models; give features of one")


def labelled(folder: str | Path, labels: str | Path | None) -> tuple[Bags, Floats, list[str]]:
    """Features (N, D) and labels (N) of labelled tiles; those without a label are left out.

    Args:
        folder: features of a labelled tile set, which hold labels; or of slides.
        labels: of slides: CSV or Parquet with slide, label; or slide, x, y, label. None: the files' own.

    Raises:
        UsageError: no labels, or of one class only; a table that does not fit.
    """
    bags = Bags.open(Path(folder))
    given = None if labels is None else _table(Path(labels), bags)
    vectors, names = list[Floats](), list[str]()
    for slide in bags.counts:
        own = _own_labels(bags, slide) if given is None else given.get(slide)
        if own is None and given is not None:
            continue
        if own is None:
            raise UsageError(
                f"{bags.paths[slide]}: holds no labels; give `labels`: a table with slide, label or slide, "
                "x, y, label, or features of a labelled tile set"
            )
        each = own if isinstance(own, list) else _by_place(bags, slide, own)
        keep = np.array([bool(name) for name in each])
        if keep.any():
            vectors.append(bags.read(slide)[keep])
            names += [name for name in each if name]
    classes = sorted(set(names))
    if len(classes) < 2:
        where = labels or folder
        raise UsageError(f"{where}: labels of one class only ({', '.join(classes)}); two are needed")
    return bags, np.concatenate(vectors), names


def _own_labels(bags: Bags, slide: str) -> list[str] | None:
    with opened(bags.paths[slide]) as file:
        if "labels" not in file:
            return None
        values = hdf5_chunks.whole(file["labels"])
    return [cells.label(each.decode() if isinstance(each, bytes) else str(each)) for each in values]


def _table(path: Path, bags: Bags) -> dict[str, list[str] | dict[tuple[int, int], str]]:
    """Labels of slides: of all tiles, or by place."""
    table, names = tables.read(path), bags.names
    slides, written = table.columns[table.first("slide")], table.columns[table.first("label")]
    axes = [table.columns[name] for axis in "xy" for name in table.columns if name.lower() == axis]
    if len(axes) == 1:
        raise UsageError(f"{path}: has only one of the columns x and y; give both, or neither")
    found: dict[str, list[str] | dict[tuple[int, int], str]] = {}
    for row, (called, cell) in enumerate(zip(slides, written, strict=True)):
        slide = names.find(called, table.at(row))
        label = cells.label(cell)
        if slide is None or not label:
            continue
        if not axes:
            if found.setdefault(slide, [label] * bags.counts[slide]) != [label] * bags.counts[slide]:
                raise UsageError(f"{table.at(row)}: slide {called} has two labels; keep one row per slide")
            continue
        try:
            place = int(float(axes[0][row])), int(float(axes[1][row]))
        except ValueError:
            raise UsageError(f"{table.at(row)}: x and y must be level-0 pixels") from None
        by_place = found.setdefault(slide, {})
        assert isinstance(by_place, dict)
        if by_place.setdefault(place, label) != label:
            raise UsageError(f"{table.at(row)}: this tile has two labels; keep one row per tile")
    if not found:
        raise UsageError(f"{path}: labels no slide of {bags.root}; it has {next(iter(bags.counts))}, for one")
    return found


def _by_place(bags: Bags, slide: str, labels: dict[tuple[int, int], str]) -> list[str]:
    places = bags.places(slide)
    if places is None:
        raise UsageError(f"{bags.paths[slide]}: does not say where its tiles lie; label whole slides")
    found = [labels.get((x, y), "") for x, y in places.coords.tolist()]
    if not any(found):
        raise UsageError(
            f"{bags.paths[slide]}: none of its tiles lies where a label says; x and y are level-0 pixels of "
            "the tile's corner, as in the dataset's index"
        )
    return found

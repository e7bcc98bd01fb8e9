"""What is in a folder of tiles: its format, its images with label, group and partition."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.slides.own_names import plain_name
from pathprep.storage import cells, tables
from pathprep.storage.tables import Columns
from pathprep.tilesets import walk
from pathprep.tilesets.items import Item, TileSet, split_of
from pathprep.words import counted

FORMATS = ("hdf5", "folders", "csv")
TABLES = ("labels.csv", "annotations.csv")
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def find(
    source: Path,
    *,
    format: str | None = None,
    labels: Path | None = None,
    columns: Columns | None = None,
    split: str | None = None,
) -> TileSet:
    """Find a set's images and labels.

        hdf5      PCam's files: ``<name>_x.h5`` with ``<name>_y.h5`` and perhaps ``<name>_meta.csv``
        csv       images, and a CSV that names them: ``labels``, or labels.csv or annotations.csv among them
        folders   a folder per class, as torchvision's ImageFolder; or per partition (train, val, test ...)
                  with a folder per class in each

    Args:
        source: a folder, or one ``_x.h5`` file.
        format: one of FORMATS; None for the first of them, in this order, that fits.
        labels: CSV of labels; with ``hdf5``, of groups.
        columns: names of the CSV's columns.
        split: only this partition.

    Raises:
        UsageError: nothing there, no labels, labels that do not fit the images, or no such partition.
    """
    source = Path(os.path.abspath(source))  # noqa: PTH100, a link keeps its name
    columns = columns or Columns()
    if labels is not None and not labels.is_file():
        raise UsageError(f"{labels}: no such file (`labels`)")
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if format is None:
        format = _detect(source, labels)
    if format == "hdf5":
        found = _hdf5(source, labels, columns, split)
    elif not source.is_dir():
        raise UsageError(f"{source}: not a folder; `format` {format} reads one")
    elif format == "csv":
        found = _csv(source, labels, columns)
    else:
        found = _folders(source, labels)
    return _select(found, source, split)


def _detect(source: Path, labels: Path | None) -> str:
    from pathprep.tilesets import hdf5

    if source.is_file():
        if source.name.endswith(hdf5.SUFFIXES):
            return "hdf5"
        raise UsageError(f"{source}: not a tile set; give a folder, or PCam's ..._x.h5")
    if hdf5.images_in(source):
        return "hdf5"
    if next(source.glob("*_x.h5.gz"), None):
        raise UsageError(f"{source}: its HDF5 files are packed; unpack them first: gunzip *.h5.gz")
    if labels is not None or any((source / name).is_file() for name in TABLES):
        return "csv"
    _check_nesting(source)
    return "folders"


def _select(found: TileSet, source: Path, split: str | None) -> TileSet:
    notes = list(found.notes)
    splits = Counter(item.split for item in found.items)
    places: dict[str, set[str]] = {}
    for item in found.items:
        if item.group is not None:
            places.setdefault(item.group, set()).add(item.split)
    shared = sorted(group for group, where in places.items() if len(where) > 1)
    if shared:
        notes.append(
            f"{counted(len(shared), 'group is', 'groups are')} in more than one partition (a leak), "
            f"such as {shared[0]}"
        )
    items = found.items
    if split is not None:
        items = [item for item in items if item.split == split]
        known = ", ".join(sorted(filter(None, splits)))
        if not items:
            raise UsageError(f"{source}: no partition {split!r}; it has {known or 'none'} (`split`)")
    elif len(splits) > 1:
        known = ", ".join(f"{name or '(none)'} {count:,}" for name, count in sorted(splits.items()))
        notes.append(
            f"All partitions are taken ({known}), and kept as the set's own split; `split` takes one"
        )
    classes = {item.label for item in items} - {None}
    if len(classes) < 2:
        notes.append(
            f"Only {len(classes)} class: {', '.join(sorted(map(str, classes))) or 'no image has a label'}"
        )
    return TileSet(found.root, found.format, found.name, found.labels, items, notes)


def _hdf5(source: Path, labels: Path | None, columns: Columns, split: str | None) -> TileSet:
    from pathprep.tilesets import hdf5

    paths = [source] if source.is_file() else hdf5.images_in(source)
    root = source.parent if source.is_file() else source
    if not paths:
        raise UsageError(f"{source}: no file named ..._x.h5 in this folder")
    if split is not None:  # the others need not be readable
        chosen = [path for path in paths if split_of(path.name) == split]
        if not chosen:
            known = ", ".join(sorted({split_of(path.name) or path.name for path in paths}))
            raise UsageError(f"{source}: no partition {split!r}; it has {known} (`split`)")
        paths = chosen
    if labels is not None and len(paths) > 1:
        raise UsageError(f"`labels` {labels}: one CSV for {len(paths)} HDF5 files; choose one with `split`")
    items = [item for path in paths for item in hdf5.items(path, labels, columns)]
    bare = [path.name for path in paths if not any(i.group for i in items if i.file == path.name)]
    notes = [f"{name}: no groups, because there is no {name[:-5]}_meta.csv" for name in bare]
    if source.is_file():
        name = re.sub(r"_split_[A-Za-z0-9]+$", "", source.stem.removesuffix("_x"))
    else:
        name = source.name
    given = ", ".join(f"{hdf5.beside(path, 'y')}{path.suffix}" for path in paths)
    return TileSet(root, "hdf5", plain_name(name), given, items, notes)


def _check_nesting(root: Path) -> None:
    """Refuse a folder of sets, whose class folders are one level further down."""
    inner = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            if folder.name.lower() in SPLITS:
                return
            inner.append((folder.name, {path.name for path in folder.iterdir() if path.is_dir()}))
    if len(inner) > 1 and len(inner[0][1]) > 1 and all(names == inner[0][1] for _, names in inner):
        raise UsageError(
            f"{root}: {inner[0][0]} and {inner[1][0]} hold the same folders: sets, not classes? "
            f"Import one of them at a time, or say `format` folders if {inner[0][0]} is a class"
        )


def _folders(root: Path, labels: Path | None) -> TileSet:
    if labels is not None:
        raise UsageError(f"`labels` {labels}: not used with `format` folders; leave one of them out")
    found, notes = walk.images(root)
    files = [path.split("/") for path in found]
    nested = [parts for parts in files if len(parts) > 1]
    if not nested:
        raise UsageError(
            f"{root}: images, but neither folders of classes nor a CSV of labels; "
            "give `labels`, a CSV of the columns file, label and perhaps group and split"
        )
    if len(nested) < len(files):
        loose = next(parts[0] for parts in files if len(parts) == 1)
        notes.append(
            f"{counted(len(files) - len(nested), 'image')} in no class folder: left out, such as {loose}"
        )
    classes = {parts[0] for parts in nested}
    bare = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name not in classes and p.name[0] != ".")
    if bare:
        notes.append(f"Folders without an image that is read: {', '.join(bare[:5])} ({len(bare)} in all)")
    deep = 0
    if {parts[0].lower() for parts in nested} <= SPLITS:
        deep = 1
        if any(len(parts) == 2 for parts in nested):
            raise UsageError(
                f"{root}: its folders are named like partitions ({nested[0][0]}), but hold images, not "
                "folders of classes; give `labels`"
            )
    items = [Item("/".join(parts), parts[deep], None, parts[0] if deep else "") for parts in nested]
    return TileSet(root, "folders", plain_name(root.name), "names of folders", items, notes)


def _csv(root: Path, labels: Path | None, columns: Columns) -> TileSet:
    path = labels or next((root / name for name in TABLES if (root / name).is_file()), None)
    if path is None:
        raise UsageError(f"{root}: no {' or '.join(TABLES)}; give `labels`")
    table = tables.read(path)
    names, written = table.need("file", columns), table.need("label", columns)
    groups, splits = table.pick("group", columns), table.pick("split", columns)
    classes = [cells.label(cell) for cell in written]
    files, notes = walk.images(root, skip=path, once=False)
    locate = _locator(files)
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, (name, label) in enumerate(zip(names, classes, strict=True)):
        where = table.at(number)
        if not name:
            raise UsageError(f"{where}: the file is empty")
        places = locate(name)
        if len(places) > 1:
            raise UsageError(f"{where}: {name} may be {places[0]} or {places[1]}; give its folder")
        file = places[0] if places else _named(root, name, where)
        if file in seen:
            raise UsageError(f"{where}: {name} is listed twice (line {seen[file]}); keep one")
        seen[file] = table.lines[number]
        group = cells.known(groups[number]) if groups else ""
        items.append(Item(file, label or None, group or None, cells.known(splits[number]) if splits else ""))
    items = _each_once(root, items, path, seen, notes)
    _check_classes(path, classes)
    listed = seen.keys() & set(files)
    if not listed:
        raise UsageError(
            f"{path}: none of its files ({len(names):,}) is in {root}, such as "
            f"{', '.join(names[:2])}; "
            f"there are {', '.join(files[:2])}"
        )
    if len(listed) < len(files):
        other = next(file for file in files if file not in listed)
        notes.append(
            f"{counted(len(files) - len(listed), 'image')} that {path.name} does not list: left "
            f"out, such as {other}"
        )
    empty = Counter(cell for cell, label in zip(written, classes, strict=True) if not label)
    if empty:
        spelt = ", ".join(f"{cell or 'empty'} {count}" for cell, count in empty.most_common(5))
        notes.append(
            f"{counted(empty.total(), 'image has', 'images have')} no label in {path.name} "
            f"({spelt}): imported without"
        )
    return TileSet(root, "csv", plain_name(root.name), path.name, items, notes)


def _named(root: Path, name: str, where: str) -> str:
    """What a table calls a file that is not among the set's images, relative to the set's folder.

    Raises:
        UsageError: it is outside the folder.
    """
    plain = name.replace("\\", "/")
    if plain.startswith(f"{root}/"):
        plain = plain.removeprefix(f"{root}/")
    if plain.startswith("/") or ".." in plain.split("/"):
        raise UsageError(
            f"{where}: {name} is outside {root}; import the folder that holds it, or put a link to that "
            "folder into this one"
        )
    return plain


def _each_once(
    root: Path, items: list[Item], path: Path, lines: dict[str, int], notes: list[str]
) -> list[Item]:
    """The items without those whose file is another's too, which become a note.

    Raises:
        UsageError: they differ in their label.
    """
    twins = walk.twins(root, [item.source for item in items])
    if not twins:
        return items
    labels = {item.source: item.label for item in items}
    for other, first in twins.items():
        if labels[other] != labels[first]:
            raise UsageError(
                f"{path}, line {lines[other]}: {other} is the file of line {lines[first]}, {first}, by "
                "another name, and has another label; keep one"
            )
    notes.append(walk.left_out([f"{name} is {first}" for name, first in twins.items()], "file", walk.TWIN))
    return [item for item in items if item.source not in twins]


def _check_classes(path: Path, classes: list[str]) -> None:
    first: dict[str, str] = {}
    for name in classes:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            raise UsageError(
                f"{path}: {other!r} and {name!r} differ in capitals only; write a class in one way"
            )


def _locator(files: list[str]) -> Callable[[str], list[str]]:
    """Which files a CSV may mean: that path, else those of which one path ends with the other, by folders."""
    known = set(files)
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}  # tables may leave the ending out
    for file in files:
        own = file.rpartition("/")[2]
        by_name.setdefault(own, []).append(file)
        by_stem.setdefault(own.rpartition(".")[0], []).append(file)

    def locate(name: str) -> list[str]:
        name = name.replace("\\", "/").removeprefix("./")
        if name in known:
            return [name]
        own = name.rpartition("/")[2]
        same = by_name.get(own, [])
        if not same:
            same = by_stem.get(own, [])
            return [f for f in same if _fits(f.rpartition(".")[0], name)]
        return [f for f in same if _fits(f, name)]

    return locate


def _fits(file: str, name: str) -> bool:
    """Whether one path ends with the other, by folders."""
    return f"/{file}".endswith(f"/{name}") or f"/{name}".endswith(f"/{file}")

"""A tile set with pseudonyms instead of its own names: of the set, its folder, its images and groups.

Labels and the names of partitions stay: they are what is learnt. A set's own name stays if the user gives it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pathprep.pseudonyms import table
from pathprep.pseudonyms.key import Key
from pathprep.pseudonyms.table import Row
from pathprep.slides.alias import Alias
from pathprep.slides.own_names import own_name
from pathprep.tilesets.items import Item, TileSet


def hide(tiles: TileSet, key: Key) -> TileSet:
    """The set with pseudonyms; the table has them from now on.

    Raises:
        UsageError: as of ``table.add``.
    """
    root = tiles.root.absolute()
    name = key.name(tiles.name, "f")
    path = f"{key.name(str(root.parent), 'f')}/{name}"
    words = sorted({str(root): path, str(tiles.root): path}.items(), key=lambda pair: -len(pair[0]))
    items = [_hidden(item, key) for item in tiles.items]
    rows = [Row(name, tiles.name, str(root))]
    for own, item in zip(tiles.items, items, strict=True):
        rows.append(Row(item.source.partition(".")[0].partition("#")[0], own.file, str(root / own.file)))
        if own.group is not None and item.group is not None:
            rows.append(Row(item.group, own.group))
    table.add(key, rows)
    alias = Alias(key.id, name, path, None, tuple(words))
    return replace(tiles, name=name, items=items, alias=alias)


def _hidden(item: Item, key: Key) -> Item:
    file = PurePosixPath(item.file)
    ending = file.name.removeprefix(own_name(file)).lower()  # a known one: Meier.Hans has none
    source = f"{key.name(item.file, 'i')}{ending}" + ("" if item.row is None else f"#{item.row}")
    group = None if item.group is None else key.name(item.group, "g")
    return replace(item, source=source, group=group, read=item.file)


def said(alias: Alias, items: Sequence[Item], text: str) -> str:
    """A message about some images without their names."""
    words = []
    for item in items:
        file = PurePosixPath(item.file)
        if file.stem in text:
            words += [
                (str(file), item.source),
                (file.name, item.source),
                (file.stem, item.source.partition(".")[0]),
            ]
    return replace(alias, words=(*alias.words, *words)).said(text)

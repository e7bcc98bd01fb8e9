"""What a tile set consists of, and which of it goes into which shard."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pathprep.slides.alias import Alias
from pathprep.slides.own_names import LONGEST, hashed, plain_name


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        source: file relative to the set's folder, with forward slashes; ``<file>#<row>`` for a row of HDF5.
        label, group: None where it has none. split: its partition; "" where the set has none.
        row: of the HDF5 file; None for an image file.
        read: the file that is read, where ``source`` is a pseudonym.
    """

    source: str
    label: str | None = None
    group: str | None = None
    split: str = ""
    row: int | None = None
    read: str = ""

    @property
    def file(self) -> str:
        """The file that holds it, relative to the set's folder."""
        return self.read or (self.source if self.row is None else self.source.rpartition("#")[0])


@dataclass(frozen=True)
class TileSet:
    """A set as it was found.

    Attributes:
        root: folder that the items' files are in. format: one of find.FORMATS.
        name: default for the dataset's shards. labels: the file or folder names that the labels come from.
        items: all that were asked for. notes: what a person should know, a line each.
        alias: what a dataset says of the set instead of its names and paths; None: these.
    """

    root: Path
    format: str
    name: str
    labels: str
    items: list[Item]
    notes: list[str] = field(default_factory=list)
    alias: Alias | None = None

    @property
    def recorded(self) -> str:
        """The folder as a dataset records it."""
        return str(self.root) if self.alias is None else self.alias.path


def pack(items: Iterable[Item], name: str, most: int) -> dict[str, list[Item]]:
    """Divide a set into shards; see the package's text for the rules.

    Args:
        items: of any number of partitions.
        name: of the set.
        most: tiles in a shard.

    Returns:
        Shard name -> its items, in their order; depends on neither the order of items nor anything else.
    """
    by_split: dict[str, list[Item]] = {}
    for item in items:
        by_split.setdefault(item.split, []).append(item)
    shards = {}
    for split, part in sorted(by_split.items()):
        prefix = f"{name}-{_name(split)}" if split else name
        prefix = prefix if len(prefix) <= LONGEST else hashed(prefix, prefix)  # it is part of every key
        for number, shard in enumerate(_divide(part, most)):
            ordered = sorted(shard, key=_place)
            shards[f"{prefix}-{number:05}"] = ordered
    return shards


def _name(split: str) -> str:
    """Two partitions must not share a name where plain_name makes them alike."""
    plain = plain_name(split)
    return plain if plain == split else f"{plain}-{hashlib.sha256(split.encode()).hexdigest()[:8]}"


def _place(item: Item) -> tuple[str | bytes, int]:
    return (_digest(item.source), 0) if item.row is None else (item.file, item.row)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


def _divide(items: list[Item], most: int) -> list[list[Item]]:
    units: dict[tuple[bool, str], list[Item]] = {}
    for item in items:
        # a group and a file may have the same name
        key = (False, item.source) if item.group is None else (True, item.group)
        units.setdefault(key, []).append(item)
    in_rows = all(item.row is not None and item.group is None for item in items)
    ordered = sorted(units.values(), key=lambda unit: _order(unit[0], in_rows))
    shards: list[list[Item]] = []
    current: list[Item] = []
    for unit in ordered:
        if len(unit) > most:
            whole = sorted(unit, key=_place)
            shards += [whole[start : start + most] for start in range(0, len(whole), most)]
            continue
        if len(current) + len(unit) > most:
            shards.append(current)
            current = []
        current = current + unit if len(unit) > 1 else [*current, *unit]
    return [*shards, current] if current else shards


def _order(item: Item, in_rows: bool) -> tuple[str | bytes, int]:
    return _place(item) if in_rows else (_digest(item.group or item.source), 0)


def split_of(file: str) -> str:
    """The partition that a PCam file name states: ``..._split_train_x.h5`` gives ``train``; else ""."""
    found = re.search(r"_split_([A-Za-z0-9]+)_x\.", file)
    return found[1] if found else ""

"""A published tile set on disk: its images with label, group and partition, or what is not as it says."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.slides.own_names import plain_name
from pathprep.tilesets import find, walk
from pathprep.tilesets.items import Item, TileSet
from pathprep.tilesets.presets.registry import preset, terms
from pathprep.tilesets.presets.schema import Preset
from pathprep.words import counted

SHOWN = 3  # files that an error names


def matched(name: str, source: Path, split: str | None = None) -> TileSet:
    """Find a published set in a folder.

    Args:
        name: of the preset.
        source: the folder that it was unpacked into, or one of those that the layout begins with.
        split: only this partition.

    Raises:
        UsageError: no such preset; the folder does not look as the set does, which says what is expected and
            what was found; a partition is missing.
    """
    it = preset(name)
    source = Path(os.path.abspath(source))  # noqa: PTH100, a link keeps its name
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder; {terms(name)}")
    if not source.is_dir():
        raise UsageError(f"{source}: not a folder; {_expected(name, it)}")
    notes = [terms(name)]
    if it.format == "files":
        items = list(_of_files(name, it, source, notes))
        labels = "names of files and folders"
    else:
        items, labels = _of_format(name, it, source, notes)
    items = _chosen(name, it, items, source, split, notes)
    return TileSet(source, it.format, plain_name(name), labels, items, notes)


def _of_files(name: str, it: Preset, source: Path, notes: list[str]) -> Iterator[Item]:
    # from the folder's own name on, so that a folder further down the layout may be given too
    above = f"{source.parent.as_posix().rstrip('/')}/{source.name}"
    files, seen = walk.images(source)
    notes += seen
    patterns = [re.compile(each, re.IGNORECASE) for each in it.files]
    passed = [(re.compile(each, re.IGNORECASE), why) for each, why in it.passed]
    known = {each.casefold(): each for each in (*it.classes, *it.names)}
    left: dict[str, list[str]] = {}
    found = 0
    for file in files:
        whole = f"{above}/{file}"
        hit = next(filter(None, (each.fullmatch(whole) for each in patterns)), None)
        if hit is None:
            why = next(
                (why for each, why in passed if each.fullmatch(whole)), "not named as those of the set"
            )
            left.setdefault(why, []).append(file)
            continue
        found += 1
        parts = {part: value for part, value in hit.groupdict().items() if value is not None}
        parts["label"] = known.get(parts["label"].casefold(), parts["label"])
        own = parts.get("split", "")
        where = it.names.get(known.get(own.casefold(), own), own.casefold())
        if it.splits:
            where = next((rule.split for rule in it.splits if rule.fits(parts)), "")
        if not where:
            left.setdefault("in no partition of the set", []).append(file)
            continue
        label = it.names.get(parts["label"], parts["label"])
        yield Item(file, label, parts.get("group"), where)
    if not found:
        some = ", ".join(files[:SHOWN])
        raise UsageError(
            f"{source}: {counted(len(files), 'image')}, none of them named as {name}'s are: found {some}; "
            f"{_expected(name, it)}"
        )
    notes += [walk.left_out(names, "image", why) for why, names in left.items()]


def _of_format(name: str, it: Preset, source: Path, notes: list[str]) -> tuple[list[Item], str]:
    try:
        found = find.find(source, format=it.format)
    except UsageError as error:
        raise UsageError(f"{error}; {_expected(name, it)}") from None
    unknown = sorted({item.label or "(none)" for item in found.items} - {*it.names, *it.classes})
    if unknown:
        raise UsageError(
            f"{source}: label {unknown[0]} is none of {name}'s ({', '.join(it.classes)}); "
            f"{_expected(name, it)}"
        )
    notes += [note for note in found.notes if not note.startswith("All partitions")]
    items = [
        replace(
            item,
            label=it.names.get(item.label or "", item.label),
            split=it.names.get(item.split, item.split),
        )
        for item in found.items
    ]
    return items, found.labels


def _chosen(
    name: str, it: Preset, items: list[Item], source: Path, split: str | None, notes: list[str]
) -> list[Item]:
    """The items of the partitions that are wanted; counts that are not the published ones become notes."""
    there = Counter(item.split for item in items)
    if split is not None and split not in it.counts:
        raise UsageError(f"`split` {split}: {name} has {', '.join(it.counts)}")
    wanted = [split] if split is not None else list(it.taken or it.counts)
    missing = [each for each in wanted if not there[each]]
    if missing:
        found = ", ".join(f"{each or '(none)'} {count:,}" for each, count in sorted(there.items()))
        way = "" if split is not None or not found else f"; `split` takes one that is there ({found})"
        raise UsageError(
            f"{source}: no image of {name}'s {' and '.join(missing)}{way}; {_expected(name, it)}"
        )
    for each in wanted:
        if there[each] != it.counts[each]:
            notes.append(
                f"{name} {each}: {counted(there[each], 'image')}, published are {it.counts[each]:,}; figures "
                "on it cannot be compared with published ones"
            )
    rest = [f"{each} {count:,}" for each, count in sorted(there.items()) if each not in wanted]
    if rest:
        notes.append(f"Left out: {', '.join(rest)}; `split` takes it")
    if not any(item.group for item in items):
        notes.append(f"Groups: {it.groups}")
    return [item for item in items if item.split in wanted]


def _expected(name: str, it: Preset) -> str:
    """In one line, as messages are: the layout's first; the command's list has all of it."""
    first = " ".join(it.layout.strip().split("\n")[0].split())
    pages = " or ".join(it.pages)
    return (
        f"expected is {first}, as {pages} has it (`pathprep import-tiles --presets` shows the whole layout)"
    )

"""The published tile sets that are known by name: registry.yaml beside this file.

Facts only, with sources: layouts, labels, groups, splits and counts. Nothing is fetched: their publishers'
pages are named, and most ask to accept terms.
"""

from collections.abc import Iterator
from functools import cache
from importlib import resources

import yaml

from pathprep.errors import UsageError
from pathprep.tilesets.presets.schema import Preset


@cache
def presets() -> dict[str, Preset]:
    """All of them by name, in the order of the file."""
    text = resources.files(__package__).joinpath("registry.yaml").read_text()
    found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: Preset.model_validate(values) for name, values in found.items()}


def preset(name: str) -> Preset:
    """The set of a name.

    Raises:
        UsageError: there is none; the names are given.
    """
    found = presets().get(name)
    if found is None:
        raise UsageError(f"`preset` {name}: no such set; there are {', '.join(presets())}")
    return found


def terms(name: str) -> str:
    """A line on where a set is to be had, and under which licence."""
    it = preset(name)
    use = {True: "", False: ", no commercial use", None: ", commercial use not stated"}[it.commercial]
    return f"{it.title}: {it.licence}{use}; from {' and '.join(it.pages)}"


def described(name: str) -> Iterator[str]:
    """Lines on a set: where it is, how it lies on disk, its partitions, labels and groups."""
    it = preset(name)
    yield f"{name}: {terms(name)}"
    yield from (f"    {line}" for line in it.layout.rstrip().split("\n"))
    counts = ", ".join(
        f"{split} {count:,}" + (" (if asked for)" if it.taken and split not in it.taken else "")
        for split, count in it.counts.items()
    )
    yield f"    {counts}; {it.mpp:g} MPP; labels: {', '.join(it.classes)}"
    yield f"    groups: {it.groups}"

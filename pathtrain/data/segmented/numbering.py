"""One numbering of the classes of several sets, and which published data set they are."""

from collections.abc import Sequence
from dataclasses import replace

from pathprep.errors import DatasetError, UsageError
from pathprep.words import counted
from pathtrain.data.segmented import shapes
from pathtrain.data.segmented.images import Images
from pathtrain.data.segmented.presets import PRESETS, Preset, meant
from pathtrain.data.segmented.truth import IGNORED

BACKGROUND = "background"
FOREGROUND = "foreground"  # of masks of one value


def preset_of(layout: str, sets: Sequence[Images]) -> Preset | None:
    """The published data set that is meant, or that the files look like."""
    if layout != "auto":
        return PRESETS.get(layout)
    if all(each.layout == "pannuke" for each in sets):
        return PRESETS["pannuke"]
    first = sets[0]
    masks = [place.mask for place in first.places]
    names = {name.lower() for each in sets for name in each.account.names}
    if first.layout == "pairs" and all(mask is not None and mask.suffix == ".mat" for mask in masks):
        if names <= set(PRESETS["consep"].names) and {"5", "6", "7"} & names:
            return PRESETS["consep"]
    elif first.layout == "pairs" and all(mask is not None and ".xml" in mask.name for mask in masks):
        if names <= set(PRESETS["monusac"].names):
            return PRESETS["monusac"]
        if names == {shapes.OBJECT}:
            return PRESETS["monuseg"]
    return None


def numbered(
    sets: Sequence[Images], preset: Preset | None, words: str | None
) -> tuple[list[Images], list[str]]:
    """Give all sets one numbering of the classes of their files.

    Args:
        sets: the first is that of training.
        preset: of a published data set. words: the setting ``classes``, which goes before it.

    Returns:
        The sets, and the names of the classes, background first.

    Raises:
        UsageError, DatasetError: a class is unknown, or not in the training set; or there is one class only.
    """
    every: dict[str, tuple[str, str, Images]] = {}
    for each in sets:
        for name, image in each.account.names.items():
            every.setdefault(name.lower(), (name, image, each))
    known = meant(words) if words is not None else preset.names if preset is not None else None
    if known is None:
        known = _as_found(every)
    names = list(
        dict.fromkeys(name for name in known.values() if name.lower() not in (BACKGROUND, "ignored"))
    )
    if preset is not None and words is None:
        names = list(preset.classes)
    # a file that has the names themselves needs no translation
    known = {name.lower(): name for name in names} | {"ignored": "ignored", BACKGROUND: BACKGROUND} | known
    unknown = [name for name in every if name not in known]
    if unknown:
        name, image, where = every[unknown[0]]
        raise UsageError(
            f"{where.path}: {image} has the class {name}, which is none of {', '.join(known)}; name it "
            f"with `classes`, as in {name}=NAME or {name}=ignored"
        )
    numbers = {
        called: 0
        if name.lower() == BACKGROUND
        else IGNORED
        if name.lower() == "ignored"
        else names.index(name) + 1
        for called, name in known.items()
    }
    there = [{numbers[name.lower()] for name in each.account.names} - {0, IGNORED} for each in sets]
    if not there[0]:
        raise DatasetError(
            f"{sets[0].path}: {counted(len(sets[0]), 'image')}, and no mask holds a class besides the "
            "background: nothing can be learnt; are these the masks?"
        )
    if len(there[0]) == 1 and sets[0].account.covered == len(sets[0]) and numbers.get("0", 0) == 0:
        raise DatasetError(
            f"{sets[0].path}: every pixel of every mask is {names[min(there[0]) - 1]}, so there is one class "
            "only: nothing to tell apart; are these the masks?"
        )
    for each, classes in zip(sets[1:], there[1:], strict=True):
        if not classes:
            raise DatasetError(f"{each.path}: no mask holds a class besides the background")
        missing = sorted(classes - there[0])
        if missing:
            raise UsageError(
                f"{each.path}: class {names[missing[0] - 1]} has no pixel in {sets[0].path}; draw some, or "
                "leave it out with `classes`, as NAME=ignored"
            )
    return [replace(each, numbers=numbers) for each in sets], [BACKGROUND, *names]


def _as_found(every: dict[str, tuple[str, str, Images]]) -> dict[str, str]:
    """Classes called as in the files: numbers in their order, names in the alphabet's."""
    if set(every) in ({"1"}, {"255"}, {shapes.OBJECT}):
        return {name: name if name == shapes.OBJECT else FOREGROUND for name in every}
    ordered = sorted(every, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return {name: "ignored" if name == "255" and len(every) > 1 else every[name][0] for name in ordered}

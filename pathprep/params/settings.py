"""What a parameter is for: its default, its words and its place in help stand once, beside the parameter.

The parameters of sharding are dataclasses in each other (stain, tissue, quality). People give them by one
flat name each, the same in Python, on the command line and in YAML: ``stain_beta=0.15``,
``--stain-beta 0.15``, ``stain_beta: 0.15``. Nothing here is slow to import, so that help is instant.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pathprep.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """The words for a field, inside its annotation.

    Attributes:
        help: a sentence; other parameters by their flat names, in backticks.
        panel: heading that it stands under in help.
        name: flat name, if it is not the field's.
    """

    help: str
    panel: str = ""
    name: str = ""


@dataclass(frozen=True)
class Flat:
    """A field as people give it.

    Attributes:
        name: flat name. path: fields that lead to it, as in ``("stain", "beta")``.
        type: what it takes. default: what it is if left out.
    """

    name: str
    path: tuple[str, ...]
    type: Any
    default: Any
    help: str
    panel: str


def flat(owner: Any) -> dict[str, Flat]:
    """Every field with a Setting, also of dataclasses inside, by flat name.

    Args:
        owner: a dataclass whose fields have defaults, or an instance whose values are the defaults.
    """
    return {each.name: each for each in _flat(owner() if isinstance(owner, type) else owner, ())}


def _flat(instance: Any, path: tuple[str, ...]) -> list[Flat]:
    every = []
    for field in fields(instance):
        value, here = getattr(instance, field.name), (*path, field.name)
        setting = _setting(field.type)
        if setting is not None:
            kind = get_args(field.type)[0]
            every.append(Flat(setting.name or field.name, here, kind, value, setting.help, setting.panel))
        elif is_dataclass(value):
            every += _flat(value, here)
    return every


def _setting(annotation: Any) -> Setting | None:
    if get_origin(annotation) is not Annotated:
        return None
    return next((each for each in get_args(annotation)[1:] if isinstance(each, Setting)), None)


def nested(owner: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values as keyword arguments of their dataclasses: ``{"stain": {"beta": 0.2}, "tile": 256}``.

    Raises:
        UsageError: a name that is none of theirs; it names the nearest.
    """
    known, found = flat(owner), dict[str, Any]()
    for name, value in values.items():
        if name not in known:
            raise unknown(name, known)
        place = found
        for step in known[name].path[:-1]:
            place = place.setdefault(step, {})
        place[known[name].path[-1]] = value
    return found


def build(owner: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a parameter class with some flat values, the others as they are by default.

    Raises:
        UsageError: a name that is none of its fields', or a value outside its range.
    """
    found: T = _replaced(owner(), nested(owner, values))
    return found


def _replaced(instance: Any, values: Mapping[str, Any]) -> Any:
    inner = {
        name: _replaced(getattr(instance, name), value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return replace(instance, **inner)


def unknown(name: str, known: Mapping[str, Any]) -> UsageError:
    """That there is no such parameter, and which one may have been meant."""
    near = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(sorted(known))}"
    return UsageError(f"`{name}`: no such parameter{meant}")


def check(rules: Mapping[str, bool]) -> None:
    """Raise the first message whose rule does not hold.

    Raises:
        UsageError: with that message.
    """
    for message, holds in rules.items():
        if not holds:
            raise UsageError(message)


def is_share(value: float) -> bool:
    """Whether it is a number from 0 to 1."""
    return 0 <= value <= 1


def is_positive(value: float) -> bool:
    """Whether it is a finite number above 0."""
    return 0 < value < math.inf

"""What a parameter is for: its default, its words and its place in help stand once, beside the parameter.

The parameters of sharding are dataclasses in each other (stain, tissue, quality). People give them by one
flat name each, the same in Python, on the command line and in YAML: ``stain_beta=0.15``,
``--stain-beta 0.15``, ``stain_beta: 0.15``. Nothing here is slow to import, so that help is instant.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from pathprep.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """The words for a field, inside its annotation.

    Attributes:
        help: a sentence; other parameters by their flat names, in backticks.
        panel: heading that it stands under in help.
        name: flat name, if it is not the field's. metavar: what help shows for its value.
        flags: of two choices, each is an option of its own: ``--native`` or ``--resize``.
    """

    help: str
    panel: str = ""
    name: str = ""
    metavar: str = ""
    flags: bool = False


@dataclass(frozen=True)
class Flat:
    """A field as people give it.

    Attributes:
        name: flat name. path: fields that lead to it, as in ``("stain", "beta")``.
        type: what it takes. default: what it is if left out. words: help, panel and the like.
    """

    name: str
    path: tuple[str, ...]
    type: Any
    default: Any
    words: Setting


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
            every.append(Flat(setting.name or field.name, here, get_args(field.type)[0], value, setting))
        elif is_dataclass(value):
            every += _flat(value, here)
    return every


def _setting(annotation: Any) -> Setting | None:
    if get_origin(annotation) is not Annotated:
        return None
    return next((each for each in get_args(annotation)[1:] if isinstance(each, Setting)), None)


def build(owner: type[T], values: Mapping[str, Any], **inner: Any) -> T:
    """An instance of a parameter class with some flat values, the others as they are by default.

    Args:
        owner: the class.
        values: by flat name, as in ``stain_beta``.
        inner: further fields, of ``owner`` or as dictionaries of an instance inside it.

    Raises:
        UsageError: a name that is none of its fields', or a value of another kind or outside its range.
    """
    known, changed = flat(owner), dict[str, Any]()
    for name, value in values.items():
        if name not in known:
            raise unknown(name, known)
        place = changed
        for step in known[name].path[:-1]:
            place = place.setdefault(step, {})
        place[known[name].path[-1]] = _of_kind(known[name], value)
    for name, value in inner.items():
        changed[name] = {**changed.get(name, {}), **value} if isinstance(value, dict) else value
    return _replaced(owner(), changed)


def _replaced(owner: T, changed: Mapping[str, Any]) -> T:
    values = {
        name: _replaced(getattr(owner, name), value) if isinstance(value, dict) else value
        for name, value in changed.items()
    }
    return cast(T, replace(cast(Any, owner), **values))


def _of_kind(setting: Flat, value: Any) -> Any:
    """A value as its field has it, or refused: from Python and from YAML anything may come.

    Where a number is expected, 50 becomes 50.0: they differ as JSON, which build ids are hashes of.
    """
    kinds = get_args(setting.type) if type(None) in get_args(setting.type) else (setting.type,)
    for kind in kinds:
        if _is_kind(value, kind):
            return kind(value) if kind in (int, float, Path) else value
    words = [", ".join(map(str, get_args(kind))) or _WORDS.get(kind, kind.__name__) for kind in kinds]
    raise UsageError(f"`{setting.name}` is {value!r}; expected {' or '.join(words)}")


_WORDS = {Path: "a file", int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}


def _is_kind(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, str | PathLike)
    return isinstance(value, get_origin(kind) or kind)


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

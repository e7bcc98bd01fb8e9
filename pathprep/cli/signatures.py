"""Options of a command, built from the parameter classes, so that a default and its words stand once."""

import re
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from pathprep.params.settings import Flat, flat


def with_settings(
    owner: Any,
    without: tuple[str, ...] = (),
    *,
    into: str = "settings",
    several: tuple[str, ...] = (),
    **panels: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function the options of a parameter class; they reach it as one dictionary.

    Args:
        owner: see settings.flat.
        without: flat names that are left out.
        into: the function's argument for the dictionary; help has the options in its place.
        several: flat names of numbers that may be several, as in 2,1,0.5; the dictionary has tuples.
        panels: flat name -> heading in help, where it is another than the class has.
    """
    options = [
        _option(each, panels.get(each.name, each.words.panel), each.name in several)
        for each in flat(owner).values()
        if each.name not in without
    ]
    choices = {name: kind for name, kind, _ in options}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        parameters: list[Parameter] = []
        for name, each in signature(command).parameters.items():
            parameters += [parameter for _, _, parameter in options] if name == into else [each]

        @wraps(command)
        def run(**given: Any) -> Any:
            settings = {name: given.pop(name) for name in choices}
            for name, kind in choices.items():
                if kind is not None:
                    settings[name] = kind[0] if settings[name] else kind[1]
            return command(**{into: settings}, **given)

        set_signature(run, parameters)
        return run

    return decorate


def _option(each: Flat, panel: str, several: bool) -> tuple[str, tuple[Any, ...] | None, Parameter]:
    """Name, the two values of a pair of flags or None, and the parameter of a function."""
    option, kind, default, pair = f"--{each.name.replace('_', '-')}", each.type, each.default, None
    more: dict[str, Any] = {"metavar": each.words.metavar} if each.words.metavar else {}
    if several:
        kind, default = str, f"{default:g}"
        more = {"metavar": "NUMBER[,NUMBER...]", "parser": _numbers}
    elif each.words.flags:
        pair = get_args(kind)
        option = "/".join(f"--{choice}" for choice in pair)
        kind, default = bool, default == pair[0]
    elif kind is bool:
        option += f"/--no-{each.name.replace('_', '-')}"
    if get_origin(kind) is list and get_origin(get_args(kind)[0]) is Literal:  # typer has no lists of choices
        more["metavar"], kind = f"<{'|'.join(get_args(get_args(kind)[0]))}>", list[str]
    help_text = re.sub(r"`(\w+)`", lambda word: f"--{word[1].replace('_', '-')}", each.words.help)
    if several:
        help_text += " Several, as in 2,1,0.5: each slide at each."
    made = typer.Option(option, help=help_text, rich_help_panel=panel or None, **more)
    parameter = Parameter(
        each.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made]
    )
    return each.name, pair, parameter


def _numbers(given: Any) -> tuple[float, ...]:
    """A number, or several: ``2,1,0.5``; from a file also as a list."""
    parts = given if isinstance(given, list | tuple) else str(given).split(",")
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise typer.BadParameter(f"{given}: expected a number, or several as in 2,1,0.5") from None


def set_signature(function: Callable[..., Any], parameters: list[Parameter]) -> None:
    """Give a function the parameters that typer is to see."""
    ordered = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
    function.__signature__ = Signature(ordered)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in ordered}

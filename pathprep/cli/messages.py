"""What the library says, as the command line says it: parameters in backticks become options."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from pathprep.cli.streams import errors

# Of the command that runs: parameter -> option, for messages
_options: dict[str, str] = {}


def start(context: Any) -> None:
    """From now on messages are of this command, and what the library notes is shown."""
    _options.clear()
    _options.update(option_names(context))
    for package in ("pathprep", "pathtrain"):
        logger = logging.getLogger(package)
        logger.handlers = [_Notes()]
        logger.setLevel(logging.INFO)


class _Notes(logging.Handler):
    """A line on stderr each, warnings in yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        text = said(record.getMessage())
        warning = record.levelno >= logging.WARNING
        text = f"{record.levelname.lower()}: {text}" if warning else text
        errors.print(text, style="yellow" if warning else None, markup=False, soft_wrap=True)


def option_names(context: Any) -> dict[str, str]:
    """Parameter -> option of a command: ``min_tissue`` -> ``--min-tissue``; arguments -> their metavar.

    Flags also by their value: ``forecast False`` -> ``--no-forecast``, ``mode resize`` -> ``--resize``.
    """
    named = {}
    for each in context.command.params:
        if each.param_type_name == "argument":
            named[each.name] = (each.metavar or each.name.upper()).rstrip(".")
            continue
        named[each.opts[0].lstrip("-").replace("-", "_")] = named[each.name] = each.opts[0]
        for on, off in zip(each.opts, each.secondary_opts, strict=False):
            named |= {f"{each.name} True": on, f"{each.name} False": off}
            named |= {f"{each.name} {option.lstrip('-')}": option for option in (on, off)}
    return named


def in_options(text: str, names: Mapping[str, str]) -> str:
    """A message of the library with its parameters said as options."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        return names.get(name + value) or names.get(name, f"`{name}`") + value

    return re.sub(r"`(\w+)`( \w+)?", option, text)


def said(text: str) -> str:
    """A message of the library in options of the command that runs, for what is printed and not raised."""
    return in_options(text, _options)

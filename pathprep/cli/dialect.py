"""One dialect for both commands, pathprep and pathtrain.

- Options of a parameter class are built from it (``with_settings``), so a default and its words stand once.
- ``--json`` prints the result, ``--out-json FILE`` writes it (``give``).
- Commands with more than ten options take ``--config FILE.yaml`` (``add``), whose keys are the options, and
  write what was decided beside their result (``save_command``), so that the same can be asked for again.
- The library's errors name parameters in backticks; ``main`` says them as options.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path, PurePath
from types import FrameType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from pathprep.cli.streams import errors, output
from pathprep.errors import PathprepError, UsageError, explain_missing_package, explain_os_error
from pathprep.params.settings import Flat, flat, unknown

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel="Output")]
OutJson = Annotated[
    Path | None,
    typer.Option(
        "--out-json", metavar="FILE", help="Write the result as JSON too.", rich_help_panel="Output"
    ),
]
# Headings of help, in their order; the first has what most people need
PANELS = (
    "", "What goes in", "Tiles", "Tissue", "Stain", "Quality", "Training", "Running", "Output", "Expert",
)  # fmt: skip
MANY = 10  # more options than these can also be given in a file
# Options that are about a call and not about what it makes
_OF_A_CALL = {"config", "as_json", "out_json", "dry_run", "part", "rebuild"}

# Of the command that runs: parameter -> option, for messages
_options: dict[str, str] = {}


def add(app: typer.Typer, command: Callable[..., Any], name: str | None = None) -> None:
    """Make a function a command of an app: options under PANELS.

    With more than MANY of them it takes --config, and also if it saves its values: if it has a ``context``.
    """
    own = dict(signature(command).parameters)
    options = [each for each in own.values() if each.default is not Parameter.empty]
    if len(options) > MANY or "context" in own:
        own["config"] = Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=_CONFIG)

    @wraps(command)
    def run(**given: Any) -> Any:
        given.pop("config", None)
        return command(**given)

    for name_, each in own.items():
        for made in getattr(each.annotation, "__metadata__", ()):
            if isinstance(made, typer.models.ArgumentInfo) and made.metavar is None:
                made.metavar = name_.upper()
    _set_signature(run, sorted(own.values(), key=_panel))
    # a docstring's lines are broken for an editor, not for this terminal
    help_text = re.sub(r"(?<!\n)\n(?!\n)", " ", cleandoc(command.__doc__ or ""))
    app.command(name, cls=_Command, help=help_text)(run)


def _panel(parameter: Parameter) -> int:
    """The place of an option's heading in help."""
    made = getattr(parameter.annotation, "__metadata__", ())
    panel = next((each.rich_help_panel for each in made if hasattr(each, "rich_help_panel")), None)
    return PANELS.index(panel or "")


class _Command(typer.core.TyperCommand):
    """A command that remembers what its parameters are called while it runs."""

    def invoke(self, ctx: Any) -> Any:
        _options.clear()
        _options.update(option_names(ctx))
        _log_to_stderr()
        return super().invoke(ctx)


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


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values of a file as the command's defaults."""
    if path is None:
        return None
    import yaml

    try:
        values = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        reason = explain_os_error(error) if isinstance(error, OSError) else f"{path}: not YAML ({error})"
        raise UsageError(f"--config: {reason}") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: expected `option: value` lines, such as `tile: 256`")
    names = option_names(context)
    parameters = {option: name for name, option in names.items() if name in context_names(context)}
    defaults = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in names or name == "config":
            raise UsageError(f"--config {path}: {unknown(name, names)}")
        defaults[parameters[names[name]]] = value
    context.default_map = defaults
    return path


def context_names(context: Any) -> set[str]:
    """Names of a command's parameters, as its function has them."""
    return {each.name for each in context.command.params}


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        is_eager=True,
        callback=_load_config,
        help="Take options from a file, an `option: value` a line; those given here go before them.",
        rich_help_panel="Running",
    ),
]


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was given, on the command line or in --config, rather than left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def save_command(context: typer.Context, folder: PurePath | str, without: Collection[str] = ()) -> None:
    """Write a command's values to <folder>/<command>.yaml, which --config takes.

    Args:
        folder: a folder or a URL. without: parameters that are left out.

    Raises:
        OSError: the folder cannot be written.
        PathprepError: the URL cannot be written.
    """
    from pathprep.storage.place import storage_at

    storage, name = storage_at(folder), f"{context.info_name}.yaml"
    data = command_as_yaml(context, without).encode()
    if storage.read(name) != data:  # a run that had nothing to do changes nothing
        storage.write(name, data)


def command_as_yaml(context: typer.Context, without: Collection[str] = ()) -> str:
    """What --config takes to do the same again; see ``save_command``."""
    import yaml

    values = {
        option.lstrip("-").replace("-", "_"): _plain(context.params[each.name])
        for each in context.command.params
        if each.name not in _OF_A_CALL and each.name not in without
        if context.params.get(each.name) is not None
        for option in [each.opts[0]]
    }
    command = context.command_path.removeprefix("python -m ")
    text = f"# {command} --config this-file.yaml does the same again\n"
    return text + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def _plain(value: Any) -> Any:
    """A value as YAML has it; paths absolute, but links kept: a slide behind a link has the link's name."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return os.path.abspath(value) if isinstance(value, Path) else value  # noqa: PTH100


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
        _option(each, panels.get(each.name, each.panel), each.name in several)
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

        _set_signature(run, parameters)
        return run

    return decorate


def _option(each: Flat, panel: str, several: bool) -> tuple[str, tuple[Any, ...] | None, Parameter]:
    """Name, the two values of a pair of flags or None, and the parameter of a function."""
    option, kind, default, pair = f"--{each.name.replace('_', '-')}", each.type, each.default, None
    more: dict[str, Any] = {"metavar": each.metavar} if each.metavar else {}
    if several:
        kind, default = str, f"{default:g}"
        more = {"metavar": "NUMBER[,NUMBER...]", "parser": _numbers}
    elif each.name == "mode" and get_origin(kind) is Literal:  # --native/--resize
        pair = get_args(kind)
        option = "/".join(f"--{choice}" for choice in pair)
        kind, default = bool, default == pair[0]
    elif kind is bool:
        option += f"/--no-{each.name.replace('_', '-')}"
    if get_origin(kind) is list and get_origin(get_args(kind)[0]) is Literal:  # typer has no lists of choices
        more["metavar"], kind = f"<{'|'.join(get_args(get_args(kind)[0]))}>", list[str]
    help_text = re.sub(r"`(\w+)`", lambda word: f"--{word[1].replace('_', '-')}", each.help)
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


def _set_signature(function: Callable[..., Any], parameters: list[Parameter]) -> None:
    ordered = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
    function.__signature__ = Signature(ordered)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in ordered}


def give(result: Any, as_json: bool, out_json: Path | None, show: Callable[[], None]) -> None:
    """A command's result: JSON on stdout or what ``show`` prints, and JSON in a file if asked for.

    Args:
        result: what json writes.

    Raises:
        UsageError: the file cannot be written.
    """
    if out_json is not None:
        from pathprep.storage import atomic

        try:
            out_json.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(out_json, result)
        except OSError as error:
            raise UsageError(f"{out_json}: cannot be written ({error.strerror})") from None
        errors.print(f"Written: {out_json}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show()


def main(app: typer.Typer) -> None:
    """Run an app: errors that are the user's to mend are one line, not a traceback.

    SIGTERM, by which schedulers stop a job, is like Ctrl-C, but the exit code tells them apart: 143 and 130.
    """
    interrupted = 130

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = 143
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        app()
    except ModuleNotFoundError as error:
        missing = explain_missing_package(error)
        if missing is None:
            raise
        _fail(missing, 2)
    except UsageError as error:
        _fail(said(str(error)), 2)
    except PathprepError as error:
        _fail(said(str(error)), 1)
    except OSError as error:
        _fail(explain_os_error(error), 1)
    except KeyboardInterrupt:
        sys.exit(interrupted)
    except SystemExit as error:
        sys.exit(interrupted if error.code == 130 else error.code)


def _fail(text: str, code: int) -> None:
    for line in text.splitlines():
        errors.print(f"error: {line}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)


def _log_to_stderr() -> None:
    """What the library notes while it works: a line each, warnings in yellow."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = said(record.getMessage())
            warning = record.levelno >= logging.WARNING
            text = f"{record.levelname.lower()}: {text}" if warning else text
            errors.print(text, style="yellow" if warning else None, markup=False, soft_wrap=True)

    for package in ("pathprep", "pathtrain"):
        logger = logging.getLogger(package)
        logger.handlers = [Handler()]
        logger.setLevel(logging.INFO)


__all__ = [
    "Json",
    "OutJson",
    "add",
    "errors",
    "give",
    "in_options",
    "is_given",
    "main",
    "output",
    "said",
    "save_command",
    "with_settings",
]

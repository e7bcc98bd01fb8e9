"""A command in a file: --config takes its options from one, and what it decided is saved as one."""

import os
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Annotated, Any

import typer

from pathprep.errors import UsageError, explain_os_error
from pathprep.params.settings import unknown
from pathprep.storage import regular
from pathprep.storage.base import Url, is_url
from pathprep.storage.secrets import without_secrets

# Options that are about a call and not about what it makes
_OF_A_MACHINE = {"out", "datasets", "address", "sbatch_args"}
_OF_A_CALL = {"config", "as_json", "out_json", "dry_run", "part", "rebuild"}


def _load(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values of a file as the command's defaults."""
    if path is None:
        return None
    import yaml

    try:
        values = yaml.safe_load(regular.read(path))
    except OSError as error:
        raise UsageError(f"--config {explain_os_error(error, reading=True)}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise UsageError(f"--config {path}: {line}not YAML; write `option: value` lines") from None
    except (ValueError, RecursionError, MemoryError):  # a date that is none; brackets without end
        raise UsageError(f"--config {path}: cannot be read as YAML; write `option: value` lines") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: expected `option: value` lines, such as `tile: 256`")
    known = {_key(each): each for each in context.command.params if each.name not in ("config", "help")}
    defaults = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UsageError(f"--config {path}: {unknown(name, known)}")
        several = known[name].nargs == -1 or getattr(known[name], "multiple", False)
        defaults[known[name].name] = [value] if several and not isinstance(value, list) else value
    context.default_map = defaults
    return path


def _key(parameter: Any) -> str:
    """What a parameter is called in a file: its option, with underscores."""
    return str(parameter.opts[0].lstrip("-").replace("-", "_"))


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        is_eager=True,
        callback=_load,
        help="Take options from a file, an `option: value` a line; those given here go before them.",
        rich_help_panel="Running",
    ),
]


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was given, on the command line or in --config, rather than left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def save_command(
    context: typer.Context,
    folder: PurePath | str,
    without: Collection[str] = (),
    *,
    private: bool = False,
) -> None:
    """Write a command's values to <folder>/<command>.yaml, which --config takes.

    Args:
        folder: a folder or a URL. without: parameters that are left out.
        private: leave out paths too, and what tells of a machine.

    Raises:
        OSError: the folder cannot be written.
        PathprepError: the URL cannot be written.
    """
    from pathprep.storage.place import storage_at

    storage, name = storage_at(folder), f"{context.info_name}.yaml"
    data = command_as_yaml(context, without, private=private).encode()
    if storage.read(name) != data:  # a run that had nothing to do changes nothing
        storage.write(name, data)


def command_as_yaml(context: typer.Context, without: Collection[str] = (), *, private: bool = False) -> str:
    """What --config takes to do the same again; see ``save_command``."""
    import yaml

    values = {
        _key(each): _plain(context.params[each.name])
        for each in context.command.params
        if each.name not in _OF_A_CALL and each.name not in without
        if context.params.get(each.name) is not None
        if not (private and _tells(each.name, context.params[each.name]))
    }
    command = context.command_path.removeprefix("python -m ")
    text = f"# {command} --config this-file.yaml does the same again"
    text += ", with the paths and the key file, which are not in it\n" if private else "\n"
    return text + yaml.safe_dump(values, sort_keys=False, width=100)


def _tells(name: str, value: Any) -> bool:
    """Whether a parameter is a place or a machine."""
    values = value if isinstance(value, list | tuple) else [value]
    return name in _OF_A_MACHINE or any(isinstance(each, Path) for each in values)


def _plain(value: Any) -> Any:
    """A value as YAML has it; paths absolute, but links kept: a slide behind a link has the link's name."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if not isinstance(value, Path):
        return without_secrets(value) if isinstance(value, str) else value
    return str(Url(value)) if is_url(value) else os.path.abspath(value)  # noqa: PTH100

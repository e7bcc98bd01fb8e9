"""One dialect for both commands, pathprep and pathtrain.

- Options of a parameter class are built from it (signatures), so a default and its words stand once.
- ``--json`` prints the result, ``--out-json FILE`` writes it (``give``).
- Commands with more than ten options take ``--config FILE.yaml``, whose keys are the options, and write what
  was decided beside their result (command_file), so that the same can be asked for again.
- The library's errors name parameters in backticks; here they are said as options (messages).
"""

import json
import re
import signal
import sys
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from pathprep import __version__
from pathprep.cli import messages
from pathprep.cli.command_file import Config
from pathprep.cli.messages import said
from pathprep.cli.signatures import set_signature
from pathprep.cli.streams import errors, output, take_any_text
from pathprep.errors import PathprepError, UsageError, cannot_write, explain_missing_package, explain_os_error
from pathprep.storage.printable import printable

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel="Output")]
OutJson = Annotated[
    Path | None,
    typer.Option(
        "--out-json", metavar="FILE", help="Write the result as JSON too.", rich_help_panel="Output"
    ),
]
# Headings of help, in their order; the first has what most people need
PANELS = (
    "", "Encoder", "What goes in", "Tiles", "Tissue", "Stain", "Quality", "Training", "Running", "Output",
    "Expert",
)  # fmt: skip
MANY = 10  # more options than these can also be given in a file


def new_app(help_text: str) -> typer.Typer:
    """The app of a command, with --version."""
    app = typer.Typer(
        help=help_text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )

    @app.callback(invoke_without_command=True)
    def version(
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        if version:
            output.print(__version__)
            raise typer.Exit

    return app


def add(app: typer.Typer, command: Callable[..., Any], name: str | None = None) -> None:
    """Make a function a command of an app: options under PANELS.

    With more than MANY of them it takes --config, and also if it saves its values: if it has a ``context``.
    """
    own = dict(signature(command).parameters)
    options = [each for each in own.values() if each.default is not Parameter.empty]
    if len(options) > MANY or "context" in own:
        own["config"] = Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=Config)

    @wraps(command)
    def run(**given: Any) -> Any:
        given.pop("config", None)
        return command(**given)

    for name_, each in own.items():
        for made in getattr(each.annotation, "__metadata__", ()):
            if isinstance(made, typer.models.ArgumentInfo) and made.metavar is None:
                made.metavar = name_.upper()
    set_signature(run, sorted(own.values(), key=_panel))
    # a docstring's lines are broken for an editor, not for this terminal
    help_text = re.sub(r"(?<!\n)\n(?!\n)", " ", cleandoc(command.__doc__ or ""))
    app.command(name, cls=_Command, help=help_text)(run)


def _panel(parameter: Parameter) -> int:
    """The place of an option's heading in help."""
    made = getattr(parameter.annotation, "__metadata__", ())
    panel = next((each.rich_help_panel for each in made if hasattr(each, "rich_help_panel")), None)
    return PANELS.index(panel or "")


# What is expected of a value, by the kind of pydantic's error, in which newer versions of typer speak
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a number that is finite",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_UsageError: Any = typer.BadParameter.__mro__[
    1
]  # typer brings its own click, or takes the one that is installed


def _said(error: Any) -> str:
    """What a usage error says, in words and with nothing in it that a terminal would obey."""
    of_value = getattr(error.__cause__, "errors", None)
    first: dict[str, Any] = of_value()[0] if of_value else {}
    expected = _EXPECTED.get(first.get("type", ""))
    if expected is None:
        return printable(str(error.message).removeprefix("Value error, "))
    return printable(f"{first['input']}: expected {expected.format(**first.get('ctx', {}))}")


class _Command(typer.core.TyperCommand):
    """A command that remembers what its parameters are called while it runs."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        for each in self.params:
            shown = getattr(each, "display_type_rich", None)
            if each.nargs == -1 and shown is not None:  # <list[Path]>
                each.display_type_rich = _one_of_them(shown)  # type: ignore[attr-defined]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return list(super().parse_args(ctx, args))
        except _UsageError as error:  # it quotes what was typed, perhaps by a * of the shell
            error.message = _said(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        messages.start(ctx)
        return super().invoke(ctx)


def _one_of_them(shown: Callable[..., Any]) -> Callable[..., Any]:
    """The kind of a value, where typer shows that of a list of them."""
    return lambda **given: re.sub(r"list\[(\w+)\]", lambda found: found[1].lower(), str(shown(**given)))


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
            atomic.write_alone(out_json, atomic.as_json(result))
        except OSError as error:
            raise UsageError(cannot_write(out_json, error)) from None
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
    take_any_text()
    try:
        app()
    except ModuleNotFoundError as error:
        missing = explain_missing_package(error)
        if missing is None:
            raise
        _fail(missing, code=2)
    except PathprepError as error:
        text = said(str(error))
        _fail(*(text.split("\n") if error.several else [text]), code=error.exit_code)
    except OSError as error:
        _fail(explain_os_error(error), code=1)
    except MemoryError:
        _fail("too little memory: give this machine or job more, or ask for less at a time", code=1)
    except KeyboardInterrupt:
        sys.exit(interrupted)
    except SystemExit as error:
        sys.exit(interrupted if error.code == 130 else error.code)


def _fail(*lines: str, code: int) -> None:
    for line in lines:
        errors.print(f"error: {line}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)

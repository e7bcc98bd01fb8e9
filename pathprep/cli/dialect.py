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
from pathprep.cli.streams import errors, output
from pathprep.errors import PathprepError, UsageError, explain_missing_package, explain_os_error

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


class _Command(typer.core.TyperCommand):
    """A command that remembers what its parameters are called while it runs."""

    def invoke(self, ctx: Any) -> Any:
        messages.start(ctx)
        return super().invoke(ctx)


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
            raise UsageError(explain_os_error(error)) from None
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
    except PathprepError as error:
        _fail(said(str(error)), error.exit_code)
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

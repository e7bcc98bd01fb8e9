"""The command `pathprep`, a module a command. They import what they need when they run: --help is instant."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from pathprep import __version__
from pathprep.cli import import_tiles, inspect, mix, shard, synth, target
from pathprep.cli import report as dataset
from pathprep.cli.options import errors, output
from pathprep.errors import PathprepError, UsageError, explain_os_error

app = typer.Typer(
    help="Slides to tissue tiles to Macenko stain normalisation to WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order of their use
for command in (
    shard.shard,
    import_tiles.import_tiles,
    inspect.inspect,
    dataset.verify,
    dataset.repair,
    dataset.report,
    mix.mix,
    target.target,
    synth.synth,
):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        output.print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: errors that are the user's to mend are one line, not a traceback.

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
    except UsageError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except (PathprepError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        errors.print(f"error: {said}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(interrupted)
    except SystemExit as error:
        sys.exit(interrupted if error.code == 130 else error.code)

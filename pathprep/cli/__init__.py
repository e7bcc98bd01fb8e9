"""The command `pathprep`, a module a command. They import what they need when they run: --help is instant."""

from typing import Annotated

import typer

from pathprep import __version__
from pathprep.cli import dialect, doctor, import_tiles, inspect, mix, shard, synth, target
from pathprep.cli import report as dataset
from pathprep.cli.dialect import add
from pathprep.cli.streams import output

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
    doctor.doctor,
):
    add(app, command)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        output.print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the command."""
    dialect.main(app)

"""`pathprep inspect`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.messages import said
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.errors import SlideError
from pathprep.params.settings import flat
from pathprep.params.shard import ShardParams

# What does not shape the grid
WITHOUT = tuple(
    name
    for name, each in flat(ShardParams).items()
    if each.words.panel in ("Stain", "Quality", "Output", "Expert")
    or name in ("overlap", "max_tiles", "seed")
)


@with_settings(ShardParams, WITHOUT)
def inspect(
    slides: Annotated[list[Path], typer.Argument(help="Slides.")],
    settings: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Show what slides are and how many tiles `shard` would make of them.

    Exit code 0: all can be used; 1: one cannot, and the problem is named; 2: wrong usage.
    """
    from pathprep.sharding.inspect import inspect as inspect_slide

    facts = []
    unreadable = 0
    for path in slides:
        try:
            facts.append(inspect_slide(path, **settings))
        except SlideError as error:
            unreadable += 1
            errors.print(f"error: {said(str(error))}", style="red", markup=False, soft_wrap=True)

    def show() -> None:
        for entry in facts:
            output.print(_facts_table(entry))

    give(facts[0] if len(slides) == 1 and facts else facts, as_json, out_json, show)
    if unreadable or any(entry["problem"] for entry in facts):
        raise typer.Exit(1)


def _facts_table(facts: dict[str, Any]) -> Table:
    table = Table(title=escape(facts["path"]), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Size", f"{facts['width']:,} x {facts['height']:,} px, {facts['bytes'] / 1e6:,.1f} MB")
    table.add_row("Reader", f"{facts['reader']} ({facts['vendor']})")
    levels = ", ".join(f"{v['width']}x{v['height']} (1/{v['downsample']:g})" for v in facts["levels"])
    table.add_row("Levels", levels)
    if facts["problem"]:
        table.add_row("Problem", f"[red]{escape(said(facts['problem']))}[/red]")
        return table
    table.add_row("MPP", f"{facts['mpp']:g} ({facts['mpp_source']})")
    columns, rows = facts["grid"]
    table.add_row(
        "Tiles", f"{facts['tiles']:,} of {columns} x {rows}, {facts['tile_side']} level-0 px a side"
    )
    table.add_row("Tissue", f"{facts['tissue']:.1%} of the slide")
    return table

"""`pathprep inspect`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pathprep.cli.options import (
    DefaultMpp,
    HighMpp,
    Json,
    LowMpp,
    MinTissue,
    MppOption,
    NativeOption,
    ReaderChoice,
    ReaderOption,
    TileOption,
    errors,
    output,
)
from pathprep.errors import SlideError


def inspect(
    slides: Annotated[list[Path], typer.Argument(help="Slides.")],
    tile: TileOption = 256,
    mpp: MppOption = 0.5,
    native: NativeOption = True,
    min_tissue: MinTissue = 0.4,
    default_mpp: DefaultMpp = None,
    low_mpp: LowMpp = 0.05,
    high_mpp: HighMpp = 10.0,
    reader: ReaderOption = ReaderChoice.auto,
    as_json: Json = False,
) -> None:
    """Show what slides are and how many tiles `shard` would make of them."""
    from pathprep.sharding.inspect import inspect as inspect_slide
    from pathprep.sharding.params import ShardParams

    params = ShardParams(
        tile=tile,
        mpp=mpp,
        mode="native" if native else "resize",
        min_tissue=min_tissue,
        region=tile,
        default_mpp=default_mpp,
        low_mpp=low_mpp,
        high_mpp=high_mpp,
        reader=reader.value,
    )
    facts = []
    unreadable = 0
    for path in slides:
        try:
            facts.append(inspect_slide(path, params))
        except SlideError as error:
            unreadable += 1
            errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(facts[0] if len(slides) == 1 and facts else facts, indent=1))
    else:
        for entry in facts:
            output.print(_facts_table(entry))
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
        table.add_row("Problem", f"[red]{escape(facts['problem'])}[/red]")
        return table
    table.add_row("MPP", f"{facts['mpp']:g} ({facts['mpp_source']})")
    columns, rows = facts["grid"]
    table.add_row(
        "Tiles", f"{facts['tiles']:,} of {columns} x {rows}, {facts['tile_side']} level-0 px a side"
    )
    table.add_row("Tissue", f"{facts['tissue']:.1%} of the slide")
    return table

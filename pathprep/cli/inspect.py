"""`pathprep inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.messages import said
from pathprep.cli.options import Pseudonymise
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.errors import SlideError
from pathprep.params.notes import in_words
from pathprep.params.settings import flat
from pathprep.params.shard import ShardParams

if TYPE_CHECKING:
    from pathprep.sharding.inspect import Inspection

# What does not shape the grid
WITHOUT = tuple(
    name
    for name, each in flat(ShardParams).items()
    if each.words.panel in ("Stain", "Quality", "Output", "Expert")
    or name in ("overlap", "max_tiles", "seed")
)
# Of the picture, in characters
PICTURE_WIDTH, PICTURE_LINES = 40, 24


@with_settings(ShardParams, WITHOUT)
def inspect(
    slides: Annotated[list[Path], typer.Argument(help="Slides; also a folder that holds one, as of DICOM.")],
    settings: dict[str, Any],
    pseudonymise: Pseudonymise = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Show what slides are, what was decided about them and from what, and how many tiles `shard` would make.

    Exit code 0: all can be used; 1: one cannot, and the problem is named; 2: it is not there, or wrong usage.
    """
    from pathprep.sharding.inspect import look

    seen: list[Inspection] = []
    code = 0
    for path in slides:
        try:
            seen.append(look(path, pseudonymise=pseudonymise, **settings))
        except SlideError as error:
            code = max(code, 2 if _is_absent(path) else 1)
            errors.print(f"error: {said(str(error))}", style="red", markup=False, soft_wrap=True)

    def show() -> None:
        for each in seen:
            output.print(_shown(each))

    facts = [each.as_dict() for each in seen]
    give(facts[0] if len(slides) == 1 and facts else facts, as_json, out_json, show)
    if code or any(each["problem"] for each in facts):
        raise typer.Exit(code or 1)


def _is_absent(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it may be there
        return False
    return False


def _shown(seen: "Inspection") -> RenderableType:
    from pathprep.cli.half_blocks import can_show, half_blocks
    from pathprep.slides.miniature import fitted, miniature

    table = _facts_table(seen.facts)
    if not can_show(output):
        return table
    size = fitted(seen.overview, min(PICTURE_WIDTH, output.width), 2 * PICTURE_LINES)
    return Group(table, half_blocks(miniature(seen.overview, seen.mask, *size)))


def _facts_table(facts: dict[str, Any]) -> Table:
    table = Table(title=escape(facts["path"]), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    decided, mpp = facts["decided"], facts["mpp"]
    size = f"{facts['width']:,} x {facts['height']:,} px"
    if mpp is not None:
        size += f" ({facts['width'] * mpp / 1000:.1f} x {facts['height'] * mpp / 1000:.1f} mm)"
    table.add_row("Size", f"{size}, {facts['bytes'] / 1e6:,.1f} MB")
    table.add_row("Reader", escape(f"{facts['reader']} ({facts['vendor']})"))
    levels = ", ".join(f"{v['width']}x{v['height']} (1/{v['downsample']:g})" for v in facts["levels"])
    table.add_row("Levels", _lines(levels, *decided["levels"].get("others", ())))
    table.add_row("Colours", escape(decided["colour"]["source"]))
    bounds = decided["origin"]["value"]["bounds"]
    if bounds:
        x, y, width, height = bounds
        part = f"{width:,} x {height:,} px at {x:,},{y:,}"
        table.add_row("Scanned part", f"{part}; QuPath counts from there, tiles from the slide's corner")
    names = decided["name"]["value"]
    renamed = names["name"] != names["own_name"]
    table.add_row("Name", escape(names["name"] + (f" (for {names['own_name']})" if renamed else "")))
    if mpp is not None:
        quoted = next(
            (f": {v['quote']}" for v in facts["stated_mpp"] if v["source"] == facts["mpp_source"]), ""
        )
        also = [f"also there: {other}" for other in decided["mpp"].get("others", ())]
        table.add_row("MPP", _lines(f"{mpp:g} ({facts['mpp_source']}){quoted}", *also))
    else:
        table.add_row("MPP", _lines(*(decided["mpp"].get("others") or ["not stated"])))
    if facts["problem"]:
        table.add_row("Problem", f"[red]{escape(said(facts['problem']))}[/red]")
        return table
    columns, rows = facts["grid"]
    pieces, area = facts["too_small"]
    several = f"{pieces:,} pieces" if pieces > 1 else "1 piece"
    small = f"; {several} under --min-piece dropped, {area:,.0f} um2 in all" if pieces else ""
    table.add_row("Tissue", f"{facts['tissue']:.1%} of the slide{small}")
    if facts["notes"]:
        table.add_row("Look at", _lines(*(in_words(note) for note in facts["notes"])))
    left = f"{facts['no_tissue']:,} without tissue, {facts['little_tissue']:,} with too little"
    if facts["small_pieces"]:
        left += f", {facts['small_pieces']:,} lost with small pieces"
    side = f"{facts['tile_side']} level-0 px a side"
    table.add_row("Tiles", f"{facts['tiles']:,} of {columns} x {rows} ({left}), {side}")
    return table


def _lines(*lines: str) -> str:
    return escape("\n".join(lines))

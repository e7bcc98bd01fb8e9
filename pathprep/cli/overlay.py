"""`pathprep overlay`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.options import fail, place
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.params.overlay import OverlayParams
from pathprep.params.shard import ReaderName

if TYPE_CHECKING:
    from pathprep.scores.overlay import Overlays

Score = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the scores; may be repeated, the first is the one that colours show. Default: all, "
        "classes first."
    ),
]
OfDataset = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|URL", parser=place, help="The dataset that the tiles are of: tells their side."
    ),
]
Side = Annotated[
    int | None,
    typer.Option(min=1, help="Of a tile, level-0 pixels, where neither the scores nor --dataset tell."),
]


@with_settings(OverlayParams)
def overlay(
    scores: Annotated[
        Path,
        typer.Argument(metavar="SCORES", help="Parquet, CSV or HDF5: slide, x, y, side, a column per score."),
    ],
    slides: Annotated[list[Path], typer.Argument(help="Slides, folders, or CSVs (column slide).")],
    settings: dict[str, Any],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files are written.")] = Path(
        "overlays"
    ),
    score: Score = None,
    dataset: OfDataset = None,
    side: Side = None,
    reader: Annotated[
        ReaderName, typer.Option(help="Of slides, as of `pathprep shard`.", rich_help_panel="What goes in")
    ] = "auto",
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write scores of tiles as GeoJSON for QuPath and as a pyramidal OME-TIFF over the slide.

    Scores are attention, probabilities or clusters: `pathtrain scores` and `pathtrain evaluate slides
    --attention` write them, and any table with slide, x, y and side (level-0 pixels) is one.

    Exit code 0: all slides are done; 1: one could not be, and the problem is named; 2: wrong usage.
    """
    from pathprep.cli import console
    from pathprep.scores.overlay import overlay as make

    with console.progress(errors, "slides drawn") as show:
        made = make(
            scores,
            slides,
            out,
            score=score or (),
            dataset=dataset,
            side=side,
            reader=reader,
            watch=lambda done, of: show(console.Row(done, of)),
            **settings,
        )
    give(made.as_dict(), as_json, out_json, lambda: _show(made))
    for each in made.failures:
        fail(each.problem)
    if made.failures:
        raise typer.Exit(1)


def _show(made: "Overlays") -> None:
    table = Table("slide", "tiles", "objects", Column("files", overflow="fold"))
    for each in made.slides:
        if not each.problem:
            files = "\n".join(each.files)
            table.add_row(escape(each.slide), f"{each.tiles:,}", f"{each.objects:,}", escape(files))
    output.print(table)
    for note in [*made.notes, *(note for each in made.slides for note in each.notes)]:
        output.print(f"[yellow]note[/yellow]  {escape(note)}", soft_wrap=True)

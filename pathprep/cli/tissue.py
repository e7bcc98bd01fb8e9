"""`pathprep tissue`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.not_taken import print_not_taken
from pathprep.cli.options import MinFree, Rebuild, SlideTimeout, Workers, end
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.cli.survey import WITHOUT
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S
from pathprep.params.shard import GOES_IN, ShardParams
from pathprep.words import counted


@with_settings(ShardParams, WITHOUT)
def tissue(
    *,
    slides: Annotated[
        list[Path], typer.Argument(help="Slides, folders, or CSVs (columns slide, mpp, mask, mask_origin).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the masks and the page.")] = Path("masks"),
    settings: dict[str, Any],
    png: Annotated[bool, typer.Option("--png", help="Write masks as pictures too, to png/.")] = False,
    workers: Workers = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Your own masks: a folder of <slide>.geojson, .png or .tif, or one file.",
            rich_help_panel=GOES_IN,
        ),
    ] = None,
    mask_origin: Annotated[
        AskedOrigin,
        typer.Option(
            help="What masks count from on slides with bounds; as of `pathprep shard`.",
            rich_help_panel=GOES_IN,
        ),
    ] = "auto",
    rebuild: Rebuild = False,
    slide_timeout: SlideTimeout = SLIDE_TIMEOUT_S,
    min_free: MinFree = MIN_FREE_GB,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write the tissue of slides as masks (GeoJSON, as QuPath opens it), and a page to judge them by.

    `pathprep shard --masks` takes them; a mask that you edit in QuPath is kept. Run again to go on. Exit code
    0: all slides are done; 1: at least one failed; 2: wrong usage; 130, 143: interrupted.
    """
    from pathprep.launchers import server

    server.start()
    from pathprep.cli import console
    from pathprep.outlining import outline as front

    what: dict[str, Any] = {"masks": masks, "mask_origin": mask_origin, "rebuild": rebuild, **settings}
    with console.progress(errors, "slides") as show:
        summary = front.tissue(
            slides,
            out,
            png=png,
            **what,
            workers=workers,
            slide_timeout=slide_timeout,
            min_free=min_free,
            watch=lambda done, of: show(console.Row(done, of)),
        )

    def told() -> None:
        found = summary.done
        already = f", {len(summary.skipped)} already there" if summary.skipped else ""
        area = sum(each.area for each in found.values())
        output.print(f"{counted(len(found), 'mask')}{already}; {area:,.1f} mm2 of tissue", soft_wrap=True)
        for name, each in found.items():
            for warning in each.warnings():
                output.print(f"[yellow]look at[/yellow]  {escape(name)}: {escape(warning)}", soft_wrap=True)
        if summary.failures:
            console.print_failures(
                output, "Failed (in failed/, tried again by the next run)", summary.failures
            )
        print_not_taken(output, summary.not_taken, summary.repeats)
        if summary.page is not None:
            output.print(f"Page: {escape(str(summary.page))}", soft_wrap=True)

    give(summary.as_dict(), as_json, out_json, told)
    end(summary, rebuild=rebuild)

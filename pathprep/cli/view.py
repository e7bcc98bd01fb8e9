"""`pathprep view`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.command_file import is_given
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.options import RUNNING, place
from pathprep.cli.overlay import Score, Side
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import flat
from pathprep.params.shard import ShardParams

# What does not shape the grid
WITHOUT = tuple(
    name
    for name, each in flat(ShardParams).items()
    if each.words.panel in ("Stain", "Output", "Expert") or name in ("max_tiles", "seed")
)


@with_settings(ShardParams, WITHOUT)
def view(
    context: typer.Context,
    slide: Annotated[Path, typer.Argument(help="The slide.")],
    settings: dict[str, Any],
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Parquet, CSV or HDF5: slide, x, y, side, a column per score."),
    ] = None,
    score: Score = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="GeoJSON or picture of its tissue, or a folder of them, as of `pathprep shard`.",
            rich_help_panel="What goes in",
        ),
    ] = None,
    mask_origin: Annotated[
        AskedOrigin,
        typer.Option(help="What the mask's coordinates count from.", rich_help_panel="What goes in"),
    ] = "auto",
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            parser=place,
            help="A dataset that the slide is in: its tiles as they were cut, and why others were dropped.",
        ),
    ] = None,
    side: Side = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Of the server; 0: any that is free.", rich_help_panel=RUNNING),
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open a browser.", rich_help_panel=RUNNING)] = True,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Show a slide in a browser on this machine: its tissue, its tiles and why others are none, scores.

    Tissue and tiles are those of --dataset, or what `pathprep shard` would make with the same options. The
    address works on this machine alone; nothing is loaded from elsewhere. Ctrl-C ends it.
    """
    from pathprep.viewing.view import view as show

    given = {name: value for name, value in settings.items() if is_given(context, name)}
    visible = browser and _has_screen()

    def ready(url: str) -> None:
        def address() -> None:
            output.print(url, soft_wrap=True, markup=False, highlight=False)

        give({"url": url}, as_json, out_json, address)
        port_ = url.split(":")[2].split("/")[0]
        errors.print(
            "Ctrl-C ends it."
            + (
                ""
                if visible
                else f" From another machine: ssh -L {port_}:127.0.0.1:{port_} THIS-MACHINE, "
                "then open the address there."
            ),
            soft_wrap=True,
            markup=False,
        )
        sys.stdout.flush()

    show(
        slide,
        scores=scores,
        score=score or (),
        masks=masks,
        mask_origin=mask_origin,
        dataset=dataset,
        side=side,
        port=port,
        browser=visible,
        ready=ready,
        **given,
    )
    errors.print("Ended: the address no longer works.")


def _has_screen() -> bool:
    """Whether a browser would have a window; without, one that runs in the terminal could be started."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

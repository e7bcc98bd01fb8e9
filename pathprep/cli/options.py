"""What several commands share: consoles and options."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

# Results go to stdout, everything about the work to stderr, so that --json can be piped
errors = Console(stderr=True, highlight=False)
output = Console(highlight=False)


class ReaderChoice(StrEnum):
    """Which library reads."""

    auto = "auto"
    tiff = "tiff"
    cucim = "cucim"
    openslide = "openslide"


class Keep(StrEnum):
    """Which pixels the stain fit uses."""

    all = "all"
    any = "any"


TileOption = Annotated[int, typer.Option(help="Side of a tile, in pixels at --mpp.")]
MppOption = Annotated[float, typer.Option(help="Micrometres per pixel of the tiles.")]
DefaultMpp = Annotated[
    float | None, typer.Option(help="Micrometres per pixel of slides that do not state theirs.")
]
LowMpp = Annotated[float, typer.Option("--min-mpp", help="A slide's MPP below this is an error.")]
HighMpp = Annotated[float, typer.Option("--max-mpp", help="A slide's MPP above this is an error.")]
ReaderOption = Annotated[
    ReaderChoice,
    typer.Option(
        help="auto: tiff for JPEG in TIFF and SVS, cucim for JPEG 2000 there, openslide for the rest."
    ),
]
NativeOption = Annotated[
    bool,
    typer.Option(
        "--native/--resize",
        help="Keep level-0 pixels (512 at 0.25 MPP), or reduce to --tile pixels a side.",
    ),
]
MinTissue = Annotated[
    float,
    typer.Option(help="Keep tiles with at least this share of tissue; one without any is never kept."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

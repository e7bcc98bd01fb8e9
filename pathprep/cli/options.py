"""What several commands share: consoles and options."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pathprep.errors import StainError, UsageError

if TYPE_CHECKING:
    from pathprep.sharding.summary import RunSummary
    from pathprep.stain import Target

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


class Stain(StrEnum):
    """What is stored."""

    bake = "bake"
    fit = "fit"
    none = "none"


class Subsampling(StrEnum):
    """Colour resolution of the JPEGs."""

    half = "420"
    full = "444"


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
StainOption = Annotated[
    Stain,
    typer.Option(help="bake: store normalised tiles; fit: store the fits beside plain tiles; none."),
]
TargetOption = Annotated[
    Path | None, typer.Option(help="Stain target (JSON) to normalise to; default: the field's reference.")
]
StainKeep = Annotated[
    Keep, typer.Option(help="Fit on pixels with all (canonical) or any channels above --stain-beta.")
]
StainBeta = Annotated[float, typer.Option(help="Optical density above which a pixel is stained.")]
MaxUnfitted = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Fail if more of the tiles got no stain fit at all.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_target(path: Path | None) -> "Target":
    """What --target names, by default the field's reference.

    Raises:
        UsageError: the file cannot be read, or does not hold a usable target.
    """
    from pathprep.stain import Target

    try:
        return Target.load(path) if path else Target.default()
    except StainError as error:
        raise UsageError(str(error)) from None


def too_many_unfitted(summary: "RunSummary", most: float) -> bool:
    """Whether more than the share ``most`` of the tiles got no stain fit at all; says so if it is."""
    statuses = summary.stain()
    share = statuses["unfitted"] / max(1, statuses.total())
    if share <= most:
        return False
    errors.print(
        f"error: {share:.0%} of the tiles have no stain fit and were left as they are, more than "
        f"--max-unfitted {most:g}; is this H&E? See `pathprep report {summary.url or summary.root}`",
        style="red",
        markup=False,
    )
    return True

"""Options that several commands share, and what ends a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pathprep.cli.messages import said
from pathprep.cli.streams import errors
from pathprep.words import command

if TYPE_CHECKING:
    from pathprep.outlining.outline import Masks
    from pathprep.sharding.summary import RunSummary
    from pathprep.surveying.summary import SurveySummary

RUNNING = "Running"


def place(given: Any) -> Path | str:
    """A folder, or a URL as it is: a path would fold its slashes."""
    return str(given) if "://" in str(given) else Path(given)


Dataset = Annotated[
    str, typer.Argument(metavar="FOLDER|URL", parser=place, help="The dataset, such as s3://bucket/folder.")
]
Datasets = Annotated[
    list[str], typer.Argument(metavar="FOLDER|URL...", parser=place, help="Datasets, one or several.")
]
OutDataset = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|URL",
        parser=place,
        help="The dataset: a folder, or a URL such as s3://bucket/folder.",
    ),
]
Workers = Annotated[int | None, typer.Option(help="Slides at a time; default: one per core, or 4 per GPU.")]
Target = Annotated[
    Path | None,
    typer.Option(
        help="Stain target (JSON) to normalise to; default: the field's reference.", rich_help_panel="Stain"
    ),
]
MaxUnfitted = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Fail if more of the tiles got no stain fit at all.", rich_help_panel="Stain"
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        help="Make what is finished again, also with other parameters.",
        rich_help_panel=RUNNING,
    ),
]
SlideTimeout = Annotated[
    float, typer.Option(help="Seconds after which a slide is given up.", rich_help_panel=RUNNING)
]
MinFree = Annotated[
    float,
    typer.Option(help="Stop in order when the disk has fewer gigabytes free.", rich_help_panel=RUNNING),
]


Pseudonymise = Annotated[
    Path | None,
    typer.Option(
        metavar="KEYFILE",
        help="Keyed names instead of slides' own names and paths, in every file. The key file is made if "
        "absent; keep it and its table, KEYFILE.csv, apart from the dataset.",
        rich_help_panel="Output",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--pseudonymise",
        metavar="KEYFILE",
        help="Of a pseudonymised dataset: the key file, without which nobody knows where its slides are.",
    ),
]


def end(
    summary: "RunSummary | SurveySummary | Masks", *, rebuild: bool = False, incomplete: bool = False
) -> None:
    """End a command after a run: exit code 0 if all is made, 1 if not, 130 if it was interrupted.

    Args:
        rebuild: whether it was asked for. incomplete: whether something is wrong that the summary has not.
    """
    if summary.interrupted:
        without = " without --rebuild" if rebuild else ""
        errors.print(f"Interrupted; the same command{without} goes on from here.")
        raise typer.Exit(130)
    if summary.stopped:
        fail(summary.stopped)
    raise typer.Exit(1 if summary.failures or summary.stopped or incomplete else 0)


def fail(text: str) -> None:
    """Say what is wrong, in red."""
    errors.print(f"error: {said(text)}", style="red", markup=False, soft_wrap=True)


def too_many_unfitted(summary: "RunSummary", most: float) -> bool:
    """Whether more than the share ``most`` of the tiles got no stain fit at all; says so if it is.

    Of a run that did not come to its end, the tiles so far tell nothing.
    """
    if summary.interrupted or summary.stopped:
        return False
    statuses = summary.stain()
    share = statuses["unfitted"] / max(1, statuses.total())
    if share <= most:
        return False
    fail(
        f"{share:.0%} of the tiles have no stain fit and were left as they are, more than "
        f"--max-unfitted {most:g}; is this H&E? See {command('pathprep report', summary.url or summary.root)}"
    )
    return True

"""`pathprep shard`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.command_file import save_command
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.launch import Launch
from pathprep.cli.options import (
    RUNNING,
    MaxUnfitted,
    MinFree,
    OutDataset,
    Pseudonymise,
    Rebuild,
    SlideTimeout,
    Target,
    Workers,
    end,
    too_many_unfitted,
)
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S
from pathprep.params.shard import ShardParams

GOES_IN = "What goes in"


@with_settings(ShardParams, several=("mpp",), stain="")
@with_settings(Launch, into="launch")
def shard(
    *,
    context: typer.Context,
    slides: Annotated[
        list[Path], typer.Argument(help="Slides, folders, or CSVs (columns slide, mpp, mask, mask_origin).")
    ],
    out: OutDataset = "dataset",
    settings: dict[str, Any],
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count tiles, by reason, and foresee the size; write nothing.")
    ] = False,
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
            help="What masks count from on slides with bounds (MRXS, SCN, VMS, BIF): bounds as QuPath does, "
            "slide as OpenSlide does; auto: what they or their shape say.",
            rich_help_panel=GOES_IN,
        ),
    ] = "auto",
    region: Annotated[
        int | None,
        typer.Option(
            help="Keep whole regions of so many pixels at --mpp: all tiles of those with --min-tissue.",
            rich_help_panel="Tiles",
        ),
    ] = None,
    target: Target = None,
    max_unfitted: MaxUnfitted = 0.25,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Make tiles on so many NVIDIA GPUs. Their JPEGs have other bytes: a dataset is made with "
            "GPUs or without.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    rebuild: Rebuild = False,
    slide_timeout: SlideTimeout = SLIDE_TIMEOUT_S,
    min_free: MinFree = MIN_FREE_GB,
    forecast: Annotated[
        bool,
        typer.Option(
            help="Look at some slides first, and refuse a run that the disk cannot hold.",
            rich_help_panel=RUNNING,
        ),
    ] = True,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Local folder for slides in work, if --out is a URL; default: a temporary one.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    pseudonymise: Pseudonymise = None,
    launch: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Cut slides into tissue tiles, normalise their stain, write WebDataset shards.

    Run again to go on: finished slides are skipped, failed ones are tried again.
    Exit code 0: all slides are done; 1: at least one failed; 2: wrong usage; 130, 143: interrupted.
    """
    launching = Launch(**launch)
    launching.check(context)
    part, launcher = launching.numbers(), launching.start()
    from pathprep.cli import console
    from pathprep.sharding import shard as front

    chosen = "all" if launching.ray_gpus else _cards(gpus)
    what: dict[str, Any] = {"masks": masks, "mask_origin": mask_origin, "scratch": scratch, **settings}
    what["pseudonymise"] = pseudonymise
    what |= {"rebuild": rebuild, "region": region, "target": target, "gpus": chosen}
    how: dict[str, Any] = {"workers": workers, "launcher": launcher, "part": part}
    how["slide_timeout"] = slide_timeout
    if dry_run:
        if launching.launcher == "slurm":
            raise UsageError("--dry-run looks at the slides here: leave out --launcher slurm")
        with console.progress(errors, "slides looked at") as show:
            seen = front.forecast(
                slides, out, **what, **how, watch=lambda done, of: show(console.Row(done, of))
            )
        give(seen.as_dict(), as_json, out_json, lambda: console.print_forecast(output, seen))
        raise typer.Exit(1 if seen.failures else 0)
    if launching.launcher == "slurm":
        with front.planned(slides, out, **what) as (root, params, plan):
            launching.submit_array(context, root, params.as_dict(), plan)
        return
    with console.watcher(errors) as watch_run:
        summary = front.shard(
            slides, out, **what, **how, min_free=min_free, forecast=forecast, watch=watch_run
        )
    give(summary.as_dict(), as_json, out_json, lambda: console.print_summary(output, summary))
    if part is None and not summary.stopped:  # by a full disk, which would not take it
        save_command(context, out, private=pseudonymise is not None)
    end(summary, rebuild=rebuild, incomplete=too_many_unfitted(summary, max_unfitted))


def _cards(text: str | None) -> int | str | None:
    """How many GPUs, or ``all``; None for none."""
    return int(text) if text is not None and text.isdecimal() else text

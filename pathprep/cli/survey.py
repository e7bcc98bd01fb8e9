"""`pathprep survey`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathprep.cli.command_file import save_command
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.launch import Launch
from pathprep.cli.options import MinFree, Rebuild, SlideTimeout, Workers, end
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S
from pathprep.params.settings import flat
from pathprep.params.shard import GOES_IN, ShardParams

if TYPE_CHECKING:
    from pathprep.surveying.summary import SurveySummary

# What shapes tiles, of which a survey has none
WITHOUT = tuple(
    name
    for name, each in flat(ShardParams).items()
    if each.words.panel not in (GOES_IN, "Tissue") or name == "min_tissue"
)


@with_settings(ShardParams, WITHOUT)
@with_settings(Launch, ("ray_gpus",), into="launch")
def survey(
    *,
    context: typer.Context,
    slides: Annotated[
        list[Path], typer.Argument(help="Slides, folders, or CSVs (columns slide, mpp, mask, mask_origin).")
    ],
    out: Annotated[Path, typer.Option(help="The survey: a folder.")] = Path("survey"),
    settings: dict[str, Any],
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
    launch: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Look at slides once, for training straight from them: tissue, levels and MPP, in a small file a slide.

    `pathtrain pretrain SURVEY` draws tiles from it. Run again to go on: finished slides are skipped, failed
    ones are tried again. Exit code 0: all slides are done; 1: at least one failed; 2: wrong usage; 130, 143:
    interrupted.
    """
    launching = Launch(**launch)
    launching.check(context)
    part, launcher = launching.numbers(), launching.start()
    from pathprep.cli import console
    from pathprep.surveying import survey as front

    what: dict[str, Any] = {"masks": masks, "mask_origin": mask_origin, "rebuild": rebuild, **settings}
    if launching.launcher == "slurm":
        with front.planned(slides, out, **what) as (root, params, _, plan):
            values = front.as_params(params)
            launching.submit_array(context, root, values, lambda: plan(None), info="survey.json")
        return
    with console.progress(errors, "slides") as show:
        summary = front.survey(
            slides,
            out,
            **what,
            workers=workers,
            launcher=launcher,
            part=part,
            slide_timeout=slide_timeout,
            min_free=min_free,
            watch=lambda _board, seen, tasks: show(_row(seen, tasks)),
        )
    give(summary.as_dict(), as_json, out_json, lambda: print_survey(output, summary))
    if part is None and not summary.stopped:
        save_command(context, out)
    end(summary, rebuild=rebuild)


def _row(summary: "SurveySummary", tasks: int) -> Any:
    from pathprep.cli.console import Row

    failed = len(summary.failures)
    return Row(len(summary.made) + failed, tasks, f"{failed} failed" if failed else "")


def print_survey(console: Console, summary: "SurveySummary") -> None:
    """The closing table, and one of the slides that failed."""
    from pathprep.cli.console import print_failures
    from pathprep.cli.not_taken import print_not_taken
    from pathprep.cli.unlike import print_unlike

    facts = summary.as_dict()
    done = f"{facts['done']} surveyed"
    if facts["already_done"]:
        done += f", {facts['already_done']} already there"
    if summary.failures:
        done += f", [red]{len(summary.failures)} failed[/red]"
    table = Table(title=escape(f"Survey {summary.root}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Slides", done)
    for name, value in account_rows(facts["account"]):
        table.add_row(name, escape(value))
    table.add_row("Time", f"{facts['seconds']:.1f} s")
    table.add_row("Build id", summary.build_id)
    console.print(table)
    print_not_taken(console, summary.not_taken, summary.repeats)
    print_unlike(console, summary.unlike())
    if summary.others:
        shown = ", ".join(summary.others[:5]) + (", ..." if len(summary.others) > 5 else "")
        console.print(
            f"{len(summary.others)} more in the survey, which this run was not about: {escape(shown)}",
            soft_wrap=True,
        )
    if summary.failures:
        print_failures(console, "Failed (in failed/, tried again by the next run)", summary.failures)


def account_rows(account: dict[str, Any]) -> list[tuple[str, str]]:
    """What a survey comes to (surveys.account), for people."""
    mpps = ", ".join(f"{count:,} at {mpp}" for mpp, count in account["mpps"].items())
    sources = ", ".join(f"{count:,} by {source}" for source, count in account["mpp_sources"].items())
    rows = [
        ("Tissue", f"{account['tissue_cm2']:,.3g} cm2"),
        ("MPP", sources or "-"),
        ("Can give", f"{mpps} MPP (tiles of 256 px)"),
    ]
    if account["empty"]:
        rows.append(("No tissue", f"{len(account['empty']):,}: {', '.join(account['empty'][:5])}"))
    return rows

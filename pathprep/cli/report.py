"""Commands on a dataset folder: `pathprep verify`, `pathprep repair`, `pathprep report`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pathprep.cli.options import Json, errors, output


def verify(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    as_json: Json = False,
) -> None:
    """Check every byte of a dataset, or of mixed shards: sizes, hashes, CRC of each tile, index against tar.

    Exit code 0: all is well; 1: something is damaged, and each bad tile is named.
    """
    from pathprep.folders import kind_of
    from pathprep.folders import verify as verify_dataset

    bad, checked, slides, fixable = [], 0, 0, 0
    for found in verify_dataset(dataset):
        checked += found.checked
        slides += found.slide != "(folder)"
        if not found.problems and not found.tiles:
            continue
        bad.append({"slide": found.slide, "problems": found.problems, "tiles": found.tiles})
        fixable += found.slide != "(folder)" and not found.lost
        if not as_json:
            for line in (*found.problems, *found.tiles):
                output.print(f"[red]{found.slide}[/red]  {escape(line)}", soft_wrap=True)
    if as_json:
        print(json.dumps({"slides": slides, "tiles_checked": checked, "bad": bad}, indent=1))
    elif fixable:
        again = {
            "mixed": f"pathprep mix DATASET... --out {dataset}",
            "tiles": f"pathprep import-tiles SOURCE --out {dataset}",
            "slides": f"pathprep repair {dataset}",
        }[kind_of(dataset)]
        output.print(f"{fixable} damaged; make them again: `{again}`", markup=False, soft_wrap=True)
    elif not bad:
        unit = "slides" if kind_of(dataset) == "slides" else "shards"
        output.print(f"{slides} {unit}, {checked:,} tiles: all as written")
    raise typer.Exit(1 if bad else 0)


def repair(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Slides at a time; default: one per core, or 4 per GPU.")
    ] = None,
    slide_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which a slide is given up.")
    ] = 7200.0,
    as_json: Json = False,
) -> None:
    """Verify a dataset, and make its damaged slides again from their slide files.

    Exit code 0: all is well now; 1: a slide could not be made again, or foreign files are in the folder.
    """
    from pathprep.launchers import server

    server.start()
    from pathprep.cli.console import print_summary, watcher
    from pathprep.sharding.repair import repair as repair_dataset

    with watcher(errors) as watch:
        done = repair_dataset(dataset, workers=workers, timeout=slide_timeout, watch=watch)
    made = done.summary
    if as_json:
        damaged = [{"slide": f.slide, "problems": f.problems, "tiles": f.tiles} for f in done.damaged]
        facts = made.as_dict() if made else None
        print(json.dumps({"damaged": damaged, "foreign": done.folder.problems, "run": facts}, indent=1))
    else:
        for found in done.damaged:
            lines = len(found.problems) + len(found.tiles)
            first = (*found.problems, *found.tiles)[0]
            more = f" (and {lines - 1} more)" if lines > 1 else ""
            output.print(f"[red]{found.slide}[/red]  {escape(first)}{more}", soft_wrap=True)
        for line in done.folder.problems:
            output.print(f"[yellow]left alone[/yellow]  {escape(line)}", soft_wrap=True)
        if made:
            print_summary(output, made)
        elif not done.damaged:
            output.print("No slide is damaged")
    if made and made.interrupted:
        raise typer.Exit(130)
    if made and made.stopped:
        errors.print(f"error: {made.stopped}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    lost = any(found.lost for found in done.damaged)
    raise typer.Exit(1 if lost or done.folder.problems or (made and made.failures) else 0)


def report(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    out: Annotated[Path | None, typer.Option(help="Default: report.html in the dataset.")] = None,
) -> None:
    """Write one self-contained HTML page about a dataset."""
    from pathprep.reports.page import report as write_report

    path = write_report(dataset, out or dataset / "report.html")
    output.print(f"Report: {path}", soft_wrap=True, markup=False)

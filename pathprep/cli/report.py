"""Commands on a dataset folder: `pathprep verify`, `pathprep repair`, `pathprep report`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.options import Dataset, KeyFile, SlideTimeout, Workers, end
from pathprep.cli.streams import errors, output
from pathprep.params.running import SLIDE_TIMEOUT_S
from pathprep.words import command, counted


def verify(dataset: Dataset = "dataset", as_json: Json = False, out_json: OutJson = None) -> None:
    """Check every byte of a dataset, or of mixed shards: sizes, hashes, CRC of each tile, index against tar.

    Of a survey: its files, and whether the slides are as they were surveyed; and what they can give.

    Exit code 0: all is well; 1: something is damaged, and each bad tile is named.
    """
    from pathprep.dataset.remaking import made_again
    from pathprep.folders import is_pseudonymised, kind_of
    from pathprep.folders import verify as verify_dataset
    from pathprep.storage.base import is_url
    from pathprep.storage.place import storage_at

    bad, notes, checked, slides, fixable = list[dict[str, Any]](), list[str](), 0, 0, 0
    for found in verify_dataset(dataset):
        checked += found.checked
        slides += found.slide != "(folder)"
        notes += found.notes
        if not found.problems and not found.tiles:
            continue
        bad.append(found.as_dict())
        fixable += found.slide != "(folder)" and not (found.lost or found.closed)
        if not as_json:
            for line in (*found.problems, *found.tiles):
                output.print(f"[red]{escape(found.slide)}[/red]  {escape(line)}", soft_wrap=True)

    def show() -> None:
        for line in notes:
            output.print(f"[yellow]note[/yellow]  {escape(line)}", soft_wrap=True)
        kind = kind_of(dataset)
        if kind == "survey":
            _show_survey(dataset, not bad)
            return
        secret = kind != "mixed" and is_pseudonymised(dataset)
        if fixable:
            repaired = kind == "slides" and not is_url(dataset)
            key = ("--pseudonymise", "KEYFILE") if secret else ()
            again = command("pathprep repair", dataset, *key)
            again = again if repaired else made_again(storage_at(dataset), kind, secret=secret, rebuild=True)
            output.print(f"{fixable} damaged; {again} makes them again", markup=False, soft_wrap=True)
        elif not bad:
            unit = "slide" if kind == "slides" else "shard"
            output.print(f"{counted(slides, unit)}, {counted(checked, 'tile')}: all as written")

    give({"slides": slides, "tiles_checked": checked, "bad": bad, "notes": notes}, as_json, out_json, show)
    raise typer.Exit(1 if bad else 0)


def _show_survey(root: str, whole: bool) -> None:
    from pathprep.cli.survey import account_rows
    from pathprep.surveys.account import account
    from pathprep.surveys.folder import Survey

    if whole:
        found = account(Survey(root).slides.values())
        failed = len(list((Path(root) / "failed").glob("*.json")))
        more = f"; {failed} more could not be surveyed (failed/ says why)" if failed else ""
        output.print(f"{counted(found['slides'])}: all as surveyed{more}")
        for name, value in account_rows(found):
            output.print(f"{name}: {value}", markup=False, soft_wrap=True)


def repair(
    dataset: Dataset = "dataset",
    workers: Workers = None,
    slide_timeout: SlideTimeout = SLIDE_TIMEOUT_S,
    pseudonymise: KeyFile = None,
    tissue_model: Annotated[
        Path | None,
        typer.Option(metavar="FILE.onnx", help="The model that found the tissue, if one did."),
    ] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Verify a dataset, and make its damaged slides again from their slide files.

    Exit code 0: all is well now; 1: a slide could not be made again, or files of no slide are in the folder.
    """
    from pathprep.launchers import server

    server.start()
    from pathprep.cli.console import print_summary, watcher
    from pathprep.sharding.repair import repair as repair_dataset

    with watcher(errors) as watch:
        done = repair_dataset(
            dataset,
            workers=workers,
            slide_timeout=slide_timeout,
            pseudonymise=pseudonymise,
            tissue_model=tissue_model,
            watch=watch,
        )
    made = done.summary

    def show() -> None:
        for found in done.damaged:
            lines = len(found.problems) + len(found.tiles)
            colour, left = ("yellow", "; left as it is") if found.closed else ("red", "")
            first = (*found.problems, *found.tiles)[0]
            more = f" (and {lines - 1} more)" if lines > 1 else ""
            name = f"[{colour}]{escape(found.slide)}[/{colour}]"
            output.print(f"{name}  {escape(first)}{more}{left}", soft_wrap=True)
        for line in done.folder.problems:
            output.print(f"[yellow]left alone[/yellow]  {escape(line)}", soft_wrap=True)
        if done.moved:
            output.print(
                f"{counted(len(done.moved))} no longer where the dataset says; if you moved "
                f"{'it' if len(done.moved) == 1 else 'them'}: {escape(done.elsewhere)}",
                soft_wrap=True,
            )
        if made:
            print_summary(output, made)
        elif not done.damaged:
            output.print("No slide is damaged")

    give(done.as_dict(), as_json, out_json, show)
    wrong = any(found.lost or found.closed for found in done.damaged) or bool(done.folder.problems)
    if made:
        end(made, incomplete=wrong)
    raise typer.Exit(1 if wrong else 0)


def report(
    dataset: Dataset = "dataset",
    out: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="Default: report.html in the dataset.")
    ] = None,
    pseudonymise: KeyFile = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write one self-contained HTML page about a dataset."""
    from pathprep.reports.page import report as write_report

    path = write_report(dataset, out, pseudonymise=pseudonymise)

    def show() -> None:
        output.print(f"Report: {path}", soft_wrap=True, markup=False)

    give({"report": str(path)}, as_json, out_json, show)

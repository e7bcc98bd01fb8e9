"""Commands on a dataset folder: `pathprep verify`, `pathprep report`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pathprep.cli.options import Json, output


def verify(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    as_json: Json = False,
) -> None:
    """Check every byte of a dataset, or of mixed shards: sizes, hashes, CRC of each tile, index against tar.

    Exit code 0: all is well; 1: something is damaged, and each bad tile is named.
    """
    from pathprep.verify import is_mixed
    from pathprep.verify import verify as verify_dataset

    bad, checked, slides = [], 0, 0
    for found in verify_dataset(dataset):
        checked += found.checked
        slides += found.slide != "(folder)"
        if not found.problems and not found.tiles:
            continue
        bad.append({"slide": found.slide, "problems": found.problems, "tiles": found.tiles})
        if not as_json:
            for line in (*found.problems, *found.tiles):
                output.print(f"[red]{found.slide}[/red]  {escape(line)}", soft_wrap=True)
    if as_json:
        print(json.dumps({"slides": slides, "tiles_checked": checked, "bad": bad}, indent=1))
    elif bad:
        again = f"pathprep shard SLIDE --out {dataset} --rebuild"
        if is_mixed(dataset):
            again = f"pathprep mix DATASET... --out {dataset}"
        output.print(f"{len(bad)} damaged; make them again: `{again}`", markup=False, soft_wrap=True)
    else:
        unit = "shards" if is_mixed(dataset) else "slides"
        output.print(f"{slides} {unit}, {checked:,} tiles: all as written")
    raise typer.Exit(1 if bad else 0)


def report(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    out: Annotated[Path | None, typer.Option(help="Default: report.html in the dataset.")] = None,
) -> None:
    """Write one self-contained HTML page about a dataset."""
    from pathprep.report import report as write_report

    path = write_report(dataset, out or dataset / "report.html")
    output.print(f"Report: {path}", soft_wrap=True, markup=False)

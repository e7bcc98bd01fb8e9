"""`pathprep import-tiles`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pathprep.cli.options import (
    Json,
    Keep,
    MaxUnfitted,
    Stain,
    StainBeta,
    StainKeep,
    StainOption,
    Subsampling,
    TargetOption,
    errors,
    load_target,
    output,
    too_many_unfitted,
)
from pathprep.errors import UsageError

if TYPE_CHECKING:
    from pathprep.sharding.summary import RunSummary

STAIN_WORDS = {"slide_fit": "pooled fit of the group or shard"}
SHOWN = 10  # damaged images that are printed; failed/ names all


class Format(StrEnum):
    """How the set is laid out."""

    hdf5 = "hdf5"
    folders = "folders"
    csv = "csv"


def import_tiles(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of a tile set: PCam's HDF5, a folder per class, or images and a CSV."),
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder.")] = Path("dataset"),
    format: Annotated[Format | None, typer.Option(help="Default: what the folder looks like.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of labels; default: labels.csv or annotations.csv in SOURCE.")
    ] = None,
    file_column: Annotated[
        str | None, typer.Option(help="Of the CSV; default: file, Image Name, ...")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Default: label, Majority Vote Label, class.")
    ] = None,
    group_column: Annotated[str | None, typer.Option(help="Default: group, wsi, slide, patient.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Default: split, Partition.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this partition, such as train.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the set, in shard names; default: SOURCE's.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of the tiles, if known.")] = None,
    tiles_per_shard: Annotated[int, typer.Option(help="At most so many tiles in a tar.")] = 10_000,
    stain: StainOption = Stain.none,
    target: TargetOption = None,
    stain_keep: StainKeep = Keep.all,
    stain_beta: StainBeta = 0.15,
    quality: Annotated[int, typer.Option(help="Of JPEGs that are encoded.")] = 95,
    subsampling: Annotated[
        Subsampling, typer.Option(help="444 keeps the colour resolution.")
    ] = Subsampling.full,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Shards at a time; default: one per core.")
    ] = None,
    max_unfitted: MaxUnfitted = 0.25,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make finished shards again, also with other parameters.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a dataset, as `shard` writes it, of a labelled tile set; labels and groups go into the index.

    Plain JPEGs keep their bytes, unless --stain bake changes their pixels. Run again to go on: finished
    shards are skipped if their images are unchanged.
    Exit code 0: every image is in; 1: some were left out; 2: wrong usage; 130: interrupted.
    """
    from pathprep.launchers import server

    server.start()
    from pathprep.cli.console import watcher
    from pathprep.params.stain import StainParams
    from pathprep.params.tile_set import TileParams
    from pathprep.storage.tables import Columns
    from pathprep.tilesets import find, run

    if target is not None and stain != Stain.bake:
        raise UsageError(f"--target {target}: only --stain bake normalises; give both or neither")
    params = TileParams(
        stain=StainParams(stain.value, stain_keep.value, beta=stain_beta, target=load_target(target)),
        quality=quality,
        subsampling=subsampling.value,
        tiles_per_shard=tiles_per_shard,
        mpp=mpp,
    )
    found = find.find(
        source,
        format=format.value if format else None,
        labels=labels,
        columns=Columns(file_column, label_column, group_column, split_column),
        split=split,
    )
    errors.print(
        f"{len(found.items):,} images ({found.format}; labels: {found.labels}) -> {out}",
        markup=False,
        soft_wrap=True,
    )
    for note in found.notes:
        errors.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    with watcher(errors, "shards") as watch:
        summary = run.import_tiles(
            found, out, params, name=name, workers=workers, rebuild=rebuild, watch=watch
        )
    if as_json:
        facts = summary.as_dict()
        facts["shards"] = facts.pop("slides")
        facts["labels"] = dict(run.labels(summary))
        facts["damaged"] = [vars(image) for image in run.damaged(summary)]
        facts["notes"] = found.notes
        print(json.dumps(facts, indent=1))
    else:
        _print(summary)
    if summary.interrupted:
        without = " without --rebuild" if rebuild else ""
        errors.print(f"Interrupted; the same command{without} goes on from here.")
        raise typer.Exit(130)
    unfitted = too_many_unfitted(summary, max_unfitted)
    raise typer.Exit(1 if summary.failures or run.damaged(summary) or unfitted else 0)


def _print(summary: "RunSummary") -> None:
    from rich.table import Table

    from pathprep.tilesets import run

    facts, bad = summary.as_dict(), run.damaged(summary)
    table = Table(title=escape(f"Dataset {summary.root}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    done = f"{facts['done']} made"
    if facts["already_done"]:
        done += f", {facts['already_done']} already there"
    if summary.failures:
        done += f", [red]{len(summary.failures)} failed[/red]"
    table.add_row("Shards", done)
    table.add_row("Tiles", f"{facts['tiles']:,} ({facts['tiles_made']:,} made now)")
    if bad:
        table.add_row("Left out", f"[red]{len(bad):,} damaged or missing images[/red]")
    counted = sorted(run.labels(summary).items())
    table.add_row("Labels", escape(", ".join(f"{label or '(none)'} {count:,}" for label, count in counted)))
    if set(facts["stain"]) - {"none"}:
        table.add_row("Stain", ", ".join(f"{STAIN_WORDS.get(k, k)} {v:,}" for k, v in facts["stain"].items()))
    table.add_row("Time", f"{facts['seconds']:.1f} s, {facts['tiles_per_second']:,.0f} tiles/s")
    table.add_row("Build id", summary.build_id)
    output.print(table)
    for each in bad[:SHOWN]:
        output.print(f"[red]left out[/red]  {escape(f'{each.image}: {each.error}')}", soft_wrap=True)
    if len(bad) > SHOWN:
        output.print(
            f"and {len(bad) - SHOWN:,} more; {escape(str(summary.root))}/failed names all", soft_wrap=True
        )
    for name, entry in sorted(summary.failures.items()):
        output.print(f"[red]failed[/red]  {name}: {escape(entry.error)}", soft_wrap=True)
    if summary.stale:
        output.print(
            f"[yellow]{len(summary.stale)} shards here were made with other parameters[/yellow]: no part of "
            f"the dataset until they are made again: {', '.join(summary.stale[:5])}",
            soft_wrap=True,
        )

"""`pathprep mix`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pathprep.cli.options import Json, errors, output


def mix(
    datasets: Annotated[list[Path], typer.Argument(help="Dataset folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the mixed shards.")],
    tiles_per_shard: Annotated[
        int, typer.Option(min=1, help="At most so many tiles in a tar; tars differ by one at most.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Same datasets and seed, same bytes.")] = 0,
    memory: Annotated[
        float, typer.Option(help="GB of tars held at a time; more means fewer passes over the datasets.")
    ] = 4.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: one per core.")] = None,
    as_json: Json = False,
) -> None:
    """Mix all tiles of datasets into evenly sized WebDataset shards, to stream from S3 or HTTP.

    Run again to go on: finished shards are checked and kept.
    Exit code 0: all is written; 1: something failed; 2: wrong usage; 130: interrupted.
    """
    from pathprep.cli.console_mix import print_summary, watcher
    from pathprep.mixed.make import mix as mix_datasets

    with watcher(errors) as watch:
        summary = mix_datasets(
            datasets,
            out,
            tiles_per_shard=tiles_per_shard,
            seed=seed,
            memory=memory,
            workers=workers,
            watch=watch,
        )
    if as_json:
        print(json.dumps(summary.as_dict(), indent=1))
    else:
        print_summary(output, summary)
    if summary.renamed:
        errors.print(
            f"{summary.renamed} slides share their name with others, or it is long: their keys have another "
            f"(column slide in {escape(str(out))}/index has theirs)",
            soft_wrap=True,
        )
    if summary.interrupted:
        errors.print("Interrupted; the same command goes on from here.")
        raise typer.Exit(130)

"""`pathprep mix`."""

from pathlib import Path
from typing import Annotated

import typer

from pathprep.cli.command_file import save_command
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.options import Datasets
from pathprep.cli.streams import errors, output
from pathprep.params.running import MIX_MEMORY_GB, TILES_PER_SHARD
from pathprep.words import counted


def mix(
    context: typer.Context,
    datasets: Datasets,
    out: Annotated[Path, typer.Option(help="Folder for the mixed shards.")] = Path("mixed"),
    tiles_per_shard: Annotated[
        int, typer.Option(help="At most so many tiles in a tar; tars differ by one at most.")
    ] = TILES_PER_SHARD,
    seed: Annotated[int, typer.Option(help="Same datasets and seed, same bytes.")] = 0,
    memory: Annotated[
        float, typer.Option(help="GB of tars held at a time; more means fewer passes over the datasets.")
    ] = MIX_MEMORY_GB,
    workers: Annotated[int | None, typer.Option(help="Threads; default: one per core.")] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Mix all tiles of datasets into evenly sized WebDataset shards, to stream from S3 or HTTP.

    Run again to go on: finished shards are checked and kept.
    Exit code 0: all is written; 1: something failed; 2: wrong usage; 130: interrupted.
    """
    from pathprep.cli.console import mix_watcher, print_mix
    from pathprep.folders import is_pseudonymised
    from pathprep.mixed.make import mix as mix_datasets

    with mix_watcher(errors) as watch:
        summary = mix_datasets(
            datasets,
            out,
            tiles_per_shard=tiles_per_shard,
            seed=seed,
            memory=memory,
            workers=workers,
            watch=watch,
        )
    give(summary.as_dict(), as_json, out_json, lambda: print_mix(output, summary))
    save_command(context, out, private=all(map(is_pseudonymised, datasets)))
    if summary.renamed:
        errors.print(
            f"{counted(summary.renamed)} whose name others have too, or is long: their keys have another "
            f"(column slide in {out}/index has theirs)",
            markup=False,
            soft_wrap=True,
        )
    if summary.interrupted:
        errors.print("Interrupted; the same command goes on from here.")
        raise typer.Exit(130)

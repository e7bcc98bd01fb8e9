"""`pathtrain embed`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.command_file import is_given
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathtrain.cli.options import Model
from pathtrain.params.encoding import Format, How, Level


@with_settings(How)
def embed(
    context: typer.Context,
    model: Model,
    source: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset, or a folder of images with a labels.csv.")
    ],
    settings: dict[str, Any],
    out: Annotated[Path, typer.Option(help="Folder for one file per slide.")] = Path("features"),
    format: Annotated[Format, typer.Option(help="hdf5, as CLAM and TRIDENT read it, or parquet.")] = "hdf5",
    level: Annotated[
        Level, typer.Option(help="tile; of runs with three stages also region or slide.")
    ] = "tile",
    seed: Annotated[int, typer.Option(min=0, help="Of random weights.")] = 1,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write the features of every tile: HDF5 as CLAM and TRIDENT read it, or Parquet.

    Run again, it goes on where it stopped, and tries slides again that failed. On 8 GPUs:
    torchrun --nproc-per-node 8 -m pathtrain embed ...

    Exit code 1: a slide failed (a damaged tile), or an image of a folder; the others are done.
    """
    from pathtrain.features.embed import embed as run

    given = {name: value for name, value in settings.items() if is_given(context, name)}
    done = run(model, source, out, format=format, level=level, seed=seed, **given)
    if done.place.rank == 0:  # for all processes
        text = f"{out}: {done}"
        result = {"out": str(out), **done.as_dict()}
        give(result, as_json, out_json, lambda: output.print(text, soft_wrap=True, markup=False))
        if done.failed:
            errors.print(
                f"failed (in {out / 'failed'}, tried again by the next run):", soft_wrap=True, markup=False
            )
        for name, reason in done.failed.items():
            errors.print(f"  {name}: {reason}", soft_wrap=True, markup=False)
    done.place.leave()
    if done.failed:
        raise typer.Exit(1)

"""`pathtrain embed`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.command_file import is_given
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.launch import Launch
from pathprep.cli.messages import said
from pathprep.cli.options import fail, place
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors, output
from pathprep.params.origin import AskedOrigin
from pathprep.params.shard import Mode, ShardParams
from pathtrain.cli.options import Model
from pathtrain.params.encoding import Dtype, Format, How, Level
from pathtrain.params.from_slides import NOT_TAKEN, SCRATCH_LIMIT_GB, SLIDE_TIMEOUT_S

GOES_IN = "What goes in"
# Of these the model has a say, or another option has the name
_OWN = (*NOT_TAKEN, "tile", "mpp", "mode", "stain")


@with_settings(How)
@with_settings(ShardParams, without=_OWN, into="tiles")
def embed(
    *,
    context: typer.Context,
    model: Model,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            parser=place,
            help="A dataset; a folder of images with a labels.csv; or slides: files, folders, their URLs, "
            "CSVs (columns slide, mpp, mask, mask_origin).",
        ),
    ],
    settings: dict[str, Any],
    out: Annotated[Path, typer.Option(help="Folder for one file per slide.")] = Path("features"),
    format: Annotated[
        Format,
        typer.Option(help="hdf5, as CLAM and TRIDENT read it; parquet; anndata: .h5ad; zarr: AnnData's."),
    ] = "hdf5",
    dtype: Annotated[
        Dtype, typer.Option(help="Of the features in the files; bfloat16 in hdf5 only.")
    ] = "float32",
    level: Annotated[
        Level, typer.Option(help="tile; of runs with three stages also region or slide.")
    ] = "tile",
    seed: Annotated[int, typer.Option(min=0, help="Of random weights.")] = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove features of another model that --out holds.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile, in pixels at --mpp. Default: the model's.", rich_help_panel="Tiles"
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            help="Micrometres per pixel of the tiles. Default: what the model was trained at, or 0.5.",
            rich_help_panel="Tiles",
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="native: level-0 pixels, which are then resized for the model; resize: reduced to --tile as "
            "they are read, from a coarser level if there is one.",
            rich_help_panel="Tiles",
        ),
    ] = "native",
    stain: Annotated[
        str | None,
        typer.Option(
            metavar="bake|fit|none",
            help="bake: normalise tiles. Default: as the model was trained.",
            rich_help_panel="Stain",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Your own masks: a folder of <slide>.geojson, .png or .tif, or one file.",
            rich_help_panel=GOES_IN,
        ),
    ] = None,
    mask_origin: Annotated[
        AskedOrigin,
        typer.Option(help="What masks count from on slides with bounds.", rich_help_panel=GOES_IN),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Slides at a time. Default: one per core, 2 at least.", rich_help_panel="Running"),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Only part K (1 to N) of the slides, chosen by a hash of their names: for array jobs.",
            rich_help_panel="Running",
        ),
    ] = None,
    slide_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds without a tile, though there is room for some, after which a slide is given up.",
            rich_help_panel="Running",
        ),
    ] = SLIDE_TIMEOUT_S,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Local folder that slides at URLs are fetched to, ahead; default: a temporary one.",
            rich_help_panel="Running",
        ),
    ] = None,
    scratch_limit: Annotated[
        float, typer.Option(help="Gigabytes of slides that may lie in --scratch.", rich_help_panel="Running")
    ] = SCRATCH_LIMIT_GB,
    tile_seed: Annotated[
        int, typer.Option(help="Which tiles, if --max-tiles leaves some out.", rich_help_panel="Tiles")
    ] = 0,
    tiles: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write the features of every tile of slides, a dataset or images: HDF5, Parquet or AnnData.

    Slides are read as `pathprep shard` reads them, by processes of their own, and their tiles go to the model
    without touching the disk. Run again, it goes on where it stopped, and tries slides again that failed. On
    8 GPUs: torchrun --nproc-per-node 8 -m pathtrain embed ...

    Exit code 1: a slide failed, or an image of a folder; the others are done.
    """
    from pathprep.cli.console import print_mask_notes
    from pathprep.cli.not_taken import print_not_taken
    from pathprep.cli.unlike import print_unlike
    from pathtrain.features.embed import embed as run
    from pathtrain.features.slides_account import SlidesSummary

    slides = {
        "tile": tile, "mpp": mpp, "mode": mode, "stain": stain, "masks": masks, "mask_origin": mask_origin,
        "workers": workers, "slide_timeout": slide_timeout, "tile_seed": tile_seed,
        "scratch": scratch, "scratch_limit": scratch_limit,
    }  # fmt: skip
    given = {
        name: value for name, value in {**settings, **tiles, **slides}.items() if is_given(context, name)
    }
    if part is not None:
        given["part"] = Launch(part=part).numbers()
    try:
        done = run(
            model,
            source,
            out,
            format=format,
            dtype=dtype,
            level=level,
            seed=seed,
            replace=replace,
            **given,
        )
    except KeyboardInterrupt:
        errors.print("Interrupted; the same command goes on from here.")
        raise
    if done.place.rank == 0:  # for all processes
        text = f"{out}: {done}"
        result = {"out": str(out), **done.as_dict()}
        give(result, as_json, out_json, lambda: output.print(text, soft_wrap=True, markup=False))
        if isinstance(done, SlidesSummary):
            print_not_taken(errors, done.not_taken, done.repeats)
            print_unlike(errors, done.unlike())
            print_mask_notes(errors, done.mask_notes)
        if done.failed:
            errors.print(
                f"failed (in {out / 'failed'}, tried again by the next run):", soft_wrap=True, markup=False
            )
        for name, reason in done.failed.items():
            errors.print(f"  {name}: {said(reason)}", soft_wrap=True, markup=False)
        if done.stopped:
            fail(done.stopped)
    done.place.leave()
    if done.failed or done.stopped:
        raise typer.Exit(1)

"""`pathprep shard`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pathprep.cli import launch
from pathprep.cli.options import (
    DefaultMpp,
    HighMpp,
    Json,
    Keep,
    LowMpp,
    MaxUnfitted,
    MinTissue,
    NativeOption,
    ReaderChoice,
    ReaderOption,
    Stain,
    StainBeta,
    StainKeep,
    StainOption,
    Subsampling,
    TargetOption,
    TileOption,
    errors,
    load_target,
    output,
    too_many_unfitted,
)
from pathprep.errors import UsageError

if TYPE_CHECKING:
    from pathprep.launchers.base import Launcher
    from pathprep.params.shard import ShardParams
    from pathprep.sharding.plan import Plan


class TissueMethod(StrEnum):
    """How tissue is told from glass."""

    threshold = "threshold"
    otsu = "otsu"


def shard(
    context: typer.Context,
    slides: Annotated[
        list[Path], typer.Argument(help="Slides, folders, or CSVs (columns slide, mpp, mask).")
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|URL", help="The dataset: a folder, or a URL such as s3://bucket/folder."
        ),
    ] = "dataset",
    scratch: Annotated[
        Path | None,
        typer.Option(help="Local folder for slides in work, if --out is a URL; default: a temporary one."),
    ] = None,
    tile: TileOption = 256,
    mpp: Annotated[
        str,
        typer.Option(
            metavar="FLOAT[,FLOAT...]",
            help="Micrometres per pixel of the tiles; several (2,1,0.5,0.25) shard each slide at each.",
        ),
    ] = "0.5",
    native: NativeOption = True,
    overlap: Annotated[int, typer.Option(help="Overlap of neighbouring tiles, in pixels at --mpp.")] = 0,
    min_tissue: MinTissue = 0.4,
    min_focus: Annotated[
        float | None,
        typer.Option(
            help="Drop tiles less sharp: variance of the Laplacian, grey levels squared. It differs between "
            "scanners; choose it in the report."
        ),
    ] = None,
    max_pen: Annotated[
        float | None, typer.Option(help="Drop tiles with a larger share of pen marks, such as 0.1.")
    ] = None,
    max_white: Annotated[
        float | None, typer.Option(help="Drop tiles with a larger share of white, such as 0.8.")
    ] = None,
    min_hsv: Annotated[
        float | None,
        typer.Option(
            help="Drop tiles with a smaller share of H 90-180, S 8-255, V 103-255 (Virchow, Midnight: 0.6)."
        ),
    ] = None,
    region: Annotated[
        int | None,
        typer.Option(
            help="Keep whole regions of so many pixels at --mpp: all tiles of those with --min-tissue."
        ),
    ] = None,
    stain: StainOption = Stain.bake,
    target: TargetOption = None,
    stain_keep: StainKeep = Keep.all,
    stain_beta: StainBeta = 0.15,
    tissue: Annotated[
        TissueMethod, typer.Option(help="Threshold of the saturation.")
    ] = TissueMethod.threshold,
    tissue_threshold: Annotated[int, typer.Option(help="Saturation of tissue, 0 to 255.")] = 8,
    masks: Annotated[
        Path | None, typer.Option(help="Your own masks: a folder of <slide>.geojson or .png, or one file.")
    ] = None,
    default_mpp: DefaultMpp = None,
    low_mpp: LowMpp = 0.05,
    high_mpp: HighMpp = 10.0,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 90,
    subsampling: Annotated[Subsampling, typer.Option(help="JPEG colour resolution.")] = Subsampling.half,
    max_tiles: Annotated[
        int | None,
        typer.Option(help="At most so many tiles a slide, at random, before the quality filters drop some."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --max-tiles.")] = 0,
    reader: ReaderOption = ReaderChoice.auto,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Slides at a time; default: one per core, or 4 per GPU.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Make tiles on so many NVIDIA GPUs. Their JPEGs have other bytes: a dataset is made with "
            "GPUs or without.",
        ),
    ] = None,
    slide_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which a slide is given up.")
    ] = 7200.0,
    cross_check: Annotated[
        bool, typer.Option(help="Fail slides whose tiles differ grossly from their overview: damaged files.")
    ] = True,
    max_unfitted: MaxUnfitted = 0.25,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make finished slides again, also with other parameters.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count tiles, by reason, and foresee the size; write nothing.")
    ] = False,
    min_free: Annotated[
        float, typer.Option(min=0.0, help="Stop in order when the disk has fewer gigabytes free.")
    ] = 2.0,
    forecast: Annotated[
        bool, typer.Option(help="Look at some slides first, and refuse a run that the disk cannot hold.")
    ] = True,
    as_json: Json = False,
    launcher: launch.LauncherOption = launch.LauncherChoice.local,
    part: launch.PartOption = None,
    address: launch.AddressOption = "auto",
    ray_cpus: launch.RayCpusOption = 1.0,
    ray_gpus: launch.RayGpusOption = 0.0,
    array: launch.ArrayOption = None,
    sbatch_args: launch.SbatchOption = "",
    submit: launch.SubmitOption = True,
) -> None:
    """Cut slides into tissue tiles, normalise their stain, write WebDataset shards.

    Run again to go on: finished slides are skipped, failed ones are tried again.
    Exit code 0: all slides are done; 1: at least one failed; 2: wrong usage; 130, 143: interrupted.
    """
    launch.check(context)
    launch.check_place(out, scratch)
    chosen_part = launch.parse_part(part)
    chosen_launcher = None
    if launcher == "local":
        from pathprep.launchers import server

        server.start()
    elif launcher == "ray":
        chosen_launcher = launch.ray_launcher(address, ray_cpus, ray_gpus)
    else:
        from pathprep.launchers import slurm

        slurm.check(array or 0, sbatch_args)
    from pathprep.cli.console import counted, print_summary, watcher
    from pathprep.launchers import local
    from pathprep.params.quality import QcParams
    from pathprep.params.shard import ShardParams
    from pathprep.params.stain import StainParams
    from pathprep.params.tissue import TissueParams
    from pathprep.sharding import run
    from pathprep.sharding.plan import changes, plan
    from pathprep.slides import find as sources

    mpps, cards = _numbers(mpp), _cards(gpus)
    params = ShardParams(
        tile=tile,
        mpp=mpps[0],
        more_mpps=mpps[1:],
        mode="native" if native else "resize",
        overlap=overlap,
        min_tissue=min_tissue,
        region=16 * tile if region is None else region,
        whole_regions=region is not None,
        stain=StainParams(
            stain.value,
            stain_keep.value,
            beta=stain_beta,
            target=load_target(target),
        ),
        tissue=TissueParams(method=tissue.value, threshold=tissue_threshold),
        qc=QcParams(min_focus, max_pen, max_white, min_hsv),
        quality=quality,
        subsampling=subsampling.value,
        max_tiles=max_tiles,
        seed=seed,
        default_mpp=default_mpp,
        low_mpp=low_mpp,
        high_mpp=high_mpp,
        reader=reader.value,
        device="cpu" if gpus is None and not ray_gpus else "cuda",
        cross_check=cross_check,
    )
    found = sources.find(slides, masks)
    if launcher == "local" and server.is_cold():
        errors.print("Compiling kernels, once: about a minute.")
    root, remote = context.with_resource(launch.place(out, scratch, dry=dry_run))
    if dry_run:
        if launcher == "slurm":
            raise UsageError("--dry-run looks at the slides here: leave out --launcher slurm")
        changed = "" if rebuild else changes(root, params)
        if changed:
            errors.print(
                f"note: {out}: holds slides made with other parameters ({changed}); a run needs another "
                "--out, or --rebuild to make them again",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )
        _dry_run(
            plan(found, root, params, rebuild=rebuild, part=chosen_part, dry=True, remote=remote),
            root,
            params,
            chosen_launcher or local.Local(workers),
            slide_timeout,
            as_json,
            remote is None,
        )
        return
    if launcher == "slurm":
        if rebuild:
            launch.check_rebuild(root, params)
        planned = plan(found, root, params, rebuild=rebuild, remote=remote)
        launch.submit_array(context, planned, launch.slurm_folder(out))
        return
    at = f" at {len(mpps)} resolutions" if len(mpps) > 1 else ""
    errors.print(f"{counted(len(found))}{at} -> {out}", markup=False, soft_wrap=True)
    with watcher(errors) as watch:
        summary = run.shard(
            found,
            root,
            params,
            workers=workers,
            gpus=cards,
            launcher=chosen_launcher,
            part=chosen_part,
            timeout=slide_timeout,
            rebuild=rebuild,
            watch=watch,
            min_free=round(min_free * 1e9),
            forecast=forecast,
            remote=remote,
        )
    if as_json:
        print(json.dumps(summary.as_dict(), indent=1))
    else:
        print_summary(output, summary)
    if summary.interrupted:
        without = " without --rebuild" if rebuild else ""
        errors.print(f"Interrupted; the same command{without} goes on from here.")
        raise typer.Exit(130)
    if summary.stopped:
        errors.print(f"error: {summary.stopped}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    unfitted = too_many_unfitted(summary, max_unfitted)
    raise typer.Exit(1 if summary.failures or unfitted else 0)


def _dry_run(
    plan: "Plan[Any]",
    root: Path,
    params: "ShardParams",
    launcher: "Launcher",
    timeout: float,
    as_json: bool,
    on_disk: bool,
) -> None:
    from pathprep.cli.console import counting, print_forecast
    from pathprep.sharding import forecast

    with counting(errors, "slides looked at") as watch:
        found = forecast.look(plan.todo, root, params, launcher, timeout=timeout, watch=watch)
    found.done = len(plan.skipped)
    if not on_disk:
        found.free = None
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_forecast(output, found)
    raise typer.Exit(1 if found.failures else 0)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--mpp {text}: expected a number, or several as in 2,1,0.5") from None


def _cards(text: str | None) -> int | None:
    """How many GPUs; None for all, or for none where there is no ``--gpus``."""
    if text is None or text == "all":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--gpus {text}: expected a number from 1, or all")

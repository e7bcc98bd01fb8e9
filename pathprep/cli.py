"""The command `pathprep`. Modules are imported inside the commands, so that --help is instant."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathprep import __version__
from pathprep.errors import PathprepError, SlideError, StainError, UsageError

app = typer.Typer(
    help="Slides to tissue tiles to Macenko stain normalisation to WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Results go to stdout, everything about the work to stderr, so that --json can be piped
errors = Console(stderr=True, highlight=False)
output = Console(highlight=False)


class Stain(StrEnum):
    """What is stored."""

    bake = "bake"
    fit = "fit"
    none = "none"


class TissueMethod(StrEnum):
    """How tissue is told from glass."""

    threshold = "threshold"
    otsu = "otsu"


class ReaderChoice(StrEnum):
    """Which library reads."""

    auto = "auto"
    cucim = "cucim"
    openslide = "openslide"


class Keep(StrEnum):
    """Which pixels the stain fit uses."""

    all = "all"
    any = "any"


class Subsampling(StrEnum):
    """Colour resolution of the JPEGs."""

    half = "420"
    full = "444"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        output.print(__version__)
        raise typer.Exit


TileOption = Annotated[int, typer.Option(help="Side of a tile, in pixels at --mpp.")]
MppOption = Annotated[float, typer.Option(help="Micrometres per pixel of the tiles.")]
DefaultMpp = Annotated[
    float | None, typer.Option(help="Micrometres per pixel of slides that do not state theirs.")
]
LowMpp = Annotated[float, typer.Option("--min-mpp", help="A slide's MPP below this is an error.")]
HighMpp = Annotated[float, typer.Option("--max-mpp", help="A slide's MPP above this is an error.")]
ReaderOption = Annotated[
    ReaderChoice, typer.Option(help="auto: cuCIM for what it reads well, OpenSlide for the rest.")
]
NativeOption = Annotated[
    bool,
    typer.Option(
        "--native/--resize",
        help="Keep level-0 pixels (512 at 0.25 MPP), or reduce to --tile pixels a side.",
    ),
]
MinTissue = Annotated[
    float,
    typer.Option(help="Keep tiles with at least this share of tissue; one without any is never kept."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def shard(
    slides: Annotated[
        list[Path], typer.Argument(help="Slides, folders, or CSVs (columns slide, mpp, mask).")
    ],
    out: Annotated[Path, typer.Option(help="The dataset folder.")] = Path("dataset"),
    tile: TileOption = 256,
    mpp: MppOption = 0.5,
    native: NativeOption = True,
    overlap: Annotated[int, typer.Option(help="Overlap of neighbouring tiles, in pixels at --mpp.")] = 0,
    min_tissue: MinTissue = 0.4,
    region: Annotated[
        int | None, typer.Option(help="Side of a region, in pixels at --mpp; default: 16 tiles.")
    ] = None,
    stain: Annotated[
        Stain,
        typer.Option(help="bake: store normalised tiles; fit: store the fits beside plain tiles; none."),
    ] = Stain.bake,
    target: Annotated[
        Path | None, typer.Option(help="Stain target (JSON) to normalise to; default: the field's reference.")
    ] = None,
    stain_keep: Annotated[
        Keep, typer.Option(help="Fit on pixels with all (canonical) or any channels above --stain-beta.")
    ] = Keep.all,
    stain_beta: Annotated[float, typer.Option(help="Optical density above which a pixel is stained.")] = 0.15,
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
    max_tiles: Annotated[int | None, typer.Option(help="At most so many tiles a slide, at random.")] = None,
    seed: Annotated[int, typer.Option(help="Of --max-tiles.")] = 0,
    reader: ReaderOption = ReaderChoice.auto,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Slides at a time; default: one per core.")
    ] = None,
    slide_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which a slide is given up.")
    ] = 7200.0,
    max_unfitted: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fail if more of the tiles got no stain fit at all.")
    ] = 0.25,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make finished slides again, also with other parameters.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Cut slides into tissue tiles, normalise their stain, write WebDataset shards.

    Run again to go on: finished slides are skipped, failed ones are tried again.
    Exit code 0: all slides are done; 1: at least one failed; 2: wrong usage; 130: interrupted.
    """
    from pathprep.launchers import server

    server.start()
    from pathprep import run, sources
    from pathprep.params import ShardParams, StainParams
    from pathprep.progress import print_summary, watcher
    from pathprep.stain import Target
    from pathprep.tissue import TissueParams

    try:
        chosen_target = Target.load(target) if target else Target.default()
    except StainError as error:
        raise UsageError(str(error)) from None
    params = ShardParams(
        tile=tile,
        mpp=mpp,
        mode="native" if native else "resize",
        overlap=overlap,
        min_tissue=min_tissue,
        region=16 * tile if region is None else region,
        stain=StainParams(
            stain.value,
            stain_keep.value,
            beta=stain_beta,
            target=chosen_target,
        ),
        tissue=TissueParams(method=tissue.value, threshold=tissue_threshold),
        quality=quality,
        subsampling=subsampling.value,
        max_tiles=max_tiles,
        seed=seed,
        default_mpp=default_mpp,
        low_mpp=low_mpp,
        high_mpp=high_mpp,
        reader=reader.value,
    )
    found = sources.find(slides, masks)
    errors.print(f"{len(found)} slides -> {escape(str(out))}")
    with watcher(errors) as watch:
        summary = run.shard(
            found, out, params, workers=workers, timeout=slide_timeout, rebuild=rebuild, watch=watch
        )
    if as_json:
        print(json.dumps(summary.as_dict(), indent=1))
    else:
        print_summary(output, summary)
    if summary.interrupted:
        without = " without --rebuild" if rebuild else ""
        errors.print(f"Interrupted; the same command{without} goes on from here.")
        raise typer.Exit(130)
    unfitted = summary.totals("stain")["unfitted"] / max(1, summary.totals("stain").total())
    if unfitted > max_unfitted:
        errors.print(
            f"error: {unfitted:.0%} of the tiles have no stain fit and were left as they are, more than "
            f"--max-unfitted {max_unfitted:g}; is this H&E? See `pathprep report {escape(str(out))}`",
            style="red",
        )
    raise typer.Exit(1 if summary.failures or unfitted > max_unfitted else 0)


@app.command()
def inspect(
    slides: Annotated[list[Path], typer.Argument(help="Slides.")],
    tile: TileOption = 256,
    mpp: MppOption = 0.5,
    native: NativeOption = True,
    min_tissue: MinTissue = 0.4,
    default_mpp: DefaultMpp = None,
    low_mpp: LowMpp = 0.05,
    high_mpp: HighMpp = 10.0,
    reader: ReaderOption = ReaderChoice.auto,
    as_json: Json = False,
) -> None:
    """Show what slides are and how many tiles `shard` would make of them."""
    from pathprep.inspect import inspect as inspect_slide
    from pathprep.params import ShardParams

    params = ShardParams(
        tile=tile,
        mpp=mpp,
        mode="native" if native else "resize",
        min_tissue=min_tissue,
        region=tile,
        default_mpp=default_mpp,
        low_mpp=low_mpp,
        high_mpp=high_mpp,
        reader=reader.value,
    )
    facts = []
    unreadable = 0
    for path in slides:
        try:
            facts.append(inspect_slide(path, params))
        except SlideError as error:
            unreadable += 1
            errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(facts[0] if len(slides) == 1 and facts else facts, indent=1))
    else:
        for entry in facts:
            output.print(_facts_table(entry))
    if unreadable or any(entry["problem"] for entry in facts):
        raise typer.Exit(1)


def _facts_table(facts: dict[str, Any]) -> Table:
    table = Table(title=escape(facts["path"]), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Size", f"{facts['width']:,} x {facts['height']:,} px, {facts['bytes'] / 1e6:,.1f} MB")
    table.add_row("Reader", f"{facts['reader']} ({facts['vendor']})")
    levels = ", ".join(f"{v['width']}x{v['height']} (1/{v['downsample']:g})" for v in facts["levels"])
    table.add_row("Levels", levels)
    if facts["problem"]:
        table.add_row("Problem", f"[red]{escape(facts['problem'])}[/red]")
        return table
    table.add_row("MPP", f"{facts['mpp']:g} ({facts['mpp_source']})")
    columns, rows = facts["grid"]
    table.add_row(
        "Tiles", f"{facts['tiles']:,} of {columns} x {rows}, {facts['tile_side']} level-0 px a side"
    )
    table.add_row("Tissue", f"{facts['tissue']:.1%} of the slide")
    return table


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    as_json: Json = False,
) -> None:
    """Check every byte of a dataset: sizes, hashes, CRC of each tile, index against tar.

    Exit code 0: all is well; 1: something is damaged, and each bad tile is named.
    """
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
        output.print(
            f"{len(bad)} damaged; make them again: `pathprep shard SLIDE --out {dataset} --rebuild`",
            markup=False,
            soft_wrap=True,
        )
    else:
        output.print(f"{slides} slides, {checked:,} tiles: all as written")
    raise typer.Exit(1 if bad else 0)


@app.command()
def report(
    dataset: Annotated[Path, typer.Argument(help="The dataset folder.")] = Path("dataset"),
    out: Annotated[Path | None, typer.Option(help="Default: report.html in the dataset.")] = None,
) -> None:
    """Write one self-contained HTML page about a dataset."""
    from pathprep.report import report as write_report

    path = write_report(dataset, out or dataset / "report.html")
    output.print(f"Report: {path}", soft_wrap=True, markup=False)


@app.command()
def target(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE|SLIDE", help="A picture of stained tissue, or a slide.")
    ],
    out: Annotated[Path, typer.Option(help="Where the target goes.")] = Path("target.json"),
    keep: Annotated[
        Keep, typer.Option(help="Fit on pixels with all (canonical) or any channels above --beta.")
    ] = Keep.all,
    alpha: Annotated[float, typer.Option(help="Percent of pixels beyond each stain vector.")] = 1.0,
    beta: Annotated[float, typer.Option(help="Optical density above which a pixel is stained.")] = 0.15,
    io: Annotated[float, typer.Option(help="Transmitted light, grey levels.")] = 240.0,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Of a slide, at most so many tiles at random; default: 200.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --tiles; default: 0.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel of a slide's tiles; default: 0.5.")
    ] = None,
    default_mpp: DefaultMpp = None,
    low_mpp: Annotated[
        float | None, typer.Option("--min-mpp", help="A slide's MPP below this is an error; default: 0.05.")
    ] = None,
    high_mpp: Annotated[
        float | None, typer.Option("--max-mpp", help="A slide's MPP above this is an error; default: 10.")
    ] = None,
    reader: Annotated[
        ReaderChoice | None,
        typer.Option(help="Of a slide; auto: cuCIM for what it reads well, OpenSlide for the rest."),
    ] = None,
) -> None:
    """Fit a stain target on a picture or a slide, for `shard --target` and the recipe's stain.target.

    A slide's tissue is cut into tiles as `shard` does it; some of them are fitted, and the fits are pooled.
    """
    from pathprep import slide_target
    from pathprep.params import ShardParams
    from pathprep.slide_target import FitOptions

    given = {
        "mpp": mpp,
        "seed": seed,
        "default_mpp": default_mpp,
        "low_mpp": low_mpp,
        "high_mpp": high_mpp,
        "reader": reader and reader.value,
    }
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    how = FitOptions(keep.value, alpha, beta, io)
    if slide_target.is_slide(image):
        found = slide_target.fit_slide(image, ShardParams(**chosen), how, tiles or slide_target.TILES)
        made, said = found.target, f" (slide): {found.fitted} of {found.tiles} tiles fitted"
    elif chosen or tiles is not None:
        raise UsageError(
            f"{image}: a picture, not a slide; --tiles, --seed, --mpp, --default-mpp, --min-mpp, "
            "--max-mpp and --reader are for slides"
        )
    else:
        made, said = slide_target.fit_picture(image, how), " (picture)"
    made.save(out)
    output.print(f"Stain target of {image.name}{said}: {out}", soft_wrap=True, markup=False)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the slides.")],
    slides: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    size: Annotated[int, typer.Option(help="Side of a slide, in pixels.")] = 8192,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel.")] = 0.5,
    native_tile: Annotated[int, typer.Option(help="Side of the TIFF's own tiles.")] = 240,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
) -> None:
    """Make slides that look like H&E, with their ground truth, to try everything without data."""
    from pathprep.synth import synthesize

    paths = synthesize(
        out, slides=slides, size=size, seed=seed, native_tile=native_tile, workers=workers, mpp=mpp
    )
    for path in paths:
        output.print(str(path), soft_wrap=True, markup=False)


def main() -> None:
    """Entry point: errors that are the user's to mend are one line, not a traceback."""
    try:
        app()
    except UsageError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except (PathprepError, OSError) as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

"""`pathprep target`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.options import DefaultMpp, Keep, ReaderChoice, output
from pathprep.errors import UsageError


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
    from pathprep.params.shard import ShardParams
    from pathprep.sharding import fit_target as slide_target
    from pathprep.sharding.fit_target import FitOptions

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

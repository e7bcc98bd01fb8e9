"""`pathprep target`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.command_file import is_given
from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import output
from pathprep.params.settings import flat
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams, StainPixels
from pathprep.words import counted

# What a slide's tiles are chosen by, besides their resolution
OF_SLIDES = ("mpp", "seed", "default_mpp", "min_mpp", "max_mpp", "reader")
SLIDES = "What goes in"
FIT = StainParams()


@with_settings(
    ShardParams,
    tuple(name for name in flat(ShardParams) if name not in OF_SLIDES),
    mpp=SLIDES,
    seed=SLIDES,
)
def target(
    *,
    context: typer.Context,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE|SLIDE", help="A picture of stained tissue, or a slide.")
    ],
    out: Annotated[Path, typer.Option(help="Where the target goes.")] = Path("target.json"),
    keep: Annotated[
        StainPixels, typer.Option(help="Fit on pixels with all (canonical) or any channels above --beta.")
    ] = FIT.keep,
    alpha: Annotated[float, typer.Option(help="Percent of pixels beyond each stain vector.")] = FIT.alpha,
    beta: Annotated[float, typer.Option(help="Optical density above which a pixel is stained.")] = FIT.beta,
    io: Annotated[float, typer.Option(help="Transmitted light, grey levels.")] = FIT.io,
    tiles: Annotated[
        int | None,
        typer.Option(
            help="Of a slide, at most so many tiles at random; default: 200.", rich_help_panel=SLIDES
        ),
    ] = None,
    settings: dict[str, Any],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Fit a stain target on a picture or a slide, for `shard --target` and the recipe's stain.target.

    A slide's tissue is cut into tiles as `shard` does it; some of them are fitted, and the fits are pooled.
    """
    from pathprep.sharding.fit_target import fit_target

    # of a picture they would have no effect, so only those that were given are passed on
    given = {name: value for name, value in settings.items() if is_given(context, name)}
    made = fit_target(image, out, keep=keep, alpha=alpha, beta=beta, io=io, tiles=tiles, **given)

    def show() -> None:
        how = "(picture)"
        if made.tiles is not None:
            how = f"(slide): {made.fitted:,} of {counted(made.tiles, 'tile')} fitted"
        output.print(f"Stain target of {image.name} {how}: {out}", soft_wrap=True, markup=False)

    give({"target": str(out), **made.as_dict()}, as_json, out_json, show)

"""`pathprep synth`."""

from pathlib import Path
from typing import Annotated

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import output


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the slides.")],
    slides: Annotated[int, typer.Option(help="How many.")] = 4,
    size: Annotated[int, typer.Option(help="Side of a slide, in pixels.")] = 8192,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel.")] = 0.5,
    native_tile: Annotated[int, typer.Option(help="Side of the TIFF's own tiles.")] = 240,
    workers: Annotated[int, typer.Option(help="Threads.")] = 2,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Make slides that look like H&E, with their ground truth, to try everything without data."""
    from pathprep.synth.archive import synthesize

    paths = synthesize(
        out, slides=slides, size=size, seed=seed, native_tile=native_tile, workers=workers, mpp=mpp
    )

    def show() -> None:
        for path in paths:
            output.print(str(path), soft_wrap=True, markup=False)

    give({"slides": [str(path) for path in paths]}, as_json, out_json, show)

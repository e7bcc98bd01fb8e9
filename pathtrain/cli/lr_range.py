"""`pathtrain lr-range`: which learning rates a recipe can bear."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import errors, output


def lr_range(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(help="Datasets, or mixed shards: folders or URLs. Default: dataset."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="smoke, exaonepath1, or a .yaml file of the method dino.")
    ] = "smoke",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's value: --set batch=256"),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps, a rate each; at least 20.")] = 100,
    low: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 1.0,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("lr-range.html"),
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Learning rate range test (Smith 2017): a recipe's first steps at rates that climb by one factor.

    Shows where DINO's loss, less the teacher's entropy, falls, rises and breaks, and a range to try. A
    collapse falls too: it is told by what an output says of its tile, the entropy of the mean output less the
    mean entropy of outputs. A bound, not a choice: some steps tell little of a whole run. It keeps a page.
    """
    from pathtrain.recipes.load import load
    from pathtrain.recipes.names_only import short

    resolved = load(recipe, settings or ())  # before torch is imported: a typing error should show at once
    from rich.table import Table

    from pathprep.page.environment import write
    from pathtrain.reports.lr_range import page, table
    from pathtrain.training.lr_range import lr_range as run

    found = run(datasets or "dataset", resolved, steps=steps, low=low, high=high)
    if os.environ.get("RANK", "0") != "0":
        return
    write(page(found, recipe, ", ".join(short(str(each)) for each in datasets or [Path("dataset")])), out)
    errors.print(f"Written: {out}", markup=False, soft_wrap=True)

    def show() -> None:
        shown = Table(
            "lr",
            "loss, nats",
            "loss - entropy",
            "outputs tell",
            "gradient norm",
            caption="entropy: the teacher's; what outputs tell of their tile: 0 is a collapse",
        )
        for row in table(found):
            shown.add_row(*row)
        output.print(shown)
        for line in found.said:
            output.print(line, soft_wrap=True, markup=False, highlight=False)

    give(found.as_dict(), as_json, out_json, show)

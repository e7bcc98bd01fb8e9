"""The option of `pathtrain evaluate knn` and `linear` that draws how far probabilities are what they say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.streams import errors

Reliability = Annotated[
    Path | None,
    typer.Option(
        metavar="PNG",
        help="Draw how often tiles are right against how sure they are, the model beside its baselines.",
        rich_help_panel="Output",
    ),
]


def save_reliability(result: dict[str, Any], path: Path) -> None:
    """Draw the reliability of a result's rows into a file, whole or not at all."""
    from pathprep.storage import atomic
    from pathtrain.evaluate.tile_level.reliability import figure

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_alone(path, figure(result))
    errors.print(f"Written: {path}", soft_wrap=True, markup=False)

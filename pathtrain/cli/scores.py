"""`pathtrain scores`: scores of tiles from their features."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import errors, output
from pathprep.words import counted

Features = Annotated[Path, typer.Argument(help="Folder of slides' features, as `pathtrain embed` writes it.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="The scores: .parquet or .csv.")]
SCORES = Path("scores.parquet")


def classes(
    features: Features,
    train: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Features of labelled tiles, of the same model."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of --train, where it is of slides: CSV or Parquet with slide, label or slide, x, y, label. "
            "Features of a labelled tile set hold theirs.",
        ),
    ] = None,
    probe: Annotated[
        Literal["linear", "knn"],
        typer.Option(help="linear: logistic regression; knn: votes of the nearest labelled tiles."),
    ] = "linear",
    k: Annotated[int, typer.Option(min=1, help="Neighbours of knn.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the solver.")] = 0,
    out: Out = SCORES,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Give each tile a probability of each class, by a probe that is fitted on labelled tiles.

    How well such a probe does on tiles that it has not seen, `pathtrain evaluate linear` and `knn` tell.
    """
    from pathtrain.scores.by_class import classes as run

    made = run(features, train, out, labels=labels, probe=probe, k=k, seed=seed)
    lines = [
        f"{name}: {counted(made.predicted[name], 'tile')}, learnt from {made.trained[name]:,}"
        for name in made.trained
    ]
    _end(made.as_dict(), lines, out, as_json, out_json)


def clusters(
    features: Features,
    count: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Of clusters; of several levels, the finest first: 50,8.")
    ] = "8",
    seed: Annotated[int, typer.Option(min=0, help="Of the clusters.")] = 0,
    memory: Annotated[
        float, typer.Option(help="GB of features that clusters are fitted on; of more, so many at random.")
    ] = 2.0,
    out: Out = SCORES,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Cluster the tiles of slides by their features (k-means): which look alike. Cluster 1 is the largest."""
    from pathprep.errors import UsageError
    from pathtrain.scores.by_cluster import clusters as run

    try:
        counts = [int(part) for part in count.split(",")]
    except ValueError:
        raise UsageError(f"`count` {count}: give whole numbers with commas, as 50,8") from None
    made = run(features, out, count=counts, seed=seed, memory=memory)
    lines = [f"{counted(made.tiles, 'tile')} of {counted(made.slides)}, fitted on {made.fitted:,}"]
    lines += [
        f"{len(sizes)} clusters: {max(sizes):,} tiles in the largest, {min(sizes):,} in the smallest"
        for sizes in made.sizes
    ]
    _end(made.as_dict(), lines, out, as_json, out_json)


def similar(
    features: Features,
    slide: Annotated[str, typer.Option(help="Name of the slide that the tile is of.")],
    at: Annotated[str, typer.Option(metavar="X,Y", help="A place in the tile, level-0 pixels.")],
    out: Out = SCORES,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Tell how alike every tile is to a chosen one: the cosine of their features."""
    from pathprep.errors import UsageError
    from pathtrain.scores.by_likeness import similar as run

    try:
        x, y = (int(part) for part in at.split(","))
    except ValueError:
        raise UsageError(f"`at` {at}: give two whole numbers, as 10240,8192") from None
    made = run(features, slide, x, y, out)
    name, left, top = made.tile
    lines = [f"{counted(made.tiles, 'tile')} compared with that at {left:,}, {top:,} of {name}"]
    _end(made.as_dict(), lines, out, as_json, out_json)


def _end(result: dict[str, Any], lines: list[str], out: Path, as_json: bool, out_json: Path | None) -> None:
    def show() -> None:
        for line in lines:
            output.print(line, soft_wrap=True, markup=False)

    give(result, as_json, out_json, show)
    errors.print(f"Written: {out}", markup=False, soft_wrap=True)

"""`pathtrain curate`."""

from pathlib import Path
from typing import Annotated

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import errors, output


def curate(
    features: Annotated[
        list[Path], typer.Argument(help="Folders that `pathtrain embed` wrote, of one model.")
    ],
    out: Annotated[Path, typer.Option(help="The table of tiles, Parquet.")] = Path("weights.parquet"),
    clusters: Annotated[
        str | None,
        typer.Option(
            help="Of each level, finest first: 1000,100,10. Default: a fiftieth of the tiles, then tenths."
        ),
    ] = None,
    resample: Annotated[
        int, typer.Option(min=0, help="Clusterings of each level on equal parts of its clusters; 0: none.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the clusters.")] = 0,
    memory: Annotated[
        float, typer.Option(help="GB of features that clusters are fitted on; of more, so many at random.")
    ] = 2.0,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Cluster tiles by their features (hierarchical k-means, Vo et al. 2024), to draw rare ones as often.

    Trains with them: pathtrain pretrain DATASET --set "sampling={by: cluster, table: weights.parquet}"
    """
    from rich.table import Table

    from pathprep.errors import UsageError
    from pathprep.words import counted
    from pathtrain.features.curate import curate as run

    try:
        counts = None if clusters is None else [int(part) for part in clusters.split(",")]
    except ValueError:
        raise UsageError(f"`clusters` {clusters}: give whole numbers with commas, as 1000,100,10") from None
    found = run(features, out, clusters=counts, resample=resample, seed=seed, memory=memory)

    def show() -> None:
        table = Table(
            "level",
            "clusters",
            "tiles in one: fewest",
            "median",
            "most",
            "effective clusters before",
            "after",
            caption="effective: exp of the entropy of their shares of tiles",
        )
        for level in found.levels:
            table.add_row(
                str(level.level),
                f"{level.clusters:,}",
                f"{level.smallest:,}",
                f"{level.median:,.0f}",
                f"{level.largest:,}",
                f"{level.effective_before:.1f}",
                f"{level.effective_after:.1f}",
            )
        output.print(table)
        low, high = found.weight_range
        output.print(
            f"{counted(found.tiles, 'tile')} of {counted(found.slides)}, fitted on {found.fitted:,}; "
            f"a tile comes {low:.3g} to {high:.3g} times as often as without",
            soft_wrap=True,
            markup=False,
        )

    give(found.as_dict(), as_json, out_json, show)
    errors.print(f"Written: {out}", markup=False, soft_wrap=True)

"""`pathtrain evaluate robustness`: class against centre, scanner, stain or patient."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.words import counted
from pathtrain.cli.options import (
    LabelOrigin,
    Labels,
    Model,
    Result,
    dense,
    ends,
    finish,
    kept_in,
    named,
    prepared,
)
from pathtrain.params.robustness import RobustnessParams

SHOWN = {
    "index": "robustness index",
    "mari": "MaRI",
    "croma": "CRoMa",
    "tail": "CRoMa, worst tenth",
    "fragile": "tiles nearer to the column",
    "drop": "performance drop",
    "drop_outside": "drop, out of domain",
    "clusters": "clustering score",
    "silhouette_label": "silhouette by class",
    "silhouette_column": "silhouette by column",
    "own_share": "own share of the column",
    "excess": "excess of it over chance",
    "excess_within": "excess within a class",
    "label_knn": "class told by kNN",
    "column_knn": "column told by kNN",
    "label_linear": "class told by a layer",
    "column_linear": "column told by a layer",
}
PLAIN = {"nipd": "nIPD", "nipd_outside": "nIPD, out of domain", "leaderboard": "PLISM's leaderboard"}


@with_settings(RobustnessParams)
def robustness(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    data: Annotated[
        Path, typer.Argument(help="Dataset, folder of images with a labels.csv, or Parquet of images.")
    ],
    by: Annotated[
        str, typer.Option(help="Column of centre, scanner, ...; with --same also two: scanner,stain.")
    ],
    group: Annotated[
        str | None, typer.Option(help="Column of patients or slides. Default: the data's own groups.")
    ] = None,
    same: Annotated[
        str | None, typer.Option(help="Column that says which tiles are the same through several scanners.")
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet with these columns, by slide, by slide,x,y, or by file."),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Columns out of file names: a pattern with (?P<scanner>...), or plism."),
    ] = None,
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for result and figures. Default: evaluation/ of the run.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Do features follow the class, or the centre, scanner or stain? PathoROB, croma and PLISM's measures.

    Robustness index, average performance drop, clustering score, margins and their tail, silhouettes, own
    share against chance, and how well the column is told; beside start, random weights, colour
    and texture. With --same, how far copies of a tile through several scanners are still nearest.
    """
    from pathtrain.evaluate.shifts.study import robustness as study

    folder = out or kept_in(model)
    result = study(
        model, data, by, group=group, same=same, columns=columns, names=names, labels=labels,
        label_origin=label_origin, out=folder, **settings,
    )  # fmt: skip
    finish(context, result, "robustness.json", [folder], as_json, out_json, robustness_tables)
    if folder is None:
        errors.print("No figure: give --out FOLDER for an exported model.")


def robustness_tables(result: dict[str, Any]) -> Group:
    """A row per figure, a column per kind of features; what they mean; and the leads."""
    from pathtrain.evaluate.baselines import said

    rows = result["results"]
    table = dense(
        f"Robustness to {result['by']}: {counted(result['tiles'], 'tile')}, {len(result['values'])} values, "
        f"{counted(result['groups'], result['group_kind'])}"
    )
    table.add_column("")
    for row in rows:
        table.add_column(result["model"]["name"] if row["name"] == "model" else row["name"], justify="right")
        if row is rows[0]:
            table.add_column("95 %", justify="right", no_wrap=True)
    for key, title in _titles(rows[0]).items():
        cells = ["-" if row.get(key) is None else f"{row[key]:.3f}" for row in rows]
        interval = rows[0].get(f"{key}_interval")
        table.add_row(named(title), cells[0], ends(interval), *cells[1:])
    table.caption = "\n".join(
        [f"95 %: of the model; of drops over repeats, of clusters over subsets; {prepared(result)}",
         *result["sentences"], *said(result["baselines"])]
    )  # fmt: skip
    found = [table, *([leads] if (leads := _leads(result)) else [])]
    return Group(*found)


def _titles(row: dict[str, Any]) -> dict[str, str]:
    copies = {
        key: f"copies: {key.replace('_', ', ').replace('top', 'top-')}"
        for key in row
        if key.startswith(("cosine_", "top")) and not key.endswith(("_interval", "_median"))
    }
    return {key: title for key, title in {**SHOWN, **PLAIN, **copies}.items() if key in row}


def _leads(result: dict[str, Any]) -> Table | None:
    rows = [row for row in result["results"] if row["lead"]]
    keys = [
        key
        for key in ("index", "croma", "drop", "clusters", "excess", "top10_all")
        if key in result["results"][0]
    ]
    if not rows or not keys:
        return None
    table = Table(title="Model less each baseline, paired")
    table.add_column("baseline")
    for key in keys:
        table.add_column(SHOWN.get(key, "copies: top-10"), justify="right")
    for row in rows:
        cells = [
            f"{row['lead'][key]:+.3f} {ends(row['lead'][f'{key}_interval'], '+')}"
            if key in row["lead"]
            else "-"
            for key in keys
        ]
        table.add_row(named(row["name"]), *cells)
    return table

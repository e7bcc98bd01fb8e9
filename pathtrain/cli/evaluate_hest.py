"""`pathtrain evaluate hest`: spatial transcriptomics."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.words import counted
from pathtrain.cli.options import Model, Result, dense, ends, finish, kept_in, named, prepared
from pathtrain.params.expression import HestParams

BEST = 5  # genes that the table names


@with_settings(HestParams)
def hest(
    context: typer.Context,
    model: Model,
    folder: Annotated[
        Path,
        typer.Argument(
            help="A task of HEST-Benchmark (patches/, adata/, splits/), a folder of such, or one of "
            "plain sections "
            "(sections.csv, or ST-imgs/, ST-cnts/, ST-spotfiles/)."
        ),
    ],
    settings: dict[str, Any],
    genes: Annotated[
        Path | None,
        typer.Option(
            help='List of genes: {"genes": [...]}, or a line each. Default: the task\'s, or chosen.'
        ),
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV of sample_id and patient, for folds and to check splits.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for genes.csv and pictures of truth beside prediction.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Expression of genes from tiles, as HEST-Benchmark measures it: Pearson per gene, beside its
    baselines.
    """
    from pathtrain.evaluate.expression.study import hest as study

    result = study(model, folder, genes, patients, out, **settings)
    for path in result.get("files", []):
        errors.print(f"Written: {path}", soft_wrap=True, markup=False)
    finish(context, result, "hest.json", [kept_in(model)], as_json, out_json, hest_tables)


def hest_tables(result: dict[str, Any]) -> Group:
    """Mean Pearson of each kind of features, the model's leads, a column per task, and the best genes."""
    from pathtrain.evaluate.baselines import said
    from pathtrain.evaluate.expression.study import few_spots, model_note

    parts: list[Any] = []
    for protocol in result["protocols"]:
        key = f"pearson_{protocol}"
        table = dense(
            f"Expression ({protocol}): mean Pearson of {counted(result['spots'], 'spot')}, "
            f"{counted(len(result['tasks']), 'task')}, {counted(result['groups'], 'fold')}"
        )
        table.add_column("features")
        for heading in ("Pearson", "over folds", "over tissue", "lead", "over tissue"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in result["results"]:
            lead = row["lead"]
            table.add_row(
                named(result["model"]["name"] if row["name"] == "model" else row["name"]),
                f"{row[key]:.3f}",
                ends(row[f"{key}_interval"]),
                ends(row[f"{key}_spots_interval"]),
                f"{lead[key]:+.3f}" if lead else "",
                ends(lead[f"{key}_spots_interval"], "+") if lead else "",
            )
        table.caption = "\n".join(
            [
                "Means over genes, folds, tasks; 95 % intervals over folds (each leaves one "
                f"{result['group_kind']} "
                "out), and over squares of tissue,",
                f"which say nothing of other patients. log1p of {result['counts']} counts; tiles of "
                f"{result['tile_um']:g} um; {prepared(result)}",
                *([note] if (note := model_note(result)) else []),
                *said(result["baselines"]),
            ]
        )
        parts.append(table)
        if len(result["tasks"]) > 1:
            parts.append(_by_task(result, key))
        parts.append(_best(result, protocol))
    notes = few_spots(result)
    notes += [
        f"{task['name']}: genes that do not vary in fold {fold}, left out there: {', '.join(genes)}"
        for task in result["tasks"]
        for fold, genes in task["left_out_genes"].items()
    ]
    notes += [
        f"{task['name']}, {section}: left out "
        f"{', '.join(f'{n} {why}' for why, n in about['left_out'].items())}"
        for task in result["tasks"]
        for section, about in task["sections"].items()
        if about["left_out"]
    ]
    return Group(*parts, *notes)


def _by_task(result: dict[str, Any], key: str) -> Table:
    table = dense("Mean Pearson by task")
    table.add_column("task")
    for row in result["results"]:
        table.add_column(row["name"], justify="right", no_wrap=True)
    for task in result["tasks"]:
        table.add_row(named(task["name"]), *(f"{row[key]:.3f}" for row in task["results"]))
    return table


def _best(result: dict[str, Any], protocol: str) -> Table:
    """The genes that the model tells best, of each task."""
    table = dense(f"Best genes of the model ({protocol})")
    for heading in ("task", "gene"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Pearson", "over folds", "over tissue"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in result["tasks"]:
        rows = [row for row in task["per_gene"][protocol]["model"] if row["pearson"] is not None]
        for row in sorted(rows, key=lambda row: -row["pearson"])[:BEST]:
            found = [f"{row['pearson']:.3f}", ends(row["interval"]), ends(row["spots_interval"])]
            table.add_row(named(task["name"]), named(row["gene"]), *found)
    return table

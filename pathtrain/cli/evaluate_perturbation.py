"""`pathtrain evaluate perturbation`."""

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
from pathtrain.params.perturbation import PerturbationParams

HEADINGS = {"moved": "moved", "retrieval": "own first", "changed": "changed", "fall": "fall"}


@with_settings(PerturbationParams)
def perturbation(
    context: typer.Context,
    model: Model,
    dataset: Annotated[Path, typer.Argument(help="A dataset, or a folder of images with a labels.csv.")],
    settings: dict[str, Any],
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for perturbation.csv and a figure over strength.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """How far features and predictions move when tiles change in stain, light, focus, format or MPP."""
    from pathtrain.evaluate.shifts.perturbation import perturbation as study

    result = study(model, dataset, labels, label_origin, out, **settings)
    for path in result.get("files", []):
        errors.print(f"Written: {path}", soft_wrap=True, markup=False)
    finish(context, result, "perturbation.json", [kept_in(model)], as_json, out_json, perturbation_tables)


def perturbation_tables(result: dict[str, Any]) -> Group:
    """Means over all perturbations, a row per kind of features; then how far each perturbation moves them."""
    from pathtrain.evaluate.baselines import said

    keys = [key for key in HEADINGS if key in result["results"][0]]
    table = dense(
        f"Perturbed: {counted(result['tiles'], 'tile')} of "
        f"{counted(result['groups'], result['group_kind'])}, "
        f"mean of {counted(len(result['perturbations']), 'perturbation')}"
    )
    table.add_column("features")
    table.add_column("", no_wrap=True)
    for heading in ("mean", "over groups", "lead", "over groups"):
        table.add_column(heading.replace("group", result["group_kind"]), justify="right", no_wrap=True)
    for row in result["results"]:
        lead = row["lead"]
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        for key in keys:
            cells = [_figure(row[key]), ends(row[f"{key}_interval"])]
            if lead is not None:
                cells += [_figure(lead[key], "+"), ends(lead[f"{key}_interval"], "+")]
            first, last = key == keys[0], key == keys[-1]
            table.add_row(named(name if first else ""), HEADINGS[key], *cells, end_section=last)
    lines = [
        "moved: 0 nothing, 1 as far as another tile; own first: the tile itself is the nearest of all tiles.",
    ]
    if "changed" in keys:
        lines.append(
            f"changed: other class by the vote of {result['k']} neighbours of other {result['group_kind']}s; "
            "fall: of its accuracy, which is "
            + ", ".join(f"{row['accuracy']:.3f} ({row['name']})" for row in result["results"])
        )
    else:
        lines.append(f"No predictions: {result['labels_missing']}.")
    lines.append(f"[95 % interval] over {result['group_kind']}s; {prepared(result)}")
    if result["reference_stains"]:
        lines.append(
            f"{counted(result['reference_stains'], 'tile')} without a stain fit: changed by the reference's."
        )
    table.caption = "\n".join([*lines, *said(result["baselines"])])
    parts: list[Table] = [table, _each(result, "moved")]
    if "changed" in keys:
        parts.append(_each(result, "changed"))
    return Group(*parts)


def _each(result: dict[str, Any], key: str) -> Table:
    """A row per perturbation, a column per kind of features."""
    table = dense(f"{HEADINGS[key].capitalize()}, by perturbation")
    table.add_column("kind", no_wrap=True)
    table.add_column("strength", justify="right", no_wrap=True)
    for row in result["results"]:
        table.add_column(row["name"], justify="right", no_wrap=True)
    entries = result["perturbations"]
    for number, each in enumerate(entries):
        last = number + 1 == len(entries) or entries[number + 1]["kind"] != each["kind"]
        cells = [_figure(row[key]) for row in each["results"]]
        table.add_row(each["kind"], f"{each['strength']:g}", *cells, end_section=last)
    units = dict.fromkeys(f"{each['kind']}: {each['unit']}" for each in entries)
    table.caption = "; ".join(units)
    return table


def _figure(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"

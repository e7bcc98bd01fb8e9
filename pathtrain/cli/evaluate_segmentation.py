"""`pathtrain evaluate segmentation`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.words import counted
from pathtrain.cli.options import Model, Result, dense, ends, finish, kept_in, named
from pathtrain.params.segmentation import SegmentationParams


@with_settings(SegmentationParams, without=("readout", "resize"))
def segmentation(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    train: Annotated[
        Path, typer.Option(help="Folder of images and masks, or a CSV (file, mask, inst, group, split).")
    ],
    test: Annotated[
        Path | None, typer.Option(help="Another one. Default: the images of --train whose split is test.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Another one, by which the weights are chosen.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for segmentation.json and pictures of test images.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Dice, panoptic quality and detection of a decoder on patch tokens, beside random weights and colour."""
    from pathtrain.evaluate.pixel_level.study import segmentation as study

    result = study(model, train, test, val, out, **settings)
    folder = kept_in(model) if out is None else out
    finish(context, result, "segmentation.json", [folder], as_json, out_json, segmentation_tables)
    if out is not None and settings["pictures"]:
        errors.print(f"Written: pictures in {out}", soft_wrap=True, markup=False)


OBJECTS = {"bpq": "bPQ", "pq": "mPQ", "aji": "AJI", "f1": "F1", "f1_iou": "F1 IoU"}


def segmentation_tables(result: dict[str, Any]) -> Group:
    """Figures with their intervals, objects, classes, and leads."""
    rows = result["results"]
    images = result["images"]
    overview = dense(f"Segmentation: {images['train']} and {images['test']} images, {result['size']} px")
    overview.add_column("features")
    for heading in ("Dice", "Dice of images", "IoU"):
        overview.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [_cell(row, key) for key in ("dice", "dice_image", "iou")]
        overview.add_row(named(_title(result, row)), *cells)
    drawn = counted(result["groups"], result["group_kind"])
    overview.caption = (
        f"{result['protocol']}.\nMeans of {counted(result['decoder']['seeds'], 'decoder')}, without "
        f"background; [95 % interval] over {drawn}."
    )
    if result["decoder"]["select"] != "test":
        overview.caption += "\nPublished figures are of the best epoch on the test images: --select test."
    parts: list[Any] = [overview]
    if "bpq" in rows[0]:
        parts.append(_objects(result))
    parts.append(_classes(result))
    if len(rows) > 1:
        parts.append(_leads(result))
    return Group(*parts)


def _title(result: dict[str, Any], row: dict[str, Any]) -> str:
    name: str = result["model"]["name"] if row["name"] == "model" else row["name"]
    return name


def _value(row: dict[str, Any], key: str) -> str:
    return "-" if row[key] is None else f"{row[key]:.3f}"


def _cell(row: dict[str, Any], key: str) -> str:
    return "-" if row[key] is None else f"{row[key]:.3f} {ends(row[f'{key}_interval'])}"


def _objects(result: dict[str, Any]) -> Table:
    table = dense("Objects")
    table.add_column("features")
    for heading in OBJECTS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result["results"]:
        shown = [_value(row, key) for key in OBJECTS]
        table.add_row(named(_title(result, row)), *shown)
    made = result["objects"]
    best = [f"{name} {_value(made['of_true_classes'], key)}" for key, name in OBJECTS.items()]
    table.caption = (
        "The decoder tells classes, not objects: these are made by a watershed, peaks "
        f"{made['distance']} px apart, at least {made['smallest']} px.\n"
        "Of the true classes the same makes "
        f"{', '.join(best)}.\n"
        f"F1: centres within {made['radius']:g} px; F1 IoU: IoU above .5."
    )
    return table


def _classes(result: dict[str, Any]) -> Table:
    table = dense("Classes: Dice of images")
    table.add_column("class")
    for row in result["results"]:
        table.add_column(_title(result, row), justify="right")
    for name in result["classes"][1:]:
        values = [row["per_class"][name]["dice"] for row in result["results"]]
        table.add_row(named(name), *("-" if value is None else f"{value:.3f}" for value in values))
    return table


def _leads(result: dict[str, Any]) -> Table:
    from pathtrain.evaluate.baselines import said

    table = dense("Model less each baseline")
    table.add_column("baseline")
    # of objects the quality says most, and where none are given the Dice of whole images
    keys = ["dice", "bpq" if "bpq" in result["results"][0] else "dice_image"]
    for key in keys:
        table.add_column({"dice": "Dice", "dice_image": "Dice of images"}.get(key, OBJECTS.get(key, key)),
                         justify="right", no_wrap=True)  # fmt: skip
    for row in result["results"][1:]:
        cells = [
            "-"
            if row["lead"][key] is None
            else f"{row['lead'][key]:+.3f} {ends(row['lead'][f'{key}_interval'], '+')}"
            for key in keys
        ]
        table.add_row(named(row["name"]), *cells)
    about = {name: what for name, what in result["baselines"].items() if "is" not in what}
    notes = [f"{name}: {what['is']}" for name, what in result["baselines"].items() if "is" in what]
    paired = f"[95 % interval], paired: the same {result['group_kind']}s drawn for both"
    table.caption = "\n".join([paired, *said(about), *notes])
    return table

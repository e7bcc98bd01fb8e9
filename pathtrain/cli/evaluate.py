"""`pathtrain evaluate knn` and `pathtrain evaluate tasks`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.words import counted
from pathtrain.cli.baseline_tables import leads
from pathtrain.cli.calibration import Reliability, save_reliability
from pathtrain.cli.options import (
    LabelOrigin,
    Labels,
    Model,
    Result,
    ends,
    finish,
    kept_in,
    named,
    prepared,
)
from pathtrain.params.encoding import Device
from pathtrain.params.evaluation import KnnParams
from pathtrain.params.tasks import told


@with_settings(KnnParams, without=("precision",))
def knn(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    train: Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")],
    test: Annotated[
        Path | None,
        typer.Option(
            help="Another one. Default: the split of --train, if it has one; else leave a slide or group out."
        ),
    ] = None,
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    reliability: Reliability = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """kNN accuracy on labelled tiles, beside its start, random weights, colour and texture alone."""
    from pathtrain.evaluate.tile_level.knn import knn as study

    result = study(model, train, test, labels, label_origin, **settings)
    if reliability is not None:
        save_reliability(result, reliability)
    finish(context, result, "knn.json", [kept_in(model)], as_json, out_json, knn_tables)


def tasks(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder of the recipe exaonepath2 or the like.")],
    dataset: Annotated[Path, typer.Argument(help="A dataset of slides.")],
    labels: Annotated[Path, typer.Option(help="CSV or Parquet: slide_id and a column per task.")],
    device: Annotated[
        Device, typer.Option(help="auto: a GPU if there is one.", rich_help_panel="Running")
    ] = "auto",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads that decode tiles.", rich_help_panel="Running")
    ] = 2,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Score a run's own slide-level heads: AUROC and balanced accuracy of each task."""
    from pathtrain.evaluate.slide_level.heads import tasks as study

    result = study(run, dataset, labels, device=device, threads=threads)
    finish(context, result, "tasks.json", [run / "evaluation"], as_json, out_json, tasks_table)


def knn_tables(result: dict[str, Any]) -> Group:
    """Scores with their intervals, a row per kind of features; and recall, a row per class."""
    scores = Table(
        title=f"kNN (k={result['k']}), {result['protocol']}: {counted(result['test_tiles'], 'tile')}, "
        f"{counted(result['groups'], result['group_kind'])}"
    )
    recalls = Table(title="Recall")
    scores.add_column("features")
    for heading in ("accuracy", "balanced accuracy", "ECE", "Brier"):
        scores.add_column(heading, justify="right", no_wrap=True)
    recalls.add_column("class")
    recalls.add_column("tiles", justify="right")
    for row in result["results"]:
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        cells = [f"{row[key]:.3f} {ends(row[f'{key}_interval'])}" for key in ("accuracy", "balanced")]
        cells += [f"{row[key]:.3f}" for key in ("ece", "brier")]
        scores.add_row(named(name), *cells)
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * len(" [0.000, 0.000]"))
    scores.caption = f"[95 % interval] over {result['group_kind']}s; {prepared(result)}"
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(named(name), str(entries[0]["tiles"]), *shown)
    lead = leads(result, "accuracy")
    return Group(scores, *([lead] if lead else []), recalls)


def tasks_table(results: dict[str, dict[str, Any]]) -> Table:
    """A row per task; a dash where a score is undefined, or of another kind of task."""
    found = Table(title="Slide-level tasks")
    found.add_column("task")
    keys = told(results)
    for heading in (*keys.values(), "slides"):
        found.add_column(heading, justify="right")
    for task, row in results.items():
        values = [row.get(key) for key in keys]
        found.add_row(task, *("-" if v is None else f"{v:.3f}" for v in values), str(row["slides"]))
    return found

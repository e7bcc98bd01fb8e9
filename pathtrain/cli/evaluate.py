"""``pathtrain evaluate``: tables on the terminal, JSON and figures in a folder.

Commands import what they need when they run, so that help is quick.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from pathtrain.cli.evaluate_collapse import collapse
from pathtrain.cli.evaluate_linear import linear
from pathtrain.cli.evaluate_slides import slides
from pathtrain.cli.evaluate_table import table
from pathtrain.cli.evaluate_tasks import tasks
from pathtrain.cli.options import Batch, Device, Labels, Model, Seed, Size, Threads, ends, named, save

app = typer.Typer(no_args_is_help=True, help="Evaluate a frozen encoder.", rich_markup_mode=None)


@app.command()
def knn(
    model: Model,
    train: Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")],
    test: Annotated[
        Path | None, typer.Option(help="Another one. Default: leave one slide (or group) of --train out.")
    ] = None,
    labels: Labels = None,
    k: Annotated[int, typer.Option(help="Neighbours that vote.")] = 20,
    out_json: Annotated[
        Path | None, typer.Option("--json", help="Result file. Default: evaluation/knn.json of a run.")
    ] = None,
    seed: Seed = 0,
    size: Size = None,
    batch: Batch = 64,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """kNN accuracy on labelled tiles, beside random weights, colour alone and the majority class."""
    from pathtrain.evaluate.statistics import folder_of
    from pathtrain.evaluate.tile_level import knn as study
    from pathtrain.params.encoding import How
    from pathtrain.runs.model import load

    loaded = load(model)
    how = How(size, batch, threads, device)
    result = study.knn(loaded, train, test, labels, k=k, seed=seed, how=how)
    Console(markup=False).print(knn_tables(result))
    folder = folder_of(loaded, None)
    path = out_json or (folder / "knn.json" if folder else None)
    if path:
        save(path, result)


def knn_tables(result: dict[str, Any]) -> Group:
    """Scores with their intervals, a row per kind of features; and recall, a row per class."""
    scores = Table(
        title=f"kNN (k={result['k']}), {result['protocol']}: {result['test_tiles']} tiles, "
        f"{result['groups']} {result['group_kind']}s"
    )
    recalls = Table(title="Recall")
    scores.add_column("features")
    for heading in ("accuracy", "balanced accuracy"):
        scores.add_column(heading, justify="right", no_wrap=True)
    recalls.add_column("class")
    recalls.add_column("tiles", justify="right")
    for row in result["results"]:
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        cells = [f"{row[key]:.3f} {ends(row[f'{key}_interval'])}" for key in ("accuracy", "balanced")]
        scores.add_row(named(name), *cells)
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * len(" [0.000, 0.000]"))
    scores.caption = f"[95 % interval], bootstrap over {result['group_kind']}s"
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(named(name), str(entries[0]["tiles"]), *shown)
    return Group(scores, recalls)


app.command()(linear)
app.command()(collapse)
app.command()(table)
app.command()(tasks)
app.command()(slides)

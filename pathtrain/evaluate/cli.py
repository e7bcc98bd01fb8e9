"""``pathtrain evaluate``: tables on the terminal, JSON and figures in a folder.

Commands import what they need when they run, so that help is quick.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from pathprep import atomic
from pathprep.errors import UsageError
from pathtrain.evaluate.tasks_cli import tasks

app = typer.Typer(no_args_is_help=True, help="Evaluate a frozen encoder.", rich_markup_mode=None)
app.command()(tasks)

Model = Annotated[Path, typer.Argument(help="A run folder, or an exported model.")]
Size = Annotated[int | None, typer.Option(help="Side that tiles are resized to. Default: the model's.")]
Batch = Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that decode tiles.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(min=0, help="Of sampling, random weights and bootstrap.")]


@app.command()
def knn(
    model: Model,
    train: Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")],
    test: Annotated[
        Path | None, typer.Option(help="Another one. Default: leave one slide (or group) of --train out.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="For datasets of slides: CSV slide,label or slide,x,y,label; or a folder of GeoJSON."
        ),
    ] = None,
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
    from pathtrain.encode import How
    from pathtrain.evaluate import knn as study
    from pathtrain.evaluate.common import folder_of
    from pathtrain.models.load import load

    loaded = load(model)
    how = How(size, batch, threads, device)
    result = study.knn(loaded, train, test, labels, k=k, seed=seed, how=how)
    Console(markup=False).print(knn_tables(result))
    folder = folder_of(loaded, None)
    path = out_json or (folder / "knn.json" if folder else None)
    if path:
        _save(path, result)


@app.command()
def collapse(
    model: Model,
    dataset: Annotated[Path, typer.Argument(help="A dataset of at least 2 slides.")] = Path("dataset"),
    tiles_per_slide: Annotated[int, typer.Option(help="Random tiles of each slide.")] = 1000,
    k: Annotated[int, typer.Option(help="Neighbours that are looked at.")] = 20,
    seed: Seed = 0,
    tsne_tiles: Annotated[
        int, typer.Option(min=1, help="Tiles of each slide in the figure; 300 of 10 slides take about 20 s.")
    ] = 300,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for collapse.json and tsne.png. Default: evaluation/ of a run."),
    ] = None,
    size: Size = None,
    batch: Batch = 64,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Feature collapse: how far tiles cluster by slide, against chance; with a t-SNE figure."""
    from pathtrain.encode import How
    from pathtrain.evaluate import collapse as study
    from pathtrain.evaluate import tsne
    from pathtrain.evaluate.common import folder_of
    from pathtrain.models.load import load

    loaded = load(model)
    folder = folder_of(loaded, out)
    result, taken = study.collapse(
        loaded,
        dataset,
        tiles_per_slide=tiles_per_slide,
        k=k,
        seed=seed,
        how=How(size, batch, threads, device),
    )
    Console(markup=False).print(collapse_table(result))
    if folder is None:
        Console(stderr=True).print("No figure and no file: give --out FOLDER for an exported model.")
        return
    flat, rows = tsne.place(taken, tsne_tiles, seed)
    result["tsne"] = {"file": "tsne.png", "tiles": len(rows)}
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(folder / "tsne.png", tsne.figure(taken, flat, rows, result))
    _save(folder / "collapse.json", result)


def _save(path: Path, result: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, result)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    Console(stderr=True).print(f"Written: {path}", soft_wrap=True)


def knn_tables(result: dict[str, Any]) -> Group:
    """Scores with their intervals, a row per kind of features; and recall, a row per class."""
    scores = Table(
        title=f"kNN (k={result['k']}), {result['protocol']}: {result['test_tiles']} tiles, "
        f"{result['groups']} {result['group_kind']}s"
    )
    recalls = Table(title="Recall")
    scores.add_column("features", no_wrap=True)
    for heading in ("accuracy", "balanced accuracy"):
        scores.add_column(heading, justify="right", no_wrap=True)
    recalls.add_column("class")
    recalls.add_column("tiles", justify="right")
    for row in result["results"]:
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        cells = [f"{row[key]:.3f} {_range(row[f'{key}_interval'])}" for key in ("accuracy", "balanced")]
        scores.add_row(name, *cells)
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * len(" [0.000, 0.000]"))
    scores.caption = f"[95 % interval], bootstrap over {result['group_kind']}s"
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(name, str(entries[0]["tiles"]), *shown)
    return Group(scores, recalls)


def collapse_table(result: dict[str, Any]) -> Table:
    """All tiles first, then a row per slide."""
    table = Table(
        title=f"Feature collapse of {result['model']['name']}: {result['tiles']} tiles, k={result['k']}"
    )
    table.add_column("slide")
    for heading in ("tiles", "own share", "chance", "ratio", "silhouette"):
        table.add_column(heading, justify="right")
    rows = {"all": result, **result["slides"]}
    for name, row in rows.items():
        table.add_row(
            name,
            str(row["tiles"]),
            f"{row['own_share']:.3f}",
            f"{row['chance']:.3f}",
            f"{row['own_share'] / row['chance']:.2f}",
            f"{row['silhouette']:+.3f}",
            end_section=name == "all",
        )
    table.caption = (
        f"[95 % interval], bootstrap over slides:\nown share {_range(result['own_share_interval'])}, "
        f"ratio {_range(result['ratio_interval'])}"
    )
    return table


def _range(ends: list[float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"

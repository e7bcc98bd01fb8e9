"""``pathtrain evaluate linear``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from pathtrain.evaluate.options import (
    Batch,
    Device,
    Labels,
    Model,
    Precision,
    Target,
    Threads,
    ends,
    save,
    settle_target,
)

Seeds = Annotated[int, typer.Option(min=1, help="Layers that are trained, from --seed on.")]
Lr = Annotated[float, typer.Option(help="Of SGD.")]
Momentum = Annotated[float, typer.Option(help="Of SGD.")]
Decay = Annotated[float, typer.Option("--weight-decay", help="Of SGD.")]
SgdBatch = Annotated[int, typer.Option("--sgd-batch", min=1, help="Tiles per step of SGD.")]
Iterations = Annotated[int, typer.Option(min=1, help="Steps of SGD.")]
Schedule = Annotated[str, typer.Option(help="Of the lr: cosine (to 0) or constant; the paper does not say.")]
Crop = Annotated[int | None, typer.Option("--size", help="Central crop. Default: the model's size.")]
Resize = Annotated[
    int | None, typer.Option(help="Shorter side before the crop. Default: 256/224 of the crop.")
]


def linear(
    model: Model,
    train: Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")],
    test: Annotated[
        Path | None, typer.Option(help="Another one. Default: a fifth of --train, by slide or group.")
    ] = None,
    labels: Labels = None,
    out_json: Annotated[
        Path | None, typer.Option("--json", help="Result file. Default: evaluation/linear.json of a run.")
    ] = None,
    target: Target = "model",
    seeds: Seeds = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the layers and the bootstrap.")] = 0,
    lr: Lr = 0.1,
    momentum: Momentum = 0.9,
    weight_decay: Decay = 0.0,
    sgd_batch: SgdBatch = 128,
    iterations: Iterations = 12_500,
    schedule: Schedule = "cosine",
    size: Crop = None,
    resize: Resize = None,
    batch: Batch = 64,
    threads: Threads = 2,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """A linear layer on frozen features, as EXAONEPath 1.0 has it, beside random weights and colour."""
    from pathtrain.encode import How
    from pathtrain.evaluate import linear as study
    from pathtrain.evaluate.common import folder_of
    from pathtrain.models.load import load

    loaded = settle_target(load(model), target)
    result = study.linear(
        loaded,
        train,
        test,
        labels,
        settings=study.Settings(lr, momentum, weight_decay, sgd_batch, iterations, schedule, seeds),  # type: ignore[arg-type]
        seed=seed,
        how=How(size, batch, threads, device, precision, resize),
    )
    Console(markup=False).print(linear_tables(result))
    folder = folder_of(loaded, None)
    path = out_json or (folder / "linear.json" if folder else None)
    if path:
        save(path, result)


PAD = len(" +-0.000 [0.000, 0.000]")  # what follows the other figures in their column


def linear_tables(result: dict[str, Any]) -> Group:
    """Scores with both intervals, a row per kind of features; and recall, a row per class."""
    settings = result["settings"]
    scores = Table(
        title=f"Linear evaluation, {result['protocol']}: {result['train_tiles']} and {result['test_tiles']} "
        f"tiles, {result['groups']} {result['group_kind']}s tested"
    )
    scores.add_column("features", no_wrap=True)
    for heading in ("top-1", "balanced"):
        scores.add_column(heading, justify="right", no_wrap=True)
    recalls = Table(title="Recall")
    recalls.add_column("class")
    recalls.add_column("tiles", justify="right")
    for row in result["results"]:
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        cells = []
        for key in ("accuracy", "balanced"):
            over = row[f"{key}_seeds_interval"]
            half = f" +-{(over[1] - over[0]) / 2:.3f}" if over else ""
            cells.append(f"{row[key]:.3f}{half} {ends(row[f'{key}_interval'])}")
        scores.add_row(name, *cells)
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * PAD)
    scores.caption = (
        f"Means of {settings['seeds']} seeds; 95 % intervals: +- of that mean (Student's t), and [bootstrap "
        f"over test {result['group_kind']}s].\nSGD lr {settings['lr']:g}, momentum {settings['momentum']:g}, "
        f"weight decay {settings['weight_decay']:g}, batch {settings['batch']}, {settings['iterations']} "
        f"iterations; resize {result['resize']}, crop {result['crop']}.\n"
        f"The paper does not state its lr schedule: {settings['schedule']} here.\n" + _stain_line(result)
    )
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(name, str(entries[0]["tiles"]), *shown)
    return Group(scores, recalls)


def _stain_line(result: dict[str, Any]) -> str:
    parts = []
    for name, done in result["stain"].items():
        if isinstance(done, dict):
            done = "normalised, fits: " + ", ".join(f"{status} {count}" for status, count in done.items())
        parts.append(f"Stain of {name}: {done}")
    return "\n".join(parts)

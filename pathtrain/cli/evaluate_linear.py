"""``pathtrain evaluate linear``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from pathtrain.cli.options import (
    Labels,
    Model,
    Training,
    ends,
    named,
    save,
    settle_target,
    with_training,
)


@with_training
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
    *,
    training: Training,
) -> None:
    """A linear layer on frozen features, as EXAONEPath 1.0 has it, beside random weights and colour."""
    from pathtrain.evaluate.statistics import folder_of
    from pathtrain.evaluate.tile_level import linear as study
    from pathtrain.runs.model import load

    loaded = settle_target(load(model), training.target)
    result = study.linear(
        loaded, train, test, labels, settings=training.settings, seed=training.seed, how=training.how
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
    scores.add_column("features")
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
        scores.add_row(named(name), *cells)
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * PAD)
    scores.caption = (
        f"Means of {settings['seeds']} seeds; 95 % intervals: +- of that mean (Student's t), and [bootstrap "
        f"over test {result['group_kind']}s].\nSGD lr {settings['lr']:g}, momentum {settings['momentum']:g}, "
        f"weight decay {settings['weight_decay']:g}, batch {settings['batch']}, {settings['iterations']} "
        f"iterations; resize {result['resize']}, crop {result['crop']}.\n"
        f"The paper does not state its lr schedule: {settings['schedule']} here.\n" + _stain_line(result)
    )
    if result["group_kind"] == "tile":
        scores.caption += "\nThe tiles have no groups: tiles of one slide or patient may be on both sides."
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(named(name), str(entries[0]["tiles"]), *shown)
    return Group(scores, recalls)


def _stain_line(result: dict[str, Any]) -> str:
    parts = []
    for name, done in result["stain"].items():
        if isinstance(done, dict):
            done = "normalised, fits: " + ", ".join(f"{status} {count}" for status, count in done.items())
        parts.append(f"Stain of {name}: {done}")
    return "\n".join(parts)

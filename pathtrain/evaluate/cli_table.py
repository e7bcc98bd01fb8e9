"""``pathtrain evaluate table``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pathprep import atomic
from pathtrain.evaluate.cli_linear import (
    Crop,
    Decay,
    Iterations,
    Lr,
    Momentum,
    Resize,
    Schedule,
    Seeds,
    SgdBatch,
)
from pathtrain.evaluate.options import Batch, Device, Precision, Target, Threads, save, settle_target


def table(
    models: Annotated[
        list[Path], typer.Argument(help="Run folders, or exported models.", metavar="MODEL...")
    ],
    tasks: Annotated[
        Path,
        typer.Option(
            help="A YAML (pcam: {train: PATH, test: PATH}), or a folder with <task>/train and <task>/test; "
            "tasks: pcam, mhist, crc-100k, til, msi-crc, msi-stad."
        ),
    ] = Path("tasks.yaml"),
    out_json: Annotated[Path | None, typer.Option("--json", help="Result file.")] = None,
    out_figure: Annotated[
        Path | None, typer.Option("--figure", help="PNG: accuracy against parameters and training slides.")
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
    """The six tile tasks of EXAONEPath 1.0's table 1, those that are there, beside its published row."""
    from pathtrain.encode import How
    from pathtrain.evaluate import tasks as study
    from pathtrain.evaluate.linear import Settings
    from pathtrain.models.load import load

    sources = study.find(tasks)
    errors = Console(stderr=True, markup=False, highlight=False)
    loaded = [settle_target(load(model), target) for model in models]
    result = study.table(
        loaded,
        sources,
        settings=Settings(lr, momentum, weight_decay, sgd_batch, iterations, schedule, seeds),  # type: ignore[arg-type]
        seed=seed,
        how=How(size, batch, threads, device, precision, resize),
        say=errors.print,
    )
    Console(markup=False).print(results_table(result))
    if out_figure:
        out_figure.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(out_figure, study.figure(result))
        errors.print(f"Written: {out_figure}", soft_wrap=True)
    if out_json:
        save(out_json, result)


def results_table(result: dict[str, Any]) -> Table:
    """Top-1 per task; a row per model, its baselines, and the published row."""
    from pathtrain.evaluate.published import TASKS

    shown = Table(title="Linear evaluation, top-1")
    shown.add_column("")
    for task in TASKS:
        shown.add_column(task.title, justify="right")
    shown.add_column("mean", justify="right")

    def cells(row: dict[str, Any], keys: list[str]) -> list[str]:
        values = [f"{row['top1'][task.key]:.3f}" if task.key in keys else "missing" for task in TASKS]
        return [*values, f"{row['mean']:.3f}"]

    several = len(result["models"]) > 1
    for entry in result["models"]:
        name = entry["model"]["name"]
        for row in entry["rows"]:
            label = name if row["name"] == "model" else f"{name}: {row['name']}" if several else row["name"]
            shown.add_row(label, *cells(row, result["present"]), end_section=row["name"] == "colour")
    for row in result["published"]:
        shown.add_row(f"{row['name']}, published", *cells(row, list(row["top1"])))
    notes = [f"Means over the {len(result['present'])} tasks that are there."]
    notes += [f"{row['name']}: {row['mean_of_all']:.3f} over all six." for row in result["published"]]
    notes += [f"{task.title}: {task.note}." for task in TASKS if task.note]
    notes.append("The published splits and schedule are not all known: compare with care.")
    shown.caption = "\n".join(notes)
    return shown

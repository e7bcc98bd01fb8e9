"""``pathtrain evaluate table``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pathprep.storage import atomic
from pathtrain.cli.options import Training, dense, named, save, settle_target, with_training


@with_training
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
    out_json: Annotated[
        Path | None,
        typer.Option("--json", help="Result file. Default: evaluation/table.json of each run."),
    ] = None,
    out_figure: Annotated[
        Path | None, typer.Option("--figure", help="PNG: accuracy against parameters and training slides.")
    ] = None,
    *,
    training: Training,
) -> None:
    """The six tile tasks of EXAONEPath 1.0's table 1, those that are there, beside its published row."""
    from pathtrain.evaluate.papers import tile_table as study
    from pathtrain.evaluate.statistics import folder_of
    from pathtrain.runs.model import load

    sources = study.find(tasks)
    errors = Console(stderr=True, markup=False, highlight=False)
    loaded = [settle_target(load(model), training.target) for model in models]
    result = study.table(
        loaded,
        sources,
        settings=training.settings,
        seed=training.seed,
        how=training.how,
        say=errors.print,
    )
    Console(markup=False).print(results_table(result))
    if out_figure:
        out_figure.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(out_figure, study.figure(result))
        errors.print(f"Written: {out_figure}", soft_wrap=True)
    folders = [folder_of(model, None) for model in loaded]
    for path in [out_json] if out_json else [folder / "table.json" for folder in folders if folder]:
        save(path, result)


def results_table(result: dict[str, Any]) -> Table:
    """Top-1 per task; a row per model, its baselines, and the published row."""
    from pathtrain.evaluate.papers.published import TASKS

    shown = dense("Linear evaluation, top-1")
    shown.add_column("")
    for heading in (*(task.title for task in TASKS), "mean"):
        shown.add_column(heading, justify="right", no_wrap=True)

    def cells(row: dict[str, Any], keys: list[str]) -> list[str]:
        values = [f"{row['top1'][task.key]:.3f}" if task.key in keys else "-" for task in TASKS]
        return [*values, f"{row['mean']:.3f}"]

    for entry in result["models"]:
        for row in entry["rows"]:
            label = entry["model"]["name"] if row["name"] == "model" else f"  {row['name']}"
            shown.add_row(named(label), *cells(row, result["present"]), end_section=row["name"] == "colour")
    for row in result["published"]:
        shown.add_row(named(f"{row['name']}, paper"), *cells(row, list(row["top1"])))
    notes = [f"Means over the {len(result['present'])} tasks that are there (-: it is not)."]
    notes += [f"{row['name']}: {row['mean_of_all']:.3f} over all six." for row in result["published"]]
    notes += [f"{task.title}: {task.note}." for task in TASKS if task.note]
    notes.append("The published splits and schedule are not all known: compare with care.")
    shown.caption = "\n".join(notes)
    return shown

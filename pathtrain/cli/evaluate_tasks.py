"""``pathtrain evaluate tasks``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pathprep.errors import UsageError
from pathprep.storage import atomic


def tasks(
    run: Annotated[Path, typer.Argument(help="A run folder of the recipe exaonepath2 or the like.")],
    dataset: Annotated[Path, typer.Argument(help="A dataset of slides.")],
    labels: Annotated[Path, typer.Option(help="CSV or Parquet: slide_id and a column per task.")],
    out_json: Annotated[
        Path | None, typer.Option("--json", help="Result file. Default: RUN/evaluation/tasks.json.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode tiles.")] = 2,
) -> None:
    """Score a run's own slide-level heads: AUROC and balanced accuracy of each task."""
    from pathtrain.evaluate.slide_level.heads import evaluate

    results = evaluate(run, dataset, labels, device, threads)
    Console(markup=False).print(table(results))
    path = out_json or run / "evaluation" / "tasks.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, results)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    Console(stderr=True).print(f"Written: {path}", soft_wrap=True)


def table(results: dict[str, dict[str, Any]]) -> Table:
    """A row per task; a dash where a score is undefined."""
    found = Table(title="Slide-level tasks")
    found.add_column("task")
    for heading in ("AUROC", "balanced accuracy", "slides"):
        found.add_column(heading, justify="right")
    for task, row in results.items():
        shown = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("auroc", "balanced_accuracy")]
        found.add_row(task, *shown, str(row["slides"]))
    return found

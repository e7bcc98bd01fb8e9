"""`pathtrain evaluate slides`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.words import counted
from pathtrain.cli.options import dense, ends, finish
from pathtrain.params.slide_level import SlidesConfig


@with_settings(SlidesConfig)
def slides(
    context: typer.Context,
    features: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `pathtrain embed` wrote, one per model; NAME=FOLDER to name a model."
        ),
    ],
    settings: dict[str, Any],
    labels: Annotated[
        list[Path],
        typer.Option(
            help="CSV or Parquet: slide_id, a column per task, split (train, val, test), patient_id. "
            "Several are read as one. With --tasks: or the folder of its CSVs."
        ),
    ],
    tasks: Annotated[
        str | None, typer.Option(help="YAML of tasks, or exaonepath2 (ten tasks). Default: every column.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Run this task only; may be repeated.")] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Of the same slides: adds colour and texture alone, and thumbnails to the heat maps."
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Leave labelled slides without features out, instead of refusing."
        ),
    ] = False,
    heatmap: Annotated[
        list[str] | None,
        typer.Option(
            help="Test slide to draw; may be repeated. Default: one per class and task.",
            rich_help_panel="Output",
        ),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Attention of every tile of the test slides, .parquet or .csv, for `pathprep view` and "
            "`pathprep overlay`: as it is, and as rank in its slide.",
            rich_help_panel="Output",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for slides.json, slides.html, radar.png and bars.png.", rich_help_panel="Output"
        ),
    ] = Path("evaluation"),
    as_json: Json = False,
    out_json: Annotated[
        Path | None,
        typer.Option(
            "--out-json",
            metavar="FILE",
            help="Where the result is written. Default: OUT/slides.json.",
            rich_help_panel="Output",
        ),
    ] = None,
) -> None:
    """Labels of slides: CLAM, ABMIL and a linear head on frozen features, with colour alone beside them.

    Of several folders, each is compared with the others by the same method, on the same draws of patients:
    give those of `pathtrain embed --weights start` and `random` beside the model's own.
    """
    from pathtrain.evaluate.slide_level.study import slides as study

    result = study(
        features,
        labels,
        tasks=tasks,
        task=task or (),
        dataset=dataset,
        heatmap=heatmap or (),
        allow_missing=allow_missing,
        out=out,
        attention=attention,
        **settings,
    )
    finish(context, result, "slides.json", [out], as_json, out_json, tables)
    for path in (out / "slides.html", *([attention] if attention is not None else [])):
        errors.print(f"Written: {path}", soft_wrap=True, markup=False)


def tables(result: dict[str, Any]) -> Group:
    """AUROC, a row per task, a column per model and method; then every task with its intervals."""
    scored = [task for task in result["tasks"] if not task["missing"]]
    series = list(dict.fromkeys((row["model"], row["method"]) for task in scored for row in task["results"]))
    overview = Table(title="AUROC, mean over seeds")
    overview.add_column("task")
    for model, method in series:
        overview.add_column(f"{model}\n{method}", justify="right")
    for task in result["tasks"]:
        found = [_row(task, *one) for one in series]
        cells = ["missing" if row is None else f"{row['auroc']['mean']:.3f}" for row in found]
        overview.add_row(task["name"], *cells, end_section=task is result["tasks"][-1])
    if len(scored) > 1:
        means = []
        for one in series:
            rows = [_row(task, *one) for task in scored]
            values = [row["auroc"]["mean"] for row in rows if row is not None]
            means.append(f"{sum(values) / len(values):.3f}")
        overview.add_row("mean", *means)
    parts: list[Any] = [overview]
    for task in scored:
        counts = ", ".join(f"{name} {count}" for name, count in task["per_class"].items())
        table = Table(title=f"{task['name']}: {counted(task['slides'])} ({counts}), {task['split']} split")
        table.add_column("features", overflow="fold")  # the numbers must stay whole on 80 columns
        table.add_column("method", no_wrap=True)
        drawn = "over patients" if task["patients"] else "over slides"
        for heading in ("AUROC", "over seeds", drawn, "balanced"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in task["results"]:
            auroc, balanced = row["auroc"], row["balanced_accuracy"]
            table.add_row(
                row["model"],
                row["method"],
                f"{auroc['mean']:.3f}",
                ends(auroc["seeds_interval"]),
                ends(auroc["patients_interval"]),
                f"{balanced['mean']:.3f}",
            )
        what = "patients" if task["patients"] else "slides, as the labels have no patients"
        tested = task["results"][0]["slides"]
        table.caption = (
            f"{tested} test slides; balanced: balanced accuracy\n[95 % interval] t over seeds; over {what}"
        )
        parts.append(table)
        if any(row["leads"] for row in task["results"]):
            parts.append(_leads(task, what))
    for task in result["tasks"]:
        if task["missing"]:
            parts.append(f"{task['name']}: {task['missing']}")
        elif task["left_out"]:
            parts.append(f"{task['name']}: {len(task['left_out'])} labelled slides have no features")
    return Group(*parts)


def _leads(task: dict[str, Any], what: str) -> Table:
    """AUROC of a row less another's: than what pixels alone say, and than other models by the same method."""
    table = dense(f"{task['name']}: AUROC of each less another")
    for heading in ("features", "method", "less"):
        table.add_column(heading, overflow="fold")
    table.add_column("lead", justify="right", no_wrap=True)
    for row in task["results"]:
        for lead in row["leads"]:
            other = lead["model"] + (f", {lead['method']}" if lead["method"] != row["method"] else "")
            shown = f"{lead['auroc']:+.3f} {ends(lead['auroc_interval'], '+')}"
            table.add_row(row["model"], row["method"], other, shown, end_section=lead is row["leads"][-1])
    table.caption = f"[95 % interval], paired: the same {what.split(',')[0]} drawn for both"
    return table


def _row(task: dict[str, Any], model: str, method: str) -> dict[str, Any] | None:
    return next((row for row in task["results"] if (row["model"], row["method"]) == (model, method)), None)

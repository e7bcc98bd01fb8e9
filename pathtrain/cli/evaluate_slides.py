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
from pathtrain.params.tasks import FIGURES, TOLD

SHORT = {"balanced_accuracy": "balanced"}
NOTES = {
    "classes": "balanced: balanced accuracy",
    "ordinal": "kappa: with quadratic weights; MAE in ranks",
    "regression": "MAE in the table's unit",
    "survival": "c-index: Harrell's; p between halves of high and low risk",
}


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
        str | None,
        typer.Option(
            help="YAML of tasks, or exaonepath2, camelyon16-small, panda-small. Default: every column of "
            "classes."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Run this task only; may be repeated. Of a table: a column, or with its kind: "
            "GRADE:ordinal, AGE:regression, TIME,EVENT:survival."
        ),
    ] = None,
    test_features: Annotated[
        list[str] | None,
        typer.Option(help="Of an external test set: a folder for each of FEATURES, in their order."),
    ] = None,
    test_labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="Of an external test set, all of which is scored. --labels then only train and stop."
        ),
    ] = None,
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
    """Labels of slides: bag models and a linear head on frozen features, with colour alone beside them.

    Classes, ordered classes, numbers and survival.

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
        test_features=test_features or (),
        test_labels=test_labels or (),
        **settings,
    )
    finish(context, result, "slides.json", [out], as_json, out_json, tables)
    for path in (out / "slides.html", *([attention] if attention is not None else [])):
        errors.print(f"Written: {path}", soft_wrap=True, markup=False)


def tables(result: dict[str, Any]) -> Group:
    """Each task's figure, a row per task, a column per model and method; then tasks with their intervals."""
    scored = [task for task in result["tasks"] if not task["missing"]]
    series = list(dict.fromkeys((row["model"], row["method"]) for task in scored for row in task["results"]))
    kinds = list(dict.fromkeys(FIGURES[task["figure"]] for task in scored))
    overview = Table(title=f"{', '.join(kinds)}, mean over seeds")
    overview.add_column("task")
    for model, method in series:
        overview.add_column(f"{model}\n{method}", justify="right")
    for task in result["tasks"]:
        found = [_row(task, *one) for one in series]
        none = "missing" if task["missing"] else "-"
        cells = [none if row is None else f"{row[task['figure']]['mean']:.3f}" for row in found]
        name = task["name"]
        if len(kinds) > 1 and not task["missing"]:
            name += f" ({FIGURES[task['figure']]})"
        overview.add_row(name, *cells, end_section=task is result["tasks"][-1])
    if len(scored) > 1 and len(kinds) == 1:
        means = []
        for one in series:
            rows = [(task, _row(task, *one)) for task in scored]
            values = [row[task["figure"]]["mean"] for task, row in rows if row is not None]
            means.append(f"{sum(values) / len(values):.3f}")
        overview.add_row("mean", *means)
    parts: list[Any] = [overview]
    for task in scored:
        parts.append(_task_table(task))
        if any(row["leads"] for row in task["results"]):
            parts.append(_leads(task))
    for task in result["tasks"]:
        if task["missing"]:
            parts.append(f"{task['name']}: {task['missing']}")
        elif task["left_out"]:
            parts.append(f"{task['name']}: {len(task['left_out'])} labelled slides have no features")
    return Group(*parts)


def _task_table(task: dict[str, Any]) -> Table:
    """A task's figures, the first with its intervals."""
    counts = ", ".join(f"{name} {count}" for name, count in task["per_class"].items())
    if task["range"] is not None:
        counts += ", " * bool(counts) + "{:g} to {:g}".format(*task["range"])
    table = Table(title=f"{task['name']}: {counted(task['slides'])} ({counts}), {task['split']} split")
    table.add_column("features", overflow="fold")  # the numbers must stay whole on 80 columns
    table.add_column("method", no_wrap=True)
    first, *others = TOLD[task["kind"]]
    drawn = "over patients" if task["patients"] else "over slides"
    for heading in (FIGURES[first], "over seeds", drawn, *(SHORT.get(key, FIGURES[key]) for key in others)):
        table.add_column(heading, justify="right", no_wrap=True)
    if task["kind"] == "survival":
        table.add_column("log-rank p", justify="right", no_wrap=True)
    for row in task["results"]:
        own = row[first]
        more = [f"{row[key]['mean']:.3f}" for key in others]
        if task["kind"] == "survival":
            p = row["risk_groups"]["log_rank_p"]
            more.append("-" if p is None else f"{p:.2g}")
        table.add_row(
            row["model"],
            row["method"],
            f"{own['mean']:.3f}",
            ends(own["seeds_interval"]),
            ends(own["patients_interval"]),
            *more,
        )
    tested = task["results"][0]["slides"]
    of = "bags" if task["bags"] != task["slides"] else "slides"
    table.caption = (
        f"{tested} test {of}; {NOTES[task['kind']]}\n[95 % interval] t over seeds; over {_what(task)}"
    )
    return table


def _what(task: dict[str, Any]) -> str:
    return "patients" if task["patients"] else "slides, as the labels have no patients"


def _leads(task: dict[str, Any]) -> Table:
    """A row's figure less another's: than what pixels alone say, and than other models by the same method."""
    key = task["figure"]
    table = dense(f"{task['name']}: {FIGURES[key]} of each less another")
    for heading in ("features", "method", "less"):
        table.add_column(heading, overflow="fold")
    table.add_column("lead", justify="right", no_wrap=True)
    table.add_column("p (Holm)", justify="right", no_wrap=True)
    tests = set()
    for row in task["results"]:
        for lead in row["leads"]:
            other = lead["model"] + (f", {lead['method']}" if lead["method"] != row["method"] else "")
            shown = f"{lead[key]:+.3f} {ends(lead[f'{key}_interval'], '+')}"
            p = "-" if lead["p_holm"] is None else f"{lead['p_holm']:.2g}"
            tests.add(lead["test"])
            table.add_row(row["model"], row["method"], other, shown, p, end_section=lead is row["leads"][-1])
    drawn = _what(task).split(",")[0]
    table.caption = f"[95 % interval], paired: the same {drawn} drawn for both\n"
    table.caption += f"p: {', '.join(sorted(tests))}, corrected by Holm"
    return table


def _row(task: dict[str, Any], model: str, method: str) -> dict[str, Any] | None:
    return next((row for row in task["results"] if (row["model"], row["method"]) == (model, method)), None)

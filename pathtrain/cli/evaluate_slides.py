"""``pathtrain evaluate slides``: options, tables and files."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from pathprep.errors import UsageError
from pathprep.storage import atomic


def slides(
    features: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `pathtrain embed` wrote, one per model; NAME=FOLDER to name a model."
        ),
    ],
    labels: Annotated[
        list[Path],
        typer.Option(
            help="CSV: slide_id, a column per task, split (train, val, test), patient_id. "
            "Several are read as one. With --tasks: or the folder of its CSVs."
        ),
    ],
    tasks: Annotated[
        str | None, typer.Option(help="YAML of tasks, or exaonepath2 (ten tasks). Default: every column.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Run this task only; may be repeated.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="clam-sb, clam-mb, abmil or linear; may be repeated. Default: all."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Patient-grouped, stratified folds, instead of the column split."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per method (and fold).")] = 4,
    clam_size: Annotated[str, typer.Option(help="Attention: small (256) or big (384).")] = "small",
    instance_loss: Annotated[str, typer.Option(help="Of CLAM: svm or ce (cross-entropy).")] = "svm",
    epochs: Annotated[int, typer.Option(min=1, help="At most; stopped earlier by the val slides.")] = 200,
    dataset: Annotated[
        Path | None,
        typer.Option(help="Of the same slides: adds the colour baseline, and thumbnails to the heat maps."),
    ] = None,
    heatmap: Annotated[
        list[str] | None,
        typer.Option(help="Test slide to draw; may be repeated. Default: one per class and task."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option(help="Leave labelled slides without features out, instead of refusing.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for slides.json, slides.html, radar.png and bars.png.")
    ] = Path("evaluation"),
    out_json: Annotated[
        Path | None, typer.Option("--json", help="Result file. Default: OUT/slides.json.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode tiles for colour.")] = 2,
) -> None:
    """Labels of slides: CLAM, ABMIL and a linear head on frozen features, with colour alone beside them."""
    check("--method", method or [], ("clam-sb", "clam-mb", "abmil", "linear"))
    check("--clam-size", [clam_size], ("small", "big"))
    check("--instance-loss", [instance_loss], ("svm", "ce"))
    from pathtrain.evaluate.slide_level import benchmark as study
    from pathtrain.evaluate.slide_level import figures as slides_figures
    from pathtrain.evaluate.slide_level import page as slides_report
    from pathtrain.evaluate.slide_level.mil_training import TrainConfig
    from pathtrain.evaluate.slide_level.tasks import read_tasks

    models = [_open(text) for text in features]
    known = set.intersection(*(set(model.counts) for model in models))
    if not known:
        raise UsageError("the folders of features share no slide; give folders of the same slides")
    found = read_tasks(labels, tasks, known, only=task or (), allow_missing=allow_missing)
    config = study.SlidesConfig(
        methods=tuple(method) if method else study.METHODS,  # type: ignore[arg-type]
        seeds=seeds,
        folds=folds,
        size=clam_size,  # type: ignore[arg-type]
        instance_loss=instance_loss,  # type: ignore[arg-type]
        training=TrainConfig(epochs=epochs),
        device=device,
        threads=threads,
    )
    errors = Console(stderr=True, highlight=False, markup=False)
    done = study.evaluate(
        models,
        found,
        config,
        dataset=dataset,
        heatmaps=heatmap or None,
        say=lambda line: errors.print(line, soft_wrap=True),
    )
    Console(markup=False).print(tables(done.result))
    pictures = slides_figures.charts(done.result)
    maps = slides_figures.heatmaps(done.attention, models, dataset)
    page = slides_report.page(done.result, pictures, maps)
    path = out_json or out / "slides.json"
    try:
        for folder in (out, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            atomic.write_bytes(out / f"{name}.png", picture)
        atomic.write_bytes(out / "slides.html", page.encode())
        atomic.write_json(path, done.result)
    except OSError as error:
        raise UsageError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    errors.print(f"Written: {path}, {out / 'slides.html'}", soft_wrap=True)


def check(option: str, values: list[str], allowed: tuple[str, ...]) -> None:
    """Refuse a value that an option does not have, before anything heavy is imported."""
    for value in values:
        if value not in allowed:
            raise UsageError(f"{option} {value}: give {', '.join(allowed[:-1])} or {allowed[-1]}")


def _open(text: str) -> Any:
    """A folder, or NAME=FOLDER."""
    from pathtrain.features.bags import Bags

    name, equals, folder = text.partition("=")
    if equals and not Path(text).exists():
        return Bags.open(Path(folder), name)
    return Bags.open(Path(text))


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
        table = Table(title=f"{task['name']}: {task['slides']} slides ({counts}), {task['split']} split")
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
                _range(auroc["seeds_interval"]),
                _range(auroc["patients_interval"]),
                f"{balanced['mean']:.3f}",
            )
        what = "patients" if task["patients"] else "slides, as the labels have no patients"
        tested = task["results"][0]["slides"]
        table.caption = (
            f"{tested} test slides; balanced: balanced accuracy\n"
            f"[95 % interval] t over seeds; bootstrap over {what}"
        )
        parts.append(table)
    for task in result["tasks"]:
        if task["missing"]:
            parts.append(f"{task['name']}: {task['missing']}")
        elif task["left_out"]:
            parts.append(f"{task['name']}: {len(task['left_out'])} labelled slides have no features")
    return Group(*parts)


def _row(task: dict[str, Any], model: str, method: str) -> dict[str, Any] | None:
    return next((row for row in task["results"] if (row["model"], row["method"]) == (model, method)), None)


def _range(ends: list[float] | None) -> str:
    return "-" if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"

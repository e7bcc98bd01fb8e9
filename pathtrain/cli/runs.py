"""Commands on a run: `pathtrain pretrain`, `pathtrain export`, `pathtrain report`, `pathtrain compare`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import errors, output
from pathprep.words import counted

Run = Annotated[Path, typer.Argument(help="A run folder.")]


def pretrain(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Datasets, mixed shards (folders or URLs), a survey, or slides. Default: dataset."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="smoke, exaonepath1, exaonepath2 (-tiny), midnight (-392, -tiny, -tiny-112), dinov2-vits, "
            "starter, or a .yaml file."
        ),
    ] = "smoke",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/<recipe>. A run there is resumed.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's value: --set optim.lr=0.001"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Of exaonepath2 (-tiny): CSV or Parquet of slides, slide_id and a column per task."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the public encoder that model.init names, without internet."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; an old run is renamed to OUT.old-N.")
    ] = False,
    change: Annotated[
        bool, typer.Option("--change", help="Go on although optim.*, a phase's lr or precision differ.")
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to Weights & Biases too (pip install wandb).")
    ] = None,
    stop_on_collapse: Annotated[
        bool,
        typer.Option(
            "--stop-on-collapse",
            help="Exit with code 76, after a checkpoint, where it has looked collapsed for warn_after steps.",
        ),
    ] = False,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Train an encoder on the tiles of a dataset. The same command again resumes.

    On several devices: torchrun --nproc-per-node 8 -m pathtrain pretrain ...

    SIGTERM and SIGUSR1 finish the step, write a checkpoint and exit with code 75: run the command again.
    """
    from pathtrain.recipes.load import load, run_folder

    resolved = load(recipe, settings or ())  # before torch is imported: a typing error should show at once
    from pathtrain.cli.progress import watcher
    from pathtrain.training.pretrain import pretrain as run
    from pathtrain.training.stopping import EXIT_CODE

    folder = run_folder(recipe, out)
    first = os.environ.get("RANK", "0") == "0"
    try:
        with watcher(errors) as watch:
            summary = run(
                datasets or "dataset",
                resolved,
                folder,
                labels=labels,
                weights=weights,
                fresh=fresh,
                change=change,
                wandb=wandb,
                stop_on_collapse=stop_on_collapse,
                watch=watch,
            )
    except KeyboardInterrupt:
        if first:
            without = " without --fresh" if fresh else ""
            errors.print(f"Interrupted; the same command{without} goes on from the last checkpoint.")
        raise

    def show() -> None:
        if summary.loss is not None:
            text = f"{folder}: {counted(summary.steps, 'step')} done, last loss {summary.loss:.4f}"
            output.print(text, soft_wrap=True, markup=False)

    if first:
        give({"run": str(folder), **asdict(summary)}, as_json, out_json, show)
    if summary.stopped is not None:
        raise typer.Exit(EXIT_CODE)


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder for config.json and model.safetensors.")] = Path("model"),
    average: Annotated[
        int | None,
        typer.Option(min=2, metavar="K", help="The mean of the last K encoders that the run has kept."),
    ] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write the teacher's encoder as a folder that plain timm loads."""
    from pathtrain.evaluate.statistics import describe
    from pathtrain.runs.export import export as write

    model = write(run, out, average=average)
    name = json.dumps(f"local-dir:{out}", ensure_ascii=False)
    which = f"mean of steps {', '.join(map(str, model.averaged))}" if model.averaged else f"step {model.step}"
    text = f"{out}: {which}; timm.create_model({name}, pretrained=True)"
    result = {"out": str(out), **describe(model)}
    give(result, as_json, out_json, lambda: output.print(text, soft_wrap=True, markup=False))


def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="The page. Default: RUN/report.html.")] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A result of `pathtrain evaluate` that is not in RUN/evaluation; may be repeated."),
    ] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write one HTML page: curves, loader wait, views, evaluations."""
    from pathtrain.reports.page import report as write

    page = write(run, out, results or ())
    result = {"page": str(page)}
    give(result, as_json, out_json, lambda: output.print(f"Report: {page}", soft_wrap=True, markup=False))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two run folders or more.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("compare.html"),
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Write one HTML page of several runs: curves, last and best figures, how their recipes differ."""
    from pathtrain.reports.compare import compare as write

    result = write(runs, out)

    def show() -> None:
        for text in [*result["notes"], f"Comparison: {result['page']}"]:
            output.print(text, soft_wrap=True, markup=False)

    give(result, as_json, out_json, show)

"""The command ``pathtrain``. Commands import what they need when they run, so that help is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from pathprep.errors import PathprepError, UsageError, explain_missing_package
from pathtrain.cli.evaluate import app as evaluate
from pathtrain.errors import RecipeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a dataset of tiles to a trained, evaluated and exported encoder.",
)
app.add_typer(evaluate, name="evaluate")


@app.command()
def pretrain(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder, as `pathprep shard` writes it.")] = Path(
        "dataset"
    ),
    recipe: Annotated[
        str, typer.Option(help="smoke, exaonepath1, exaonepath2, exaonepath2-tiny, or a .yaml file.")
    ] = "smoke",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/<recipe>. A run there is resumed.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's value: --set optim.lr=0.001"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="For exaonepath2: CSV or Parquet of slides, slide_id and a column per task."),
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Start over; an old run is renamed to OUT.old-N.")] = False,
    change: Annotated[
        bool,
        typer.Option("--change", help="Go on although optim.*, a phase's lr or precision differ."),
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to Weights & Biases too (pip install wandb).")
    ] = None,
) -> None:
    """Train an encoder on the tiles of a dataset. The same command again resumes.

    On several devices: torchrun --nproc-per-node 8 -m pathtrain pretrain ...

    SIGTERM and SIGUSR1 finish the step, write a checkpoint and exit with code 75: run the command again.
    """
    from pathtrain.recipes.load import load

    resolved = load(recipe, set_ or [])  # before torch is imported: a typing error should show at once
    from pathtrain.training.pretrain import pretrain as run
    from pathtrain.training.stopping import EXIT_CODE

    out = out or Path("runs") / Path(recipe).stem
    summary = run(dataset, resolved, out, fresh, Console(), wandb, labels, change)
    if summary.loss is not None and os.environ.get("RANK", "0") == "0":
        typer.echo(f"{out}: {summary.steps} steps done, last loss {summary.loss:.4f}")
    if summary.stopped is not None:
        raise typer.Exit(EXIT_CODE)


@app.command()
def embed(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A run folder, or an exported model.")],
    source: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset, or a folder of images with a labels.csv.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for one file per slide.")] = Path("features"),
    format: Annotated[str, typer.Option(help="hdf5, as CLAM and TRIDENT read it, or parquet.")] = "hdf5",
    level: Annotated[
        str, typer.Option(help="tile; of runs with three stages also region or slide.")
    ] = "tile",
    size: Annotated[
        int | None, typer.Option(help="Side that tiles are resized to. Default: the model's.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode tiles.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of the network: float32 or bfloat16.")] = "float32",
) -> None:
    """Write the features of every tile: HDF5 as CLAM and TRIDENT read it, or Parquet.

    Run again, it goes on where it stopped, and tries slides again that failed. On 8 GPUs:
    torchrun --nproc-per-node 8 -m pathtrain embed ...

    Exit code 1: a slide failed (a damaged tile); the others are done.
    """
    from pathtrain.features.embed import embed as run
    from pathtrain.params.encoding import How

    if level in ("region", "slide"):
        for option in ("size", "batch", "precision"):  # the run has its own
            given = context.get_parameter_source(option)
            if given is not None and given.name not in ("DEFAULT", "DEFAULT_MAP"):
                raise UsageError(f"--{option} is for --level tile: leave it out with --level {level}")
        from pathtrain.features.embed_levels import Level
        from pathtrain.features.embed_levels import embed as embed_level

        done = embed_level(model, source, out, cast(Level, level), device, threads, format)
    elif level == "tile":
        done = run(model, source, out, How(size, batch, threads, device, precision), format)
    else:
        raise UsageError(f"--level {level}: give tile, region or slide")
    if done.place.rank == 0:  # for all processes
        typer.echo(f"{out}: {done}")
        if done.failed:
            typer.echo(f"failed (in {out / 'failed'}, tried again by the next run):", err=True)
        for name, reason in done.failed.items():
            typer.echo(f"  {name}: {reason}", err=True)
    done.place.leave()
    if done.failed:
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json and model.safetensors.")] = Path("model"),
) -> None:
    """Write the teacher's encoder as a folder that plain timm loads."""
    from pathtrain.runs.export import export as write

    model = write(run, out)
    typer.echo(f'{out}: step {model.step}; timm.create_model("local-dir:{out}", pretrained=True)')


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option(help="The page. Default: RUN/report.html.")] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A result of `pathtrain evaluate` that is not in RUN/evaluation; may be repeated."),
    ] = None,
) -> None:
    """Write one HTML page: curves, loader wait, views, evaluations."""
    from pathtrain.reports.page import report as write

    typer.echo(str(write(run, out, results or ())))


def main() -> Any:
    """Entry point: errors raised on purpose are one line on stderr; 2 for wrong usage, else 1."""
    # OpenMP threads that spin while they wait starve DALI's: torch was up to 8 times slower on busy cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return app()
    except ModuleNotFoundError as error:
        said = explain_missing_package(error)
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    except (PathprepError, OSError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2 if isinstance(error, (UsageError, RecipeError)) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The command `pathtrain`, a module a command. They import what they need when they run: help is instant."""

import os

import typer

from pathprep.cli import dialect
from pathprep.cli.dialect import add, new_app
from pathprep.cli.streams import errors
from pathtrain.cli import (
    curate,
    evaluate,
    evaluate_collapse,
    evaluate_hest,
    evaluate_linear,
    evaluate_perturbation,
    evaluate_robustness,
    evaluate_segmentation,
    evaluate_slides,
    evaluate_table,
    evaluate_tiles,
    features,
    lr_range,
    models,
    runs,
    scores,
    verify,
)
from pathtrain.cli.progress import tile_bars

app = new_app("From a dataset of tiles to a trained, evaluated and exported encoder.")
evaluations = typer.Typer(no_args_is_help=True, help="Evaluate a frozen encoder.")
scorings = typer.Typer(no_args_is_help=True, help="Score tiles by their features, to be looked at.")
# In the order of their use
for command in (
    lr_range.lr_range,
    runs.pretrain,
    models.models,
    features.embed,
    curate.curate,
    runs.export,
    runs.report,
    runs.compare,
    verify.verify,
):
    add(app, command)
app.add_typer(evaluations, name="evaluate")
for command in (
    evaluate.knn,
    evaluate_linear.linear,
    *evaluate_tiles.COMMANDS,
    evaluate_collapse.collapse,
    evaluate_segmentation.segmentation,
    evaluate_hest.hest,
    evaluate_robustness.robustness,
    evaluate_perturbation.perturbation,
    evaluate_slides.slides,
    evaluate_table.table,
    evaluate.tasks,
):
    add(evaluations, command)
app.add_typer(scorings, name="scores")
for command in (scores.classes, scores.clusters, scores.similar):
    add(scorings, command)


def main() -> None:
    """Entry point of the command."""
    # OpenMP threads that spin while they wait starve DALI's: torch was up to 8 times slower on busy cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tile_bars(errors):
        dialect.main(app)

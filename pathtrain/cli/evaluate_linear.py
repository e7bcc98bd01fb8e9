"""`pathtrain evaluate linear`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.cli.streams import errors
from pathprep.words import counted
from pathtrain.cli.baseline_tables import leads
from pathtrain.cli.calibration import Reliability, save_reliability
from pathtrain.cli.options import (
    LabelOrigin,
    Labels,
    Model,
    Result,
    ends,
    finish,
    kept_in,
    named,
    prepared,
)
from pathtrain.params.evaluation import LinearParams


@with_settings(LinearParams)
def linear(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    train: Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")],
    test: Annotated[
        Path | None,
        typer.Option(
            help="Another one. Default: the split of --train, if it has one; else a fifth of it, by group."
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            help="Another one, which validates, of --protocol eva. Default: that of the split, or --test."
        ),
    ] = None,
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    reliability: Reliability = None,
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """A linear layer on frozen features, as EXAONEPath 1.0 or eva trains it, beside its baselines."""
    from pathtrain.evaluate.tile_level.linear import linear as study

    result = study(model, train, test, labels, label_origin, val=val, **settings)
    if result["published"] == "exaonepath":
        _say_plain([result["model"]])
    if reliability is not None:
        save_reliability(result, reliability)
    finish(context, result, "linear.json", [kept_in(model)], as_json, out_json, linear_tables)


def _say_plain(models: Iterable[dict[str, Any]]) -> None:
    for model in models:
        if model["target"] is None:
            text = f"{model['name']} was trained on plain tiles: tiles are taken as they are stored"
            errors.print(f"{text}; --target reference normalises them", soft_wrap=True, markup=False)


TITLES = {"exaonepath": "EXAONEPath 1.0", "eva": "eva"}
PAD = len(" +-0.000 [0.000, 0.000]")  # what follows the other figures in their column


def linear_tables(result: dict[str, Any]) -> Group:
    """Scores with both intervals, a row per kind of features; and recall, a row per class."""
    settings = result["settings"]
    scores = Table(
        title=f"Linear evaluation as {TITLES[result['published']]} has it, {result['protocol']}: "
        f"{result['train_tiles']} and {result['test_tiles']} tiles, "
        f"{counted(result['groups'], result['group_kind'])} tested",
        caption_justify="left",
    )
    scores.add_column("features")
    for heading in ("top-1", "balanced"):
        scores.add_column(heading, justify="right", no_wrap=True)
    calibration = Table(title="Calibration")
    for heading in ("features", "ECE", "Brier"):
        calibration.add_column(heading, justify="left" if heading == "features" else "right")
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
        calibration.add_row(named(name), *(f"{row[key]:.3f}" for key in ("ece", "brier")))
        recalls.add_column(name, justify="right")
    scores.add_row("majority class", f"{result['majority']:.3f}" + " " * PAD)
    scores.caption = (
        f"Means of {counted(settings['seeds'], 'seed')}; 95 % intervals: +- of that mean (Student's t), and "
        f"[over test {result['group_kind']}s].\n"
        f"{_optimiser(settings)}, weight decay {settings['weight_decay']:g}, batch {settings['batch']}, "
        f"{settings['iterations']} iterations, {settings['schedule']} lr; {prepared(result)}.\n"
    )
    if "schedule" in result["unknown"]:
        scores.caption += f"The paper does not state its lr schedule: {settings['schedule']} here.\n"
    scores.caption += _stain_line(result)
    if result["differs"]:
        scores.caption += f"\nOtherwise than {TITLES[result['published']]}: {'; '.join(result['differs'])}."
    if result["absent"]:
        scores.caption += (
            f"\nNo tile to be scored of: {', '.join(result['absent'])}; balanced is over the others."
        )
    if result["left_out_tiles"]:
        scores.caption += (
            f"\n{counted(result['left_out_tiles'], 'tile')} of the training set left out, as in the "
            "paper; --whole "
            "trains on all."
        )
    if result["group_kind"] == "tile":
        scores.caption += "\nThe tiles have no groups: tiles of one slide or patient may be on both sides."
    for name in result["classes"]:
        entries = [row["per_class"][name] for row in result["results"]]
        shown = ["-" if entry["recall"] is None else f"{entry['recall']:.3f}" for entry in entries]
        recalls.add_row(named(name), str(entries[0]["tiles"]), *shown)
    lead = leads(result, "top-1")
    return Group(scores, *([lead] if lead else []), calibration, recalls)


def _optimiser(settings: dict[str, Any]) -> str:
    if settings["optimizer"] == "sgd":
        return f"SGD lr {settings['lr']:g}, momentum {settings['momentum']:g}"
    return f"AdamW lr {settings['lr']:g}"


def _stain_line(result: dict[str, Any]) -> str:
    parts = []
    for name, done in result["stain"].items():
        if isinstance(done, dict):
            done = "normalised, fits: " + ", ".join(f"{status} {count}" for status, count in done.items())
        parts.append(f"Stain of {name}: {done}")
    return "\n".join(parts)

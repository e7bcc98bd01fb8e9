"""`pathtrain evaluate few-shot`, `retrieval` and `invariance`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from pathprep.cli.dialect import Json
from pathprep.cli.signatures import with_settings
from pathprep.words import counted
from pathtrain.cli.options import (
    LabelOrigin,
    Labels,
    Model,
    Result,
    dense,
    ends,
    finish,
    kept_in,
    named,
    prepared,
)
from pathtrain.params.tile_level import FewShotParams, InvarianceParams, RetrievalParams

Train = Annotated[Path, typer.Option(help="Dataset, or folder of images with a labels.csv.")]


@with_settings(FewShotParams)
def few_shot(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    train: Train,
    test: Annotated[
        Path | None,
        typer.Option(help="Another one. Default: the split of --train, if it has one; else a fifth of it."),
    ] = None,
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """SimpleShot: the nearest mean of 1 to 32 tiles of each class, beside the baselines."""
    from pathtrain.evaluate.tile_level.few_shot import few_shot as study

    result = study(model, train, test, labels, label_origin, **settings)
    finish(context, result, "few-shot.json", [kept_in(model)], as_json, out_json, few_shot_tables)


@with_settings(RetrievalParams)
def retrieval(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    train: Train,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Queries. Default: the split of --train, if it has one; else other slides or groups."
        ),
    ] = None,
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """Search by image: whether the nearest tiles have a tile's class, beside the baselines."""
    from pathtrain.evaluate.tile_level.retrieval import retrieval as study

    result = study(model, train, test, labels, label_origin, **settings)
    finish(context, result, "retrieval.json", [kept_in(model)], as_json, out_json, retrieval_tables)


@with_settings(InvarianceParams)
def invariance(
    context: typer.Context,
    model: Model,
    settings: dict[str, Any],
    dataset: Annotated[Path, typer.Argument(help="Dataset, or folder of images with a labels.csv.")],
    labels: Labels = None,
    label_origin: LabelOrigin = "auto",
    as_json: Json = False,
    out_json: Result = None,
) -> None:
    """How far features depend on how a tile is turned or mirrored, beside the baselines."""
    from pathtrain.evaluate.tile_level.invariance import invariance as study

    result = study(model, dataset, labels, label_origin, **settings)
    finish(context, result, "invariance.json", [kept_in(model)], as_json, out_json, invariance_tables)


COMMANDS = (few_shot, retrieval, invariance)


def few_shot_tables(result: dict[str, Any]) -> Group:
    """Balanced accuracy, a column per number of tiles."""
    keys = {f"balanced_{number}": counted(number, "tile") for number in result["shots"]}
    title = f"Few-shot, balanced accuracy: {_size(result)}, {counted(result['episodes'], 'draw')}"
    notes = [result["protocol"] + "."]
    if result["left_out_shots"]:
        numbers = ", ".join(map(str, result["left_out_shots"]))
        notes.append(f"{numbers} tiles a class are left out: a class has fewer.")
    return _tables(result, title, keys, [*notes, f"Chance: {result['chance']:.3f}."])


def retrieval_tables(result: dict[str, Any]) -> Group:
    """A column per figure."""
    keys = {"acc_1": "top-1", "acc_3": "in 3", "acc_5": "in 5", "mv_3": "vote of 3", "mv_5": "vote of 5"}
    keys |= {"mv_5_balanced": "balanced", "map": f"mAP@{result['k']}"}
    notes = [f"Nearest {result['protocol']}. Chance of top-1: {result['chance']:.3f}."]
    if result["left_out_tiles"]:
        notes.append(
            f"{counted(result['left_out_tiles'], 'tile')} left out: none else has their class to be found."
        )
    return _tables(result, f"Retrieval: {_size(result)}", keys, notes)


def invariance_tables(result: dict[str, Any]) -> Group:
    """A column per figure."""
    keys = {"cosine": "cosine", "centred": "centred", "found": "found", "changed": "changed"}
    keys = {key: words for key, words in keys.items() if key in result["results"][0]}
    size = f"{counted(result['tiles'], 'tile')}, {counted(result['groups'], result['group_kind'])}"
    notes = [f"Means over {result['protocol']}. Of `changed`, lower is better."]
    if "changed" not in keys:
        notes.append("Without labels nothing is predicted.")
    return _tables(result, f"Invariance: {size}", keys, notes)


def _size(result: dict[str, Any]) -> str:
    return (
        f"{result['train_tiles']} and {counted(result['test_tiles'], 'tile')}, "
        f"{counted(result['groups'], result['group_kind'])} scored"
    )


def _tables(result: dict[str, Any], title: str, keys: Mapping[str, str], notes: list[str]) -> Group:
    """Figures with their intervals, a row per kind of features; and the model's leads."""
    from pathtrain.evaluate.baselines import said

    shown, leads = dense(title), dense("Model less each baseline")
    shown.add_column("features")
    leads.add_column("baseline")
    for words in keys.values():
        for table in (shown, leads):
            table.add_column(words, justify="right")
    for row in result["results"]:
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        _add(shown, name, row, keys, "")
        if row["lead"] is not None:
            _add(leads, name, row["lead"], keys, "+")
    shown.caption = "\n".join([*notes, f"[95 % interval] over {result['group_kind']}s; {prepared(result)}"])
    first = next(iter(keys))
    for row in result["results"]:
        if f"{first}_range" in row:
            low, high = row[f"{first}_range"]
            shown.caption += f"\n{row['name']}, {keys[first]} of one network: {low:.3f} to {high:.3f}"
    leads.caption = "\n".join(["[95 % interval], paired", *said(result["baselines"])])
    return Group(shown, *([leads] if leads.row_count else []))


def _add(table: Table, name: str, row: Mapping[str, Any], keys: Mapping[str, str], sign: str) -> None:
    """A figure above its interval, so that a terminal holds all columns."""
    table.add_row(
        named(name), *(f"{row[key]:{sign}.3f}\n{ends(row[f'{key}_interval'], sign)}" for key in keys)
    )

"""How well features tell the expression of genes: spatial transcriptomics, as HEST-Benchmark measures it.

Tiles of 112 um around the spots (224 px at 0.5 MPP, whatever the model was trained at: so published figures
have it), log1p of the counts of 50 genes, a ridge regression on frozen features, Pearson per gene. The
protocols are in pathtrain.evaluate.expression.regression, the figures in .scores, the layouts in
.hest_layout and .plain_sections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.settings import build
from pathtrain.data.whole_tiles import outcome
from pathtrain.evaluate.baselines import HANDMADE, Beside
from pathtrain.evaluate.expression import folds as dividing
from pathtrain.evaluate.expression import scores
from pathtrain.evaluate.expression.regression import FACTORS, STRENGTH, predict
from pathtrain.evaluate.expression.spots import MPP, SIDE, Fold, SpotTiles, Task
from pathtrain.evaluate.expression.tasks import tasks_of
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, describe
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import preparation
from pathtrain.features.progress import TileProgress
from pathtrain.params.expression import HestParams
from pathtrain.runs.model import Model

FEW_A_COLUMN = 4  # spots; below, a line says so
SQUARES = 6  # a section is cut in so many by so many for the intervals over places
PROTOCOLS = {
    "pca": f"HEST-Benchmark with PCA: StandardScaler, PCA({FACTORS}), ridge of alpha "
    "{STRENGTH}/(columns x genes)",
    "plain": f"HEST-Benchmark without PCA: ridge of alpha {STRENGTH}/(columns x genes) on the "
    "features as they are",
}
KINDS = {"split": "split", "patient": "patient", "section": "section", "blocks": "part"}


@dataclass(frozen=True)
class Predicted:
    """The first network's predictions of a task's folds by the first protocol, for figures and tables.

    Attributes:
        task: its spots. folds: with the predictions (M, G) of each.
    """

    task: Task
    folds: list[tuple[Fold, Doubles]]


def hest(
    model: Model,
    folder: str | Path,
    genes: str | Path | None = None,
    patients: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by the expression that its features tell; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        folder: a task of HEST-Benchmark or a folder of its tasks; or one of plain sections.
        genes: a list, instead of the task's own or the most variable.
        patients: a table of samples and their patients, for folds and to check splits.
        out: folder for the table per gene and pictures of truth and prediction; None writes nothing.
        settings: of HestParams, by their flat names: ``protocol="both", folds="section"``.

    Returns:
        JSON-able: protocols, counts, what was left out, ``baselines``, ``tasks`` (each with its folds,
        genes and rows), and ``results``: per features ``pearson_pca`` and ``pearson_plain``, with intervals
        over folds (``_interval``) and over squares of tissue (``_spots_interval``), and the model's lead; see
        scores.rows.

    Raises:
        UsageError: folds that cannot be, or a table that cannot be read.
        DatasetError: tiles or counts cannot be read, are no counts, or do not fit each other.
        ModelError, CheckpointError: the model cannot be read.
    """
    return hest_scored(model, folder, genes, patients, out, **settings).result


def hest_scored(
    model: Model,
    folder: str | Path,
    genes: str | Path | None = None,
    patients: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> Scored:
    """As ``hest``, with the units of its figures: a group per fold, a column per task."""
    params = build(HestParams, settings)
    model = vectors_of(model, params.how)
    about = preparation(model, params.how)
    tasks = tasks_of(
        Path(folder),
        params,
        None if genes is None else Path(genes),
        None if patients is None else Path(patients),
    )
    beside = Beside.of(model, params.baselines, params.seed)
    progress = TileProgress(sum(len(task.values) for task, _, _ in tasks), "encode")
    scored: dict[str, list[scores.Scored]] = {protocol: [] for protocol in params.protocols}
    said, drawn = [], []
    for task, parts, kind in tasks:
        tiles = SpotTiles(task.path, task.sections, model.target)
        features = beside.encode(tiles, np.arange(len(tiles)), params.how, progress.advance)
        tiles.close()
        progress.line(f"{task.path}: {len(tiles)} spots")
        progress.note(outcome(tiles))
        columns: dict[str, dict[str, int]] = {}
        for protocol in params.protocols:
            found, columns[protocol], first = _regressed(task, parts, features, protocol)
            scored[protocol] += found
            if protocol == params.protocols[0]:
                drawn.append(Predicted(task, first))
        own = {protocol: scored[protocol][-len(parts) :] for protocol in params.protocols}
        said.append(_said(task, parts, kind, own, columns, params))
    result = {
        "task": "hest",
        "protocol": "; ".join(PROTOCOLS[protocol] for protocol in params.protocols),
        "protocols": list(params.protocols),
        "model": describe(model),
        "folder": str(folder),
        **about,
        "tile_um": SIDE * MPP,
        "mpp": MPP,
        "model_mpp": model.mpp,
        "counts": params.counts,
        "precision": params.how.precision,
        "seed": params.seed,
        "classes": [],
        "spots": sum(each["spots"] for each in said),
        "groups": sum(len(each["folds"]) for each in said),
        "group_kind": said[0]["fold_kind"],
        "paired": True,
        "baselines": beside.about,
        "tasks": said,
        "results": _rows(scored, params.seed),
    }
    if out is not None:
        from pathtrain.evaluate.expression.output import write

        result["files"] = [str(path) for path in write(Path(out), result, drawn)]
    units = {
        (name, f"pearson_{protocol}"): each
        for protocol, found in scored.items()
        for name, each in scores.units(found).items()
    }
    return Scored(result, units)


def _regressed(
    task: Task, parts: Sequence[Fold], features: dict[str, list[Floats]], protocol: str
) -> tuple[list[scores.Scored], dict[str, int], list[tuple[Fold, Doubles]]]:
    """Scores of each fold, the ridge's columns by name, and the first features' predictions."""
    found, columns, first = [], dict[str, int](), []
    for fold in parts:
        truth = task.values[fold.test]
        if not (np.ptp(truth, axis=0) > 0).any():
            raise UsageError(
                f"{task.path}: no gene varies among the {len(truth)} tested spots of fold {fold.name}; "
                "give other "
                "genes, or take the fold out"
            )
        predictions: dict[str, list[Doubles]] = {}
        for name, networks in features.items():
            predictions[name] = []
            for every in networks:
                train, test = _sides(every, fold, handmade=name in HANDMADE)
                values, columns[name] = predict(train, task.values[fold.train], test, protocol)
                predictions[name].append(values)
        square: Ints = dividing.squares(task, fold, SQUARES)
        found.append(scores.scored(task.name, fold.name, truth, predictions, square))
        first.append((fold, next(iter(predictions.values()))[0]))
    return found, columns, first


def _sides(features: Floats, fold: Fold, handmade: bool) -> tuple[Floats, Floats]:
    """Both sides' features; handmade ones, whose units are arbitrary, with mean 0 and SD 1 on the first."""
    train, test = features[fold.train], features[fold.test]
    if not handmade:
        return train, test
    mean, sd = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    return (train - mean) / sd, (test - mean) / sd


def _said(
    task: Task,
    parts: Sequence[Fold],
    kind: str,
    scored: dict[str, list[scores.Scored]],
    columns: dict[str, dict[str, int]],
    params: HestParams,
) -> dict[str, Any]:
    """What the result says of a task."""
    first = next(iter(scored.values()))
    still = {
        fold.fold: [gene for gene, varies in zip(task.genes, fold.varies, strict=True) if not varies]
        for fold in first
    }
    return {
        "name": task.name,
        "spots": len(task.values),
        "sections": {
            section.name: {
                "patient": section.patient or None,
                "spots": len(section.spots),
                "left_out": {why: count for why, count in section.left_out.items() if count},
                "picture_mpp": section.um,
                "mpp_from": getattr(section, "mpp_from", None),
                "counts": str(path),
            }
            for section, path in zip(task.sections, task.counts_of, strict=True)
        },
        "genes": task.genes,
        "genes_from": task.genes_from,
        "fold_kind": KINDS[kind],
        "folds": {fold.name: {"train": len(fold.train), "test": len(fold.test)} for fold in parts},
        "left_out_genes": {name: genes for name, genes in still.items() if genes},
        "columns": columns,
        "results": _rows(scored, params.seed),
        "per_gene": {
            protocol: scores.genes(found, task.genes, params.seed) for protocol, found in scored.items()
        },
    }


def _rows(scored: dict[str, list[scores.Scored]], seed: int) -> list[dict[str, Any]]:
    """A row per kind of features with the figures of all protocols."""
    merged: list[dict[str, Any]] = []
    for protocol, folds in scored.items():
        rows = scores.rows(folds, f"pearson_{protocol}", seed)
        if not merged:
            merged = rows
            continue
        for row, more in zip(merged, rows, strict=True):
            lead = None if row["lead"] is None else {**row["lead"], **more["lead"]}
            row.update(more, lead=lead)
    return merged


def few_spots(result: dict[str, Any]) -> list[str]:
    """A sentence for each task that learns from few spots for what its ridge sees: it then follows noise."""
    lines = []
    for task in result["tasks"]:
        fewest = min(fold["train"] for fold in task["folds"].values())
        most = max(count for columns in task["columns"].values() for count in columns.values())
        if fewest < FEW_A_COLUMN * most:
            lines.append(
                f"{task['name']}: {most} columns are learnt from {fewest} spots in a fold: the published "
                "penalty is small, so long features follow noise there and short ones (colour) look better."
            )
    return lines


def model_note(result: dict[str, Any]) -> str:
    """A sentence where the benchmark's MPP is not the model's; empty otherwise."""
    own: float | None = result["model_mpp"]
    if own is None or abs(own / result["mpp"] - 1) <= 0.1:
        return ""
    return f"The model was trained at {own:g} MPP; the benchmark has {result['mpp']:g} for all."

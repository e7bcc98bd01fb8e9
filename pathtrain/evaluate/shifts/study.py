"""`pathtrain evaluate robustness`: do features follow the class, or the centre, scanner, stain, patient?

One pass of features, and of them the measures that are asked for, each in its own module:

    index       PathoROB's robustness index             margin      croma's MaRI, CRoMa and tail
    drop        its average performance drop, nIPD      clusters    its clustering score
    silhouette  by class and by column                  share       own share of the column against chance
    column      how well column and class are told      copies      the same tiles through scanners (PLISM)

Beside the model, on the same tiles, its start, random weights, colour and texture. Texture and colour,
whose units are arbitrary, are standardised.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathprep.words import counted
from pathtrain.data.tile_columns import Columns, Tiles
from pathtrain.data.whole_tiles import outcome
from pathtrain.evaluate.baselines import HANDMADE, MODEL, Beside
from pathtrain.evaluate.shifts import cohort as cohorts
from pathtrain.evaluate.shifts import drop as drops
from pathtrain.evaluate.shifts import separation, words
from pathtrain.evaluate.shifts.clusters import clustering, parts_of
from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.shifts.copies import Copies, retrieved
from pathtrain.evaluate.shifts.found import Found, joined
from pathtrain.evaluate.shifts.index import search
from pathtrain.evaluate.shifts.margin import margins
from pathtrain.evaluate.shifts.rows import scored
from pathtrain.evaluate.statistics import Floats, Ints, describe
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import preparation
from pathtrain.features.progress import TileProgress
from pathtrain.params.robustness import RobustnessParams
from pathtrain.runs.model import Model

PROTOCOL = (
    "PathoROB (arXiv 2507.17845): robustness index, average performance drop, clustering score; croma 1.0 "
    "(arXiv 2607.25497): MaRI, CRoMa, nIPD; plismbench (arXiv 2501.16239): cosine and top-k of copies"
)
LABELLED = ("index", "margin", "drop", "clusters")
BESIDE_GROUPS = ("index", "margin", "share", "column")  # of neighbours and tests in other groups
OVER = {"drop": "repeats", "clusters": "subsets", "copies": "tiles"}
Measure = Callable[[Floats], Found]


def robustness(model: Model, dataset: str | Path, by: str, **settings: Any) -> dict[str, Any]:
    """The result of ``robustness_scored``."""
    return robustness_scored(model, dataset, by, **settings).result


def robustness_scored(
    model: Model,
    dataset: str | Path,
    by: str,
    *,
    group: str | None = None,
    same: str | None = None,
    columns: str | Path | None = None,
    names: str | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    out: str | Path | None = None,
    **settings: Any,
) -> Scored:
    """Measure how far features follow a column beside the label; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        dataset: a dataset, a folder of images with a labels.csv, or Parquet of images.
        by: the column; with ``same`` also two, between commas.
        group: the column of groups; None: the data's own, and with ``same`` that.
        same: the column that says which tiles are copies of one.
        columns: a table with these columns, by slide, tile or file. names: a pattern on the files' names, or
            ``plism``; see pathtrain.data.tile_columns.
        labels: of datasets of slides; see pathtrain.data.tile_labels. label_origin: as ``knn`` takes it.
        out: a folder for figures, which is created; None: none.
        settings: of RobustnessParams, by their flat names: ``measures="index,drop", k=11``.

    Returns:
        JSON-able: what was done, ``results``: per kind of features its figures with 95 % intervals and the
        model's lead, ``sentences`` on what they mean; and the units of figures.

    Raises:
        UsageError: a column that nothing has, one value or class only, label and column that go together,
            or a measure that was asked for by name and that the data do not allow.
        ModelError, CheckpointError, DatasetError: the model or the data cannot be read.
    """
    params = build(RobustnessParams, settings)
    loaded = vectors_of(model, params.how)
    tiles = cohorts.opened(Path(dataset), loaded.target)
    where = Columns(None if columns is None else Path(columns), names)
    asked = [name.strip() for name in by.split(",")]
    if len(asked) > 2 or (len(asked) == 2 and same is None):
        raise UsageError(f"`by` {by}: give one column; two, scanner and stain, with `same` alone")
    cohort, order = cohorts.read(
        tiles, asked[0], where, group=group or same, labels=None if labels is None else Path(labels),
        origin=label_origin,
    )  # fmt: skip
    copies = None if same is None else _copies(tiles, where, asked, same, group, order)
    left = _impossible(cohort, copies, params)
    measures, about = _prepared(cohort, copies, params, left)
    beside = Beside.of(loaded, params.baselines, params.seed)
    progress = TileProgress(len(order), "encode")
    features = beside.encode(tiles, order, params.how, progress.advance)
    progress.line(f"{tiles.path}: {counted(len(order), 'tile')} with a {asked[0]}")
    progress.note(outcome(tiles))
    found = {name: joined([_all(measures, comparable(each, name)) for each in many])
             for name, many in features.items()}  # fmt: skip
    rows, units = scored(found, params.seed)
    done = [name for name in params.asked if name not in left and (name != "copies" or copies is not None)]
    result = {
        "task": "robustness",
        "protocol": PROTOCOL,
        "model": describe(loaded),
        "dataset": str(dataset),
        **preparation(loaded, params.how),
        "by": asked[0],
        "also": asked[1] if len(asked) == 2 else None,
        "same": same,
        "classes": cohort.classes,
        "values": cohort.values,
        "cells": None if cohort.labels is None else cohort.cells().tolist(),
        "cramers_v": None if cohort.labels is None else cohorts.cramers_v(cohort.cells()),
        "tiles": len(order),
        "groups": len(cohort.groups),
        "group_kind": cohort.kind,
        "apart": cohort.apart,
        "measures": done,
        "left_out": left,
        "intervals": {name: OVER.get(name, f"{cohort.kind}s") for name in done},
        "settings": _settings(params),
        "seed": params.seed,
        **about,
        "notes": notes(cohort),
        "baselines": beside.about,
        "results": rows,
    }
    result["sentences"] = words.said(result)
    if out is not None:
        from pathtrain.evaluate.shifts import pictures

        result["figures"] = pictures.write(Path(out), features[MODEL][0], cohort, result, params)
    return Scored(result, units)


def comparable(features: Floats, name: str) -> Floats:
    """Features as distances are taken of them."""
    return standardised(features) if name in HANDMADE else features


def standardised(features: Floats) -> Floats:
    """With mean 0 and SD 1."""
    mean, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    return np.asarray((features - mean) / sd, dtype=np.float32)


def notes(cohort: Cohort) -> list[str]:
    """What a reader should know of the data."""
    lines = []
    if cohort.apart == "tile":
        lines.append(
            f"The {cohort.by} is what the tiles are grouped by: neighbours of the same one count, and "
            f"only a tile "
            "itself is left out; that it is told from other groups' tiles cannot be measured."
        )
    elif cohort.kind == "tile":
        lines.append(
            "No patient, case or slide is known: neighbours from the same one count; give `group`, a "
            "column of them."
        )
    lonely = [] if cohort.labels is None else cohorts.lonely(cohort)
    if lonely:
        lines.append(
            f"{', '.join(lonely)}: at one value of {cohort.by} alone; its tiles cannot have a neighbour "
            f"of the class "
            "elsewhere, which lowers the index."
        )
    alone = cohorts.alone(cohort)
    if alone and not cohorts.unshared(cohort):
        lines.append(
            f"{', '.join(alone)}: in one {cohort.kind} alone; its tiles cannot have a neighbour of the "
            f"{cohort.by} elsewhere, which raises the index and lowers the own share."
        )
    return lines


def _copies(
    tiles: Tiles, where: Columns, by: Sequence[str], same: str, group: str | None, order: Ints
) -> Copies:
    def taken(column: str) -> list[str]:
        cells = where.of(tiles, column)
        return [cells[row] for row in order]

    owners = None if group is None else taken(group)
    return Copies.of(str(tiles.path), list(by), [taken(name) for name in by], taken(same), owners)


def _impossible(cohort: Cohort, copies: Copies | None, params: RobustnessParams) -> dict[str, str]:
    """Why measures cannot be had.

    Raises:
        UsageError: one of them was asked for by name.
    """
    reasons: dict[str, str] = {}
    if cohort.labels is None:
        reasons |= dict.fromkeys(LABELLED, "the tiles have no labels; give `labels`, or a column label")
    elif reason := cohorts.together(cohort):
        reasons |= dict.fromkeys(LABELLED, reason)
    if copies is None:
        reasons["copies"] = "give `same`, the column that says which tiles are the same"
    if cohort.apart == "tile":
        reasons["column"] = f"no {cohort.by} is in two groups; give `group`, a column of slides"
    if reason := cohorts.unshared(cohort):
        reasons = dict.fromkeys(BESIDE_GROUPS, reason) | reasons
    reasons = {name: reason for name, reason in reasons.items() if name in params.asked}
    if reasons and params.measures != "all":
        name = next(iter(reasons))
        raise UsageError(f"{cohort.source}: no {name}: {reasons[name]}")
    if copies is None:
        reasons.pop("copies", None)
    return reasons


def _prepared(
    cohort: Cohort, copies: Copies | None, params: RobustnessParams, left: dict[str, str]
) -> tuple[list[Measure], dict[str, Any]]:
    """Measures of features, and what results say of their data; adds to ``left``.

    Raises:
        UsageError: as the measures; a performance drop or clusters asked for by name that cannot be had.
    """
    wanted = [name for name in params.asked if name not in left and (name != "copies" or copies is not None)]
    measures: list[Measure] = []
    about: dict[str, Any] = {}
    near, seed = params.neighbours, params.seed
    if "index" in wanted or "margin" in wanted:

        def neighbourhood(features: Floats) -> Found:
            nears, k, found = search(features, cohort, near, seed)
            found = found if "index" in wanted else Found()
            return found | margins(features, cohort, nears, k) if "margin" in wanted else found

        measures.append(neighbourhood)
    if "drop" in wanted:
        try:
            plan = drops.plan(cohort, params.drop, seed)
        except drops.TooFew as reason:
            _refuse(cohort, "drop", reason, params, left)
        else:
            measures.append(lambda features: drops.drops(features, plan))
            about["drop"] = plan.about()
    if "clusters" in wanted:
        try:
            parts = parts_of(cohort, params.clusters, seed)
        except UsageError as reason:
            _refuse(cohort, "clusters", reason, params, left)
        else:
            measures.append(lambda features: clustering(features, cohort, parts, params.clusters))
    if "silhouette" in wanted:
        measures.append(lambda features: separation.silhouettes(features, cohort))
    if "share" in wanted:
        measures.append(lambda features: separation.shares(features, cohort, near.share_k))
    if "column" in wanted:
        measures.append(lambda features: separation.tells(features, cohort, seed))
    if copies is not None and "copies" in wanted:
        measures.append(lambda features: retrieved(features, copies))
        about["copies"] = copies.about()
    return measures, about


def _refuse(
    cohort: Cohort, name: str, reason: Exception, params: RobustnessParams, left: dict[str, str]
) -> None:
    if params.measures != "all":
        raise UsageError(f"{cohort.source}: no {name}: {reason}") from None
    left[name] = str(reason)


def _all(measures: Sequence[Measure], features: Floats) -> Found:
    found = Found()
    for measure in measures:
        found |= measure(features)
    return found


def _settings(params: RobustnessParams) -> dict[str, Any]:
    near, drop, clusters = params.neighbours, params.drop, params.clusters
    return {
        "design": near.design, "k": near.k, "most_k": near.most_k, "share_k": near.share_k,
        "in_domain": drop.in_domain, "drop_steps": drop.steps, "drop_repeats": drop.repeats,
        "drop_tiles": drop.tiles, "cluster_repeats": clusters.repeats, "most_clusters": clusters.most,
        "cluster_tiles": clusters.tiles,
    }  # fmt: skip

"""How far features and predictions move when a tile is perturbed: by stain, scanner, focus, format or MPP.

No data of several scanners is needed: the same tiles are changed by drawn perturbations of known strength
(pathtrain.evaluate.shifts.perturb_kinds), and what moves is measured beside how far apart tiles are
anyway (.perturb_scores). Random weights and colour stand beside the model: a network that tells nothing apart
can be as still as one likes, so look at retrieval and at predictions too.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathtrain.data.tile_labels import Labels, read_labels
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.evaluate.baselines import HANDMADE, MODEL, Beside
from pathtrain.evaluate.shifts.perturb_kinds import UNITS
from pathtrain.evaluate.shifts.perturb_scores import Base, Labelled, Moves, column, units_of
from pathtrain.evaluate.shifts.perturb_tiles import PerturbedTiles, stains
from pathtrain.evaluate.statistics import Ints, describe
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.units import Scored, Units, compared
from pathtrain.features.encode import preparation
from pathtrain.features.fitting import check_tiles
from pathtrain.features.progress import TileProgress
from pathtrain.params.perturbation import PerturbationParams
from pathtrain.runs.model import Model

BOUNDS = {
    "moved": (0.0, math.inf),
    "retrieval": (0.0, 1.0),
    "cosine": (-1.0, 1.0),
    "changed": (0.0, 1.0),
    "fall": (-1.0, 1.0),
}
PROTOCOL = "drawn perturbations of known strength on the same tiles, of this project"


def perturbation(
    model: Model,
    dataset: str | Path,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure how far features and predictions move under perturbations; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        dataset: a dataset, or a folder of labelled images.
        labels: of a dataset of slides; see pathtrain.data.tile_labels. Imported tiles and folders bring
            theirs.
        label_origin: see pathtrain.evaluate.tile_level.knn.
        out: folder for a table and a figure; None writes nothing.
        settings: of PerturbationParams, by their flat names: ``kinds="blur,jpeg:50/30", tiles=1000``.

    Returns:
        JSON-able: counts, ``perturbations`` (kind, strength, unit, and per features the figures), and
        ``results``: per features the means over all perturbations of ``moved``, ``retrieval``, ``cosine``,
        and with labels ``changed`` and ``fall``, each with a 95 % interval over groups, and the model's lead,
        which is better below 0 for ``moved``, ``changed`` and ``fall``; None where features tell no tiles
        apart.

    Raises:
        UsageError: labels or settings that do not fit, or blur without an MPP.
        ModelError, CheckpointError, DatasetError: the model or the dataset cannot be read.
    """
    return perturbation_scored(model, dataset, labels, label_origin, out, **settings).result


def perturbation_scored(
    model: Model,
    dataset: str | Path,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    out: str | Path | None = None,
    **settings: Any,
) -> Scored:
    """As ``perturbation``, with the units of its figures: a column per perturbation."""
    params = build(PerturbationParams, settings)
    model = vectors_of(model, params.how)
    tiles = open_tiles(Path(dataset), model.target)
    check_tiles(model, tiles, params.how)
    mpp = _mpp(tiles, params)
    labelled, why_not = _labels(tiles, labels, label_origin)
    order = _sample(tiles, labelled, params)
    votes, why_not = _votes(labelled, order, tiles, params, why_not)
    chosen = [(kind, strength) for kind, strengths in params.chosen().items() for strength in strengths]
    kinds = list(params.chosen())
    beside = Beside.of(model, params.baselines, params.seed)
    fits, foreign = stains(tiles, order, kinds)
    plain = [kind for kind in kinds if kind != "mpp"][:1]
    firsts = plain + ["mpp"] * ("mpp" in kinds)  # of MPPs the tile is its centre
    progress = TileProgress(len(order) * (len(firsts) + len(chosen)), "perturb")

    def encoded(kind: str, strength: float | None) -> dict[str, list[Any]]:
        source = PerturbedTiles(tiles, kind, strength, params.seed, fits, mpp)
        found = beside.encode(source, order, params.how, progress.advance)
        progress.line(f"{kind} {'unchanged' if strength is None else f'{strength:g}'}")
        progress.note(outcome(source) if strength is None else "")
        return found

    bases = {
        kind == "mpp": {
            name: [Base(each, tiles.group[order], votes, name in HANDMADE) for each in networks]
            for name, networks in encoded(kind, None).items()
        }
        for kind in firsts
    }
    moves: dict[str, list[list[Moves]]] = {}
    for kind, strength in chosen:
        for name, networks in encoded(kind, strength).items():
            pairs = zip(bases[kind == "mpp"][name], networks, strict=True)
            moves.setdefault(name, []).append([base.moves(after) for base, after in pairs])
    units = {name: units_of(each, tiles.group[order], tuple(tiles.groups)) for name, each in moves.items()}
    rows = _compared(units, params.seed)
    first = bases[firsts[0] == "mpp"]
    for row in rows:
        row["accuracy"] = _accuracy(first[row["name"]])
        row |= _ranges(moves[row["name"]], tiles.group[order], tuple(tiles.groups))
    result = {
        "task": "perturbation",
        "protocol": PROTOCOL,
        "model": describe(model),
        "dataset": str(dataset),
        **preparation(model, params.how),
        "precision": params.how.precision,
        "seed": params.seed,
        "classes": labelled.classes if votes is not None and labelled is not None else [],
        "labels_missing": why_not,
        "k": None if votes is None else votes.k,
        "tiles": len(order),
        "groups": len(np.unique(tiles.group[order])),
        "group_kind": tiles.kind,
        "mpp": mpp,
        "reference_stains": foreign,
        "paired": True,
        "baselines": beside.about,
        "perturbations": _each(units, chosen, params.seed),
        "results": rows,
    }
    if out is not None:
        from pathtrain.evaluate.shifts.perturb_output import write

        result["files"] = [str(path) for path in write(Path(out), result)]
    return Scored(result, {(name, key): found for name, each in units.items() for key, found in each.items()})


def _mpp(tiles: DatasetTiles | FolderTiles, params: PerturbationParams) -> float | None:
    """MPP of the tiles as they are stored, if it is known.

    Raises:
        UsageError: blur is asked for and it is not known.
    """
    found = params.mpp
    if found is None and isinstance(tiles, DatasetTiles):
        said = tiles.dataset.params.get("mpp")
        found = float(said) if isinstance(said, int | float) else None
    if found is None and "blur" in params.chosen():
        others = ",".join(kind for kind in params.chosen() if kind != "blur")
        raise UsageError(
            f"{tiles.path}: blur is in micrometres; give the tiles' `mpp`, or leave it out"
            + (f": `kinds` {others}" if others else "")
        )
    return found


def _labels(
    tiles: DatasetTiles | FolderTiles, labels: str | Path | None, origin: AskedOrigin
) -> tuple[Labels | None, str | None]:
    """Labels, or why there are none."""
    own = {label for label in tiles.labels or () if label}
    if labels is None and len(own) < 2:
        return None, "the tiles have labels of one class" if own else "the tiles have no labels"
    return read_labels([tiles], None if labels is None else Path(labels), origin), None


def _sample(tiles: DatasetTiles | FolderTiles, labelled: Labels | None, params: PerturbationParams) -> Ints:
    """Tiles that are measured, rising: random ones."""
    every = np.arange(len(tiles)) if labelled is None else np.flatnonzero(labelled.values[0] >= 0)
    if len(every) < 2:
        raise UsageError(f"{tiles.path}: holds one tile; two are needed to say how far apart tiles are")
    rng = np.random.default_rng(params.seed)
    return np.sort(rng.permutation(every)[: params.tiles]).astype(np.int64)


def _votes(
    labelled: Labels | None,
    order: Ints,
    tiles: DatasetTiles | FolderTiles,
    params: PerturbationParams,
    why_not: str | None,
) -> tuple[Labelled | None, str | None]:
    """Labels of the sample, with as many neighbours as may vote; or why there is no vote."""
    if labelled is None:
        return None, why_not
    values, group = labelled.values[0][order], tiles.group[order]
    most = len(order) - int(np.bincount(group).max())
    if len(np.unique(values)) < 2 or most < 1:
        return None, "the sampled tiles are of one class, or of one group"
    return Labelled(values, len(labelled.classes), min(params.k, most)), None


def _accuracy(networks: list[Base]) -> float | None:
    """Of the vote for unperturbed tiles; the mean over networks."""
    found = [right.mean() for each in networks if (right := each.right()) is not None]
    return float(np.mean(found)) if found else None


def _compared(units: dict[str, dict[str, Units]], seed: int) -> list[dict[str, Any]]:
    """A row per kind of features with all figures, over the units' columns."""
    rows: dict[str, dict[str, Any]] = {}
    for key in units[MODEL]:
        found = compared({name: each[key] for name, each in units.items()}, key, seed, BOUNDS[key])
        for name, row in found.items():
            into = rows.setdefault(name, {"name": name, "lead": None})
            lead = row.pop("lead")
            into |= {of: _known(value) for of, value in row.items()}
            if lead is not None:
                into["lead"] = {**(into["lead"] or {}), **{of: _known(value) for of, value in lead.items()}}
            rows[name] = into
    return list(rows.values())


def _ranges(moves: list[list[Moves]], group: Ints, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Of several networks ``{key}_range``: the lowest and highest figure of one."""
    networks = [[[each[number]] for each in moves] for number in range(len(moves[0]))]
    if len(networks) < 2:
        return {}
    each = [units_of(one, group, names) for one in networks]
    found = {}
    for key, unit in each[0].items():
        values = [float(one[key].figure(np.ones((1, len(unit.groups))))[0]) for one in each]
        if np.isfinite(values).all():
            found[f"{key}_range"] = [min(values), max(values)]
    return found


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _each(
    units: dict[str, dict[str, Units]], chosen: list[tuple[str, float]], seed: int
) -> list[dict[str, Any]]:
    """The figures of each perturbation alone."""
    found = []
    for number, (kind, strength) in enumerate(chosen):
        alone = {
            name: {key: column(unit, number) for key, unit in each.items()} for name, each in units.items()
        }
        about = {"kind": kind, "strength": strength, "unit": UNITS[kind]}
        found.append({**about, "results": _compared(alone, seed)})
    return found

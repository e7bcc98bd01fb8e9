"""Whether features depend on how a tile lies: it is turned by quarters and mirrored, which changes no tissue.

Of each tile and its seven other positions on the grid (three quarters, and the mirror image by four), means:

    cosine    between the features of the tile and of its copies
    centred   the same after the mean over tiles is taken off: features that are all alike have a cosine
              near 1 whatever they see
    found     share of the copies whose nearest tile, of all that were drawn, is the one that they are of
    changed   share of the copies that get another class than the tile, by the weighted vote of the nearest
              tiles of other slides or groups (knn); where tiles have labels. Lower is better

Tiles are turned after they are resized, as a network sees them.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathprep.words import counted
from pathtrain.data.tile_batches import batches
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, Tiles, open_tiles, outcome
from pathtrain.distributed.workers import cores
from pathtrain.evaluate.baselines import COLOUR, TEXTURE, Beside
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, describe, neighbours, unit
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.evaluate.tile_level.labelled import Set, group_names
from pathtrain.evaluate.tile_level.rows import Networks, per_tile
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import Passes, check_short, check_size, preparation
from pathtrain.features.fitting import check_tiles
from pathtrain.features.progress import TileProgress
from pathtrain.features.texture import COLOURS, PATTERNS
from pathtrain.params.encoding import How
from pathtrain.params.tile_level import InvarianceParams
from pathtrain.runs.model import Model

TURNS = 8  # of the square: four quarters, each also mirrored; the first leaves it as it is
BOUNDS = {"cosine": (-1.0, 1.0), "centred": (-1.0, 1.0)}


def invariance(
    model: Model,
    dataset: str | Path,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Measure how far a model's features depend on how a tile is turned; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        dataset: of tiles, or a folder of labelled images.
        labels, label_origin: as ``knn`` takes them; None: those that tiles bring, if any.
        settings: of InvarianceParams, by their flat names: ``tiles=200``.

    Returns:
        JSON-able: what was done, counts, and ``results``: per features the figures of the module's text with
        intervals over groups, of several networks the ``_range`` of each, and the model's
        lead. Without labels no row has ``changed``.

    Raises:
        UsageError: fewer than two tiles, or fewer than ``k`` of other groups to vote.
        ModelError, CheckpointError, DatasetError: the model or the tiles cannot be read.
    """
    return invariance_scored(model, dataset, labels, label_origin, **settings).result


def invariance_scored(
    model: Model,
    dataset: str | Path,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> Scored:
    """``invariance``, with the units of its rows."""
    params = build(InvarianceParams, settings)
    model = vectors_of(model, params.how)
    source = open_tiles(dataset, model.target)
    known, classes = _labels(source, labels, label_origin)
    usable = np.arange(len(source)) if known is None else np.flatnonzero(known >= 0)
    if len(usable) < 2:
        raise UsageError(f"{dataset}: {counted(len(usable), 'tile')}; two are needed to tell them apart")
    order = np.sort(np.random.default_rng(params.seed).permutation(usable)[: params.number])
    group = source.groups_of(order) if isinstance(source, DatasetTiles) else source.group[order]
    drawn = Set({}, np.zeros(len(order), np.int64) if known is None else known[order], group)
    if known is not None:
        allowed = len(order) - int(np.bincount(group).max())
        if params.k > allowed:
            raise UsageError(f"`k` {params.k}: must be 1 to {allowed}, the number of tiles that may vote")
    beside = Beside.of(model, params.baselines, params.seed)
    features = turned(beside, source, order, params.how)
    groups, places = group_names(drawn, source.groups)
    made = Networks()
    for name, each in features.items():
        found = [measure(one, drawn, None if known is None else len(classes), params.k) for one in each]
        for key in found[0]:
            made.add(name, key, [one[key] for one in found], lambda each: per_tile(each, groups, places))
    result = {
        "task": "invariance",
        "protocol": "quarter turns and mirror images of each tile",
        "model": describe(model),
        "dataset": str(dataset),
        **preparation(model, params.how),
        "precision": params.how.precision,
        "k": None if known is None else params.k,
        "seed": params.seed,
        "classes": classes,
        "tiles": len(order),
        "groups": len(groups),
        "group_kind": source.kind,
        "baselines": beside.about,
        "results": made.rows(params.seed, BOUNDS),
    }
    return Scored(result, made.units)


def _labels(
    source: DatasetTiles | FolderTiles, labels: str | Path | None, origin: AskedOrigin
) -> tuple[Ints | None, list[str]]:
    """Class numbers (N,) of all tiles, and the classes; None where nobody labelled them."""
    own = {label for label in source.labels or () if label}
    if labels is None and len(own) < 2:
        return None, []
    found = read_labels([source], None if labels is None else Path(labels), origin)
    return found.values[0], found.classes


def turn(pixels: Tensor, number: int) -> Tensor:
    """Images (B, H, H, 3) by quarters, ``number`` 0 to 3; 4 to 7 mirrored first."""
    mirrored = pixels.flip(2) if number >= 4 else pixels
    return torch.rot90(mirrored, number % 4, (1, 2)).contiguous()


def turned(beside: Beside, tiles: Tiles, order: Ints, how: How) -> dict[str, list[Floats]]:
    """Features of the tiles in ``order`` in every position: name -> (TURNS, M, D) of each network."""
    models = [model for each in beside.networks.values() for model in each]
    size, lbp = check_size(models[0], how.size), TEXTURE in beside.handmade
    check_short(how, size)
    check_tiles(models[0], tiles, how)
    arrays = [np.empty((TURNS, len(order), *model.shape(size)), dtype=np.float32) for model in models]
    pixels_say = np.empty((TURNS, len(order), COLOURS + PATTERNS * lbp), dtype=np.float32)
    progress, done = TileProgress(len(order) * TURNS, "encode"), 0
    with Passes(models, how, lbp) as passes:
        for pixels in batches(
            tiles,
            order,
            size=size,
            batch=how.batch,
            threads=how.threads or cores(),
            short=how.short,
            pinned=passes.on_card,
        ):
            part = slice(done, done + len(pixels))
            for number in range(TURNS):
                now = turn(pixels, number)
                passes.add(
                    now.pin_memory() if passes.on_card else now,
                    [array[number, part] for array in arrays],
                    partial(progress.advance, len(pixels)),
                    colour=pixels_say[number, part],
                )
            done = part.stop
    progress.line(f"{tiles.path}: {counted(len(order), 'tile')} in {TURNS} positions")
    progress.note(outcome(tiles))
    rest = iter(arrays)
    features = {name: [next(rest) for _ in each] for name, each in beside.networks.items()}
    whole = {COLOUR: pixels_say[..., :COLOURS], TEXTURE: pixels_say}
    return features | {name: [_standard(whole[name])] for name in beside.handmade}


def _standard(values: Floats) -> Floats:
    """Handmade features with mean 0 and SD 1 over the tiles as they lie."""
    mean_, sd = values[0].mean(axis=0), np.maximum(values[0].std(axis=0), 1e-6)
    return np.asarray((values - mean_) / sd, dtype=np.float32)


def measure(features: Floats, drawn: Set, classes: int | None, k: int) -> dict[str, Doubles]:
    """The figures of each tile (M,).

    Args:
        features: (TURNS, M, D), first as the tiles lie.
        drawn: labels and groups of the tiles.
        classes: how many; None without labels.
        k: neighbours that vote.
    """
    own, copies = features[0], features[1:]
    middle = own.mean(axis=0)
    found = {
        "cosine": np.mean([_cosine(own, each) for each in copies], axis=0),
        "centred": np.mean([_cosine(own - middle, each - middle) for each in copies], axis=0),
    }
    rows = np.arange(len(own))
    nearest = [_nearest(own, each) == rows for each in copies]
    found["found"] = np.mean(nearest, axis=0)
    if classes is not None:
        banned = lambda part: drawn.group[part, None] == drawn.group[None, :]  # noqa: E731
        guesses = [vote(own, drawn.labels, each, k, classes, banned) for each in features]
        found["changed"] = np.mean([guess != guesses[0] for guess in guesses[1:]], axis=0)
    return {key: np.asarray(values, dtype=np.float64) for key, values in found.items()}


def _cosine(one: Floats, other: Floats) -> Doubles:
    return np.asarray((unit(one).astype(np.float64) * unit(other)).sum(axis=1), dtype=np.float64)


def _nearest(bank: Floats, queries: Floats) -> Ints:
    """(M,) number of the row of the bank with the highest cosine; of equals that of the same number."""
    nearest = np.empty(len(queries), dtype=np.int64)
    same = np.arange(len(bank))
    none = lambda part: np.zeros((part.stop - part.start, len(bank)), dtype=bool)  # noqa: E731
    exact = (unit(bank) * unit(queries)).sum(axis=1)
    for part, similarity, rows in neighbours(bank, queries, 1, none):
        # tiles that are alike to rounding cannot be told apart
        ties = exact[part] >= similarity[:, 0] - 1e-6
        nearest[part] = np.where(ties, same[part], rows[:, 0])
    return nearest

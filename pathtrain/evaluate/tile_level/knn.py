"""How well neighbours in feature space share a tile's label, beside what colour alone and chance give.

DINO's weighted vote (Caron et al. 2021, eval_knn.py; Wu et al. 2018): each of the k nearest training
tiles by cosine votes for its label with weight exp(similarity / 0.07). Without a test set every tile is
a query, and neighbours from its own slide (or group) do not count.

Beside the model, by the same vote, its baselines: see pathtrain.evaluate.baselines.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.statistics import Doubles, Flags, Floats, Ints, describe, neighbours
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level import calibration
from pathtrain.evaluate.tile_level.labelled import Set, comparable, encode_sets, score, units_of
from pathtrain.evaluate.tile_level.sides import open_sides
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import preparation
from pathtrain.params.evaluation import KnnParams
from pathtrain.runs.model import Model

TEMPERATURE = 0.07  # eval_knn.py's default


def knn(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by the labels of its tiles' neighbours; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        train: a dataset or a folder of labelled images.
        test: another; None takes the set's own split, or leaves one slide out at a time.
        labels: of the datasets among them; see pathtrain.data.tile_labels.
        label_origin: of GeoJSON that does not say its own, on slides with bounds: ``bounds`` as QuPath
            counts, ``slide`` as OpenSlide; ``auto`` asks.
        settings: of KnnParams, by their flat names: ``k=5, device="cuda"``.

    Returns:
        JSON-able: protocol, classes, counts, majority rate, ``baselines`` (what each is, or why it is
        missing), and ``results``: per features accuracy, balanced accuracy (mean recall), both with a 95 %
        interval over slides or groups, recall per class, calibration of the votes' shares
        (pathtrain.evaluate.tile_level.calibration), and the model's lead over them; see labelled.score.

    Raises:
        UsageError: labels that do not fit, a group in both train and test, a class only in test, or k
            larger than the number of tiles that may vote.
        ModelError, CheckpointError, DatasetError: the model or a dataset cannot be read.
    """
    return knn_scored(model, train, test, labels, label_origin, **settings).result


def knn_scored(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> Scored:
    """``knn``, with the units of its rows."""
    params = build(KnnParams, settings)
    model = vectors_of(model, params.how)
    k, seed = params.k, params.seed
    sides = open_sides(train, None, test, labels, label_origin, model.target).pair()
    alone, classes = len(sides.names) == 1, sides.labels.classes
    scored = sides.of(sides.scored)[0]
    beside = Beside.of(model, params.baselines, seed)
    sets = encode_sets(beside, sides.sources, sides.labels, params.how)
    bank, queries = sets[0], sets[-1]
    banned = _own_group(bank) if alone else None
    _check_k(bank, k, leave_out=alone)
    majority = int(np.bincount(bank.labels).argmax())
    shares = {
        name: np.stack(
            [
                votes(vectors, bank.labels, points, k, len(classes), banned)[None]
                for vectors, points in comparable(bank, queries, name)
            ]
        )
        for name in bank.features
    }
    guesses = {name: np.asarray(each.argmax(axis=3), dtype=np.int64) for name, each in shares.items()}
    own, units = calibration.calibrated(shares, queries, seed, scored.groups)
    result = {
        "task": "knn",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        "protocol": f"leave one {scored.kind} out" if alone else sides.said,
        **preparation(model, params.how),
        "k": k,
        "temperature": TEMPERATURE,
        "classes": classes,
        "absent": [] if alone else sides.absent(),
        "train_tiles": len(bank.labels),
        "test_tiles": len(queries.labels),
        "groups": len(np.unique(queries.group)),
        "group_kind": scored.kind,
        "majority": float((queries.labels == majority).mean()),
        "baselines": beside.about,
        "results": calibration.joined(score(guesses, queries, classes, seed), own),
    }
    return Scored(result, {**units_of(guesses, queries, len(classes), scored.groups), **units})


def vote(
    bank: Floats,
    labels: Ints,
    queries: Floats,
    k: int,
    classes: int,
    banned: Callable[[slice], Flags] | None = None,
) -> Ints:
    """Class of each query by the weighted vote of its k nearest rows of ``bank``.

    Args:
        bank: (N, D).
        labels: (N,) class numbers of the bank's rows.
        queries: (M, D).
        k: neighbours.
        classes: number of classes.
        banned: given a slice of queries, (B, N) bool: rows that may not vote; None lets all vote.

    Returns:
        (M,) int64; of classes with equal votes, the lowest number.
    """
    return np.asarray(votes(bank, labels, queries, k, classes, banned).argmax(axis=1), dtype=np.int64)


def votes(
    bank: Floats,
    labels: Ints,
    queries: Floats,
    k: int,
    classes: int,
    banned: Callable[[slice], Flags] | None = None,
) -> Doubles:
    """(M, C) shares of the weighted votes, as ``vote`` takes them; those of a tile add up to 1."""
    none = banned or (lambda part: np.zeros((part.stop - part.start, len(bank)), dtype=bool))
    shares = np.empty((len(queries), classes))
    for part, similarity, rows in neighbours(bank, queries, k, none):
        # The largest similarity is taken out of the exponent: the same winner, and no overflow
        weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)
        found = np.zeros((len(rows), classes))
        np.add.at(found, (np.arange(len(rows))[:, None], labels[rows]), weights)
        shares[part] = found / found.sum(axis=1, keepdims=True)
    return shares


def _check_k(bank: Set, k: int, leave_out: bool) -> None:
    largest = int(np.bincount(bank.group).max()) if leave_out else 0
    allowed = len(bank.labels) - largest
    if not 1 <= k <= allowed:
        raise UsageError(f"`k` {k}: must be 1 to {allowed}, the number of labelled tiles that may vote")


def _own_group(bank: Set) -> Callable[[slice], Flags]:
    return lambda part: bank.group[part, None] == bank.group[None, :]

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
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.statistics import Flags, Floats, Ints, describe, neighbours
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.labelled import Set, check_split, comparable, encode_sets, score
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
        test: another; None leaves one slide out at a time.
        labels: of the datasets among them; see pathtrain.data.tile_labels.
        label_origin: of GeoJSON that does not say its own, on slides with bounds: ``bounds`` as QuPath
            counts, ``slide`` as OpenSlide; ``auto`` asks.
        settings: of KnnParams, by their flat names: ``k=5, device="cuda"``.

    Returns:
        JSON-able: protocol, classes, counts, majority rate, ``baselines`` (what each is, or why it is
        missing), and ``results``: per features accuracy, balanced accuracy (mean recall), both with a 95 %
        interval over slides or groups, recall per class, and the model's lead over them; see labelled.score.

    Raises:
        UsageError: labels that do not fit, a group in both train and test, a class only in test, or k
            larger than the number of tiles that may vote.
        ModelError, CheckpointError, DatasetError: the model or a dataset cannot be read.
    """
    params = build(KnnParams, settings)
    model = vectors_of(model, params.how)
    k, seed = params.k, params.seed
    sources = [open_tiles(Path(path), model.target) for path in (train, test) if path is not None]
    found = read_labels(sources, None if labels is None else Path(labels), label_origin)
    if test is not None:
        check_split(sources, found)
    beside = Beside.of(model, params.baselines, seed)
    sets = encode_sets(beside, sources, found, params.how)
    bank, queries = sets[0], sets[-1]
    banned = _own_group(bank) if test is None else None
    _check_k(bank, k, leave_out=test is None)
    majority = int(np.bincount(bank.labels).argmax())
    guesses = {
        name: np.stack(
            [
                vote(vectors, bank.labels, points, k, len(found.classes), banned)[None]
                for vectors, points in comparable(bank, queries, name)
            ]
        )
        for name in bank.features
    }
    return {
        "task": "knn",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        "protocol": "train to test" if test is not None else f"leave one {sources[0].kind} out",
        **preparation(model, params.how),
        "k": k,
        "temperature": TEMPERATURE,
        "classes": found.classes,
        "train_tiles": len(bank.labels),
        "test_tiles": len(queries.labels),
        "groups": len(np.unique(queries.group)),
        "group_kind": sources[-1].kind,
        "majority": float((queries.labels == majority).mean()),
        "baselines": beside.about,
        "results": score(guesses, queries, found.classes, seed),
    }


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
    none = banned or (lambda part: np.zeros((part.stop - part.start, len(bank)), dtype=bool))
    guesses = np.empty(len(queries), dtype=np.int64)
    for part, similarity, rows in neighbours(bank, queries, k, none):
        # The largest similarity is taken out of the exponent: the same winner, and no overflow
        weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)
        votes = np.zeros((len(rows), classes))
        np.add.at(votes, (np.arange(len(rows))[:, None], labels[rows]), weights)
        guesses[part] = votes.argmax(axis=1)
    return guesses


def _check_k(bank: Set, k: int, leave_out: bool) -> None:
    largest = int(np.bincount(bank.group).max()) if leave_out else 0
    allowed = len(bank.labels) - largest
    if not 1 <= k <= allowed:
        raise UsageError(f"`k` {k}: must be 1 to {allowed}, the number of labelled tiles that may vote")


def _own_group(bank: Set) -> Callable[[slice], Flags]:
    return lambda part: bank.group[part, None] == bank.group[None, :]

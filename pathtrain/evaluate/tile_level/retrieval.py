"""What a search by image finds: whether the nearest tiles of other slides have a tile's class.

    acc_K    one of the K nearest at least has the class (UNI's Acc@K): K of 1, 3, 5
    mv_K     the majority of the K nearest has it (Yottixel's, UNI's MVAcc@5): K of 3, 5; of equal votes the
             class of the nearest tile among them
    map      mean average precision of the k nearest: of each, the precision at the places with the right
             class, summed, by the number that could be right, at most k
    mv_5_balanced    mv_5 as the mean over classes

By cosine. Without a test side every tile is a query, and tiles of its own slide or group are not found.
Queries whose class no such tile has could not be right: they are left out, and counted. ``chance`` is acc_1
of a random order.
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
from pathtrain.evaluate.tile_level.labelled import Set, comparable, encode_sets, group_names
from pathtrain.evaluate.tile_level.rows import Networks, per_class, per_tile
from pathtrain.evaluate.tile_level.sides import open_sides
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import preparation
from pathtrain.params.tile_level import RetrievalParams
from pathtrain.runs.model import Model

ANY, MAJORITY = (1, 3, 5), (3, 5)
KEYS = (*(f"acc_{k}" for k in ANY), *(f"mv_{k}" for k in MAJORITY), "map")


def retrieval(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by the classes of the tiles that are nearest to each; see the module's text.

    Args:
        model, labels, label_origin: as ``knn`` takes them.
        train: what is searched.
        test: queries; None takes the set's own split, or all of ``train`` against other groups.
        settings: of RetrievalParams, by their flat names: ``k=20``.

    Returns:
        JSON-able: what was done, counts, ``chance``, and ``results``: per features the figures of the
        module's text with intervals over groups, of several networks the ``_range`` of each, and the model's
        lead.

    Raises:
        UsageError: as ``knn``; or fewer than ``k`` tiles may be found.
    """
    return retrieval_scored(model, train, test, labels, label_origin, **settings).result


def retrieval_scored(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> Scored:
    """``retrieval``, with the units of its rows."""
    params = build(RetrievalParams, settings)
    model = vectors_of(model, params.how)
    sides = open_sides(train, None, test, labels, label_origin, model.target).pair()
    alone, classes = len(sides.names) == 1, sides.labels.classes
    scored = sides.of(sides.scored)[0]
    beside = Beside.of(model, params.baselines, params.seed)
    sets = encode_sets(beside, sides.sources, sides.labels, params.how)
    bank, queries = sets[0], sets[-1]
    largest = int(np.bincount(bank.group).max()) if alone else 0
    if params.k > len(bank.labels) - largest:
        raise UsageError(
            f"`k` {params.k}: {len(bank.labels) - largest} tiles may be found; give 5 to that many"
        )
    relevant = _relevant(bank, queries, len(classes), alone)
    asked = np.flatnonzero(relevant > 0)
    if not len(asked):
        raise UsageError(f"{train}: no class has tiles in two {scored.kind}s; nothing could be found")
    left, every = len(queries.labels) - len(asked), queries
    queries = queries.take(asked)
    groups, group = group_names(queries, scored.groups)
    banned = _own_group(bank, queries) if alone else None
    made = Networks()
    by_class = lambda right: per_class(right, queries.labels, len(classes), groups, group)  # noqa: E731
    for name in bank.features:
        found = [
            search(vectors, bank.labels, points, queries.labels, relevant[asked], params.k, banned)
            for vectors, points in comparable(bank, queries, name)
        ]
        for key in KEYS:
            values = [each[key] for each in found]
            made.add(name, key, values, lambda each: per_tile(each, groups, group))
            if key == "mv_5":
                made.add(name, "mv_5_balanced", values, by_class)
    result = {
        "task": "retrieval",
        "protocol": f"by cosine; {f'other {scored.kind}s' if alone else sides.said}",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        **preparation(model, params.how),
        "precision": params.how.precision,
        "k": params.k,
        "seed": params.seed,
        "classes": classes,
        "absent": [] if alone else sides.absent(),
        "train_tiles": len(bank.labels),
        "test_tiles": len(queries.labels),
        "left_out_tiles": left,
        "groups": len(groups),
        "group_kind": scored.kind,
        "chance": float((relevant[asked] / _allowed(bank, every, alone)[asked]).mean()),
        "baselines": beside.about,
        "results": made.rows(params.seed),
    }
    return Scored(result, made.units)


def search(
    bank: Floats,
    labels: Ints,
    queries: Floats,
    wanted: Ints,
    relevant: Ints,
    k: int,
    banned: Callable[[slice], Flags] | None = None,
) -> dict[str, Doubles]:
    """The figures of each query (M,), by KEYS.

    Args:
        bank: (N, D), labels: (N,) class numbers.
        queries: (M, D), wanted: (M,) class numbers, relevant: (M,) how many tiles could be right.
        k: of mean average precision.
        banned: given a slice of queries, (B, N): tiles that may not be found; None: all may be.
    """
    none = banned or (lambda part: np.zeros((part.stop - part.start, len(bank)), dtype=bool))
    found = {key: np.zeros(len(queries)) for key in KEYS}
    for part, _, rows in neighbours(bank, queries, k, none):
        classes, own = labels[rows], wanted[part, None]
        right = classes == own
        for number in ANY:
            found[f"acc_{number}"][part] = right[:, :number].any(axis=1)
        for number in MAJORITY:
            found[f"mv_{number}"][part] = majority(classes[:, :number]) == own[:, 0]
        precision = np.cumsum(right, axis=1) / np.arange(1, k + 1)
        found["map"][part] = (precision * right).sum(axis=1) / np.minimum(relevant[part], k)
    return found


def majority(classes: Ints) -> Ints:
    """(B,) the most frequent class of each row (B, K) of neighbours, nearest first; of equals the nearest."""
    votes = (classes[:, :, None] == classes[:, None, :]).sum(axis=2)
    return np.asarray(classes[np.arange(len(classes)), votes.argmax(axis=1)], dtype=np.int64)


def _own_group(bank: Set, queries: Set) -> Callable[[slice], Flags]:
    return lambda part: queries.group[part, None] == bank.group[None, :]


def _relevant(bank: Set, queries: Set, classes: int, alone: bool) -> Ints:
    """(M,) tiles of each query's class that it may find."""
    found = np.bincount(bank.labels, minlength=classes)[queries.labels]
    if alone:
        own = np.zeros((int(bank.group.max()) + 1, classes), dtype=np.int64)
        np.add.at(own, (bank.group, bank.labels), 1)
        found = found - own[queries.group, queries.labels]
    return np.asarray(found, dtype=np.int64)


def _allowed(bank: Set, queries: Set, alone: bool) -> Ints:
    """(M,) tiles that each query may find."""
    return len(bank.labels) - (np.bincount(bank.group)[queries.group] if alone else 0 * queries.labels)

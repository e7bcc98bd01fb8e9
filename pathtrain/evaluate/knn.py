"""How well neighbours in feature space share a tile's label, beside what colour alone and chance give.

DINO's weighted vote (Caron et al. 2021, eval_knn.py; Wu et al. 2018): each of the k nearest training
tiles by cosine votes for its label with weight exp(similarity / 0.07). Without a test set every tile is
a query, and neighbours from its own slide (or group) do not count.

Beside the model, by the same vote on the same tiles: the same architecture with random weights, and six
numbers per tile, the mean and SD of red, green and blue, each standardised on the training tiles. If the
model normalises stain, all of them see normalised tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathtrain.data.labels import Labels, read_labels
from pathtrain.data.tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.encode import How, TileProgress, encode
from pathtrain.evaluate.common import Flags, Floats, Ints, describe, interval, neighbours
from pathtrain.models.load import LoadedModel, untrained

TEMPERATURE = 0.07  # eval_knn.py's default
Tiles = DatasetTiles | FolderTiles


@dataclass(frozen=True)
class Set:
    """Labelled tiles of one source.

    Attributes:
        features: name of the features -> (N, D).
        labels: (N,) int64, class numbers.
        group: (N,) int64, slide or group.
    """

    features: dict[str, Floats]
    labels: Ints
    group: Ints


def knn(
    model: LoadedModel,
    train: Path,
    test: Path | None = None,
    labels: Path | None = None,
    *,
    k: int = 20,
    seed: int = 0,
    how: How | None = None,
) -> dict[str, Any]:
    """Score a model; see the module's text.

    Args:
        model: the encoder.
        train: a dataset or a folder of labelled images.
        test: another; None leaves one slide out at a time.
        labels: of the datasets among them; see pathtrain.data.labels.
        k: neighbours that vote.
        seed: of the random weights and of the bootstrap.
        how: size, batch, threads, device.

    Returns:
        JSON-able: protocol, classes, counts, majority rate, and per features accuracy, balanced accuracy
        (mean recall), both with a 95 % bootstrap interval over slides or groups, and recall per class.

    Raises:
        UsageError: labels that do not fit, a group in both train and test, a class only in test, or k
            larger than the number of tiles that may vote.
    """
    sources = [open_tiles(path, model.target) for path in (train, test) if path is not None]
    found = read_labels(sources, labels)
    if test is not None:
        _check_split(sources, found)
    sets = _encode(model, sources, found, seed, how or How())
    bank, queries = sets[0], sets[-1]
    banned = _own_group(bank) if test is None else None
    _check_k(bank, k, leave_out=test is None)
    majority = int(np.bincount(bank.labels).argmax())
    results = []
    for name in bank.features:
        vectors, points = _standardise(bank, queries, name) if name == "colour" else (bank, queries)
        guesses = vote(
            vectors.features[name], bank.labels, points.features[name], k, len(found.classes), banned
        )
        results.append({"name": name, **_score(guesses, queries, found.classes, seed)})
    return {
        "task": "knn",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        "protocol": "train to test" if test is not None else f"leave one {sources[0].kind} out",
        "k": k,
        "temperature": TEMPERATURE,
        "classes": found.classes,
        "train_tiles": len(bank.labels),
        "test_tiles": len(queries.labels),
        "groups": len(np.unique(queries.group)),
        "group_kind": sources[-1].kind,
        "majority": float((queries.labels == majority).mean()),
        "results": results,
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


def _encode(model: LoadedModel, sources: list[Tiles], labels: Labels, seed: int, how: How) -> list[Set]:
    models = [model, untrained(model, seed)]
    orders = [np.flatnonzero(values >= 0) for values in labels.values]
    sets = []
    with TileProgress(sum(map(len, orders)), "encode") as progress:
        for tiles, order, values in zip(sources, orders, labels.values, strict=True):
            features, colour = encode(models, tiles, order, how, progress.advance)
            named = {"model": features[0], "random weights": features[1], "colour": colour}
            sets.append(Set(named, values[order], tiles.group[order]))
            progress.line(f"{tiles.path}: {len(order)} labelled tiles")
            progress.note(outcome(tiles))
    return sets


def _check_split(sources: list[Tiles], labels: Labels) -> None:
    train, test = sources
    shared = sorted(set(train.groups) & set(test.groups))
    if shared:
        raise UsageError(
            f"{test.path}: shares {train.kind} {shared[0]} with {train.path} ({len(shared)} in all); "
            "tiles of one slide or group are alike, so none may be on both sides: split by slide or group"
        )
    missing = set(labels.values[1][labels.values[1] >= 0]) - set(labels.values[0])
    if missing:
        name = labels.classes[min(missing)]
        raise UsageError(f"{test.path}: class {name} has no tile in {train.path}; label some or leave it out")


def _check_k(bank: Set, k: int, leave_out: bool) -> None:
    largest = int(np.bincount(bank.group).max()) if leave_out else 0
    allowed = len(bank.labels) - largest
    if not 1 <= k <= allowed:
        raise UsageError(f"--k {k}: must be 1 to {allowed}, the number of labelled tiles that may vote")


def _own_group(bank: Set) -> Callable[[slice], Flags]:
    return lambda part: bank.group[part, None] == bank.group[None, :]


def _standardise(bank: Set, queries: Set, name: str) -> tuple[Set, Set]:
    values = bank.features[name]
    mean, sd = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    scaled = [Set({name: (s.features[name] - mean) / sd}, s.labels, s.group) for s in (bank, queries)]
    return scaled[0], scaled[1]


def _score(guesses: Ints, queries: Set, classes: list[str], seed: int) -> dict[str, Any]:
    groups, group = np.unique(queries.group, return_inverse=True)
    right = np.zeros((len(groups), len(classes)))
    total = np.zeros_like(right)
    np.add.at(total, (group, queries.labels), 1)
    np.add.at(right, (group, queries.labels), guesses == queries.labels)

    def accuracy(sample: Ints) -> float:
        return float(right[sample].sum() / total[sample].sum())

    def balanced(sample: Ints) -> float:
        counts = total[sample].sum(axis=0)
        present = counts > 0
        return float((right[sample].sum(axis=0)[present] / counts[present]).mean())

    everything = np.arange(len(groups))
    return {
        "accuracy": accuracy(everything),
        "accuracy_interval": interval(accuracy, len(groups), seed),
        "balanced": balanced(everything),
        "balanced_interval": interval(balanced, len(groups), seed),
        "per_class": {
            name: {"tiles": int(count), "recall": float(hits / count) if count else None}
            for name, count, hits in zip(classes, total.sum(axis=0), right.sum(axis=0), strict=True)
        },
    }

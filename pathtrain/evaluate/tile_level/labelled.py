"""Labelled tiles of a training and a test side: features, splits without a shared group, and scores.

Beside the model, on the same tiles: the same architecture with random weights, and six numbers per tile,
the mean and SD of red, green and blue. If the model normalises stain, all of them see normalised tiles.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from pathprep.errors import UsageError
from pathprep.storage.place import storage_at
from pathtrain.data.tile_labels import Labels
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, outcome
from pathtrain.evaluate.statistics import Floats, Ints, interval
from pathtrain.features.encode import encode
from pathtrain.features.progress import TileProgress
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel, untrained

Tiles = DatasetTiles | FolderTiles
FOLDS = 5  # one of them is held out: 80:20
NAMED = 3  # shared groups that an error names


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

    def take(self, rows: Ints) -> "Set":
        """Some of the tiles."""
        features = {name: values[rows] for name, values in self.features.items()}
        return Set(features, self.labels[rows], self.group[rows])


def encode_sets(model: LoadedModel, sources: list[Tiles], labels: Labels, seed: int, how: How) -> list[Set]:
    """Every source's labelled tiles as ``model``, ``random weights`` and ``colour``."""
    models = [model, untrained(model, seed)]
    orders = [np.flatnonzero(values >= 0) for values in labels.values]
    sets = []
    progress = TileProgress(sum(map(len, orders)), "encode")
    for tiles, order, values in zip(sources, orders, labels.values, strict=True):
        features, colour = encode(models, tiles, order, how, progress.advance)
        named = {"model": features[0], "random weights": features[1], "colour": colour}
        sets.append(Set(named, values[order], tiles.group[order]))
        progress.line(f"{tiles.path}: {len(order)} labelled tiles")
        progress.note(outcome(tiles))
    return sets


def check_split(sources: list[Tiles], labels: Labels) -> None:
    """Refuse a test set that shares a group with the training set, or has a class of its own.

    Raises:
        UsageError: it does; some of the groups, or the class, are named.
    """
    train, test = sources
    if storage_at(train.path).absolute == storage_at(test.path).absolute:
        raise UsageError(f"{test.path}: is both training and test set; leave `test` out to split it by group")
    shared = sorted(_groups(train) & _groups(test))
    if shared:
        named = f"{train.kind}{'s' if len(shared) > 1 else ''} {', '.join(shared[:NAMED])}"
        raise UsageError(
            f"{test.path}: shares {named} with {train.path} ({len(shared)} in all); "
            "tiles of one slide or group are alike, so none may be on both sides: split by slide or group"
        )
    missing = set(labels.values[1][labels.values[1] >= 0]) - set(labels.values[0])
    if missing:
        name = labels.classes[min(missing)]
        raise UsageError(f"{test.path}: class {name} has no tile in {train.path}; label some or leave it out")


def _groups(tiles: Tiles) -> set[str]:
    """Files of two folders may have one name and yet differ, so they are no groups."""
    return set() if isinstance(tiles, FolderTiles) and not tiles.grouped else set(tiles.groups)


def hold_out(tiles: Set, classes: Sequence[str], source: Tiles, seed: int) -> tuple[Set, Set]:
    """A fifth of the tiles set aside, whole groups, the classes' shares kept as far as groups allow.

    Raises:
        UsageError: there are too few groups for every class to be in the larger part.
    """
    rows, groups = np.arange(len(tiles.labels)), np.unique(tiles.group)
    few = UsageError(
        f"{source.path}: {len(groups)} {source.kind}s cannot be split 80:20 with every class in the larger "
        "part; label more, or give `test`"
    )
    if len(groups) < 2:
        raise few
    try:
        if len(groups) == len(rows):  # every tile for itself: the same without a search over groups
            splitter = StratifiedShuffleSplit(1, test_size=1 / FOLDS, random_state=seed)
            large, small = next(splitter.split(rows, tiles.labels))
        else:
            folds = StratifiedGroupKFold(min(FOLDS, len(groups)), shuffle=True, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a class with fewer tiles than folds
                large, small = next(folds.split(rows, tiles.labels, tiles.group))
    except ValueError:
        raise few from None
    if len(np.unique(tiles.labels[large])) < len(classes) or not len(small):
        raise few
    return tiles.take(large), tiles.take(small)


def standardise(bank: Set, queries: Set, name: str) -> tuple[Floats, Floats]:
    """Features of both sides with mean 0 and SD 1 on the first."""
    values = bank.features[name]
    mean, sd = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    return (values - mean) / sd, (queries.features[name] - mean) / sd


def score(guesses: Ints, queries: Set, classes: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracy and balanced accuracy (mean recall) with 95 % bootstrap intervals over groups, and recalls.

    Args:
        guesses: (R, M) class numbers of R repeats, such as seeds; figures are means over them.
        queries: M tiles.
        classes: their names.
        seed: of the bootstrap.
    """
    groups, group = np.unique(queries.group, return_inverse=True)
    right = np.zeros((len(groups), len(classes)))
    total = np.zeros_like(right)
    np.add.at(total, (group, queries.labels), 1)
    np.add.at(right, (group, queries.labels), (guesses == queries.labels).mean(axis=0))

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

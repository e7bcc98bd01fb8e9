"""Labelled tiles of a training and a test side: features, splits without a shared group, and scores."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from pathprep.errors import UsageError
from pathprep.storage.place import storage_at
from pathtrain.data.tile_labels import Labels
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, outcome
from pathtrain.evaluate.baselines import HANDMADE, Beside
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, figures, flat
from pathtrain.evaluate.units import Units
from pathtrain.features.progress import TileProgress
from pathtrain.params.encoding import How

Tiles = DatasetTiles | FolderTiles
FOLDS = 5  # one of them is held out: 80:20
NAMED = 3  # shared groups that an error names


@dataclass(frozen=True)
class Set:
    """Labelled tiles of one source.

    Attributes:
        features: name of the features -> (N, D); several of a name that stands for several networks.
        labels: (N,) int64, class numbers.
        group: (N,) int64, slide or group.
    """

    features: dict[str, list[Floats]]
    labels: Ints
    group: Ints

    def take(self, rows: Ints) -> "Set":
        """Some of the tiles."""
        features = {name: [values[rows] for values in each] for name, each in self.features.items()}
        return Set(features, self.labels[rows], self.group[rows])


def encode_sets(beside: Beside, sources: list[Tiles], labels: Labels, how: How) -> list[Set]:
    """Every source's labelled tiles as the model and its baselines have them."""
    orders = [np.flatnonzero(values >= 0) for values in labels.values]
    sets = []
    progress = TileProgress(sum(map(len, orders)), "encode")
    for tiles, order, values in zip(sources, orders, labels.values, strict=True):
        features = beside.encode(tiles, order, how, progress.advance)
        sets.append(Set(features, values[order], tiles.group[order]))
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
    shared = sorted(owners(train) & owners(test))
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


def owners(tiles: Tiles) -> set[str]:
    """Files of two folders may have one name and yet differ, so they are no groups."""
    return set() if isinstance(tiles, FolderTiles) and not tiles.grouped else set(tiles.groups)


def hold_out(
    tiles: Set, classes: Sequence[str], source: Tiles, seed: int, instead: str = "test"
) -> tuple[Set, Set]:
    """A fifth of the tiles set aside, whole groups, the classes' shares kept as far as groups allow.

    Args:
        instead: the parameter that spares the split, for the error.

    Raises:
        UsageError: there are too few groups for every class to be in the larger part.
    """
    rows, groups = np.arange(len(tiles.labels)), np.unique(tiles.group)
    few = UsageError(
        f"{source.path}: {len(groups)} {source.kind}s cannot be split 80:20 with every class in the larger "
        f"part; label more, or give `{instead}`"
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


def comparable(bank: Set, queries: Set, name: str) -> Iterator[tuple[Floats, Floats]]:
    """Both sides' features of a name, once per network; handmade ones with mean 0 and SD 1 on the first."""
    for values, points in zip(bank.features[name], queries.features[name], strict=True):
        if name in HANDMADE:
            mean, sd = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
            yield (values - mean) / sd, (points - mean) / sd
        else:
            yield values, points


def score(
    guesses: Mapping[str, Ints], queries: Set, classes: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Accuracy and balanced accuracy (mean recall) of each kind of features, and the first's lead over each.

    All intervals (95 %) are of one bootstrap over groups, so those of leads are paired.

    Args:
        guesses: name of the features -> (N, R, M) class numbers of N networks, R repeats of each; figures
            are means over both.
        queries: M tiles.
        classes: their names.
        seed: of the bootstrap.

    Returns:
        A row per name: ``name``, ``accuracy``, ``accuracy_interval``, ``balanced``, ``balanced_interval``,
        ``per_class``; ``lead``: the four figures of the first less this one's, None for the first; and of
        several networks ``accuracy_range`` and ``balanced_range``, lowest and highest of one.
    """
    groups, group = np.unique(queries.group, return_inverse=True)
    total = np.zeros((len(groups), len(classes)))
    np.add.at(total, (group, queries.labels), 1)
    right = {name: np.zeros_like(total) for name in guesses}
    for name, classed in guesses.items():
        np.add.at(right[name], (group, queries.labels), (classed == queries.labels).mean(axis=(0, 1)))
    first = next(iter(guesses))

    def both(copies: Doubles) -> dict[tuple[str, str], Doubles]:
        counts = copies @ total
        present = counts > 0  # a resample may lack a class: the others still count
        values = {}
        for name, hits in right.items():
            drawn = copies @ hits
            recall = np.divide(drawn, counts, out=np.zeros_like(drawn), where=present)
            values["accuracy", name] = drawn.sum(axis=1) / counts.sum(axis=1)
            values["balanced", name] = recall.sum(axis=1) / present.sum(axis=1)
        leads = {(f"lead {key}", name): values[key, first] - value for (key, name), value in values.items()}
        return {**values, **leads}

    bounds = {
        (prefix + key, name): (lowest, 1.0)
        for prefix, lowest in (("", 0.0), ("lead ", -1.0))
        for key in ("accuracy", "balanced")
        for name in guesses
    }
    found = figures(both, len(groups), seed, bounds)

    def pick(prefix: str, name: str) -> dict[str, Any]:
        return flat({key: found[prefix + key, name] for key in ("accuracy", "balanced")})

    return [
        {
            "name": name,
            **pick("", name),
            **_ranges(guesses[name], queries, len(classes)),
            "lead": None if name == first else pick("lead ", name),
            "per_class": {
                label: {"tiles": int(count), "recall": float(hits / count) if count else None}
                for label, count, hits in zip(
                    classes, total.sum(axis=0), right[name].sum(axis=0), strict=True
                )
            },
        }
        for name in guesses
    ]


def score_once(guesses: Ints, queries: Set, classes: int) -> dict[str, float]:
    """Accuracy and balanced accuracy of repeats' guesses (R, M), their means."""
    right = (guesses == queries.labels).mean(axis=0)
    total = np.bincount(queries.labels, minlength=classes)
    recall = np.bincount(queries.labels, right, minlength=classes)[total > 0] / total[total > 0]
    return {"accuracy": float(right.mean()), "balanced": float(recall.mean())}


def group_names(queries: Set, names: Sequence[str] | None) -> tuple[tuple[str, ...], Ints]:
    """Names of the groups of a set, by number if they have none, and each tile's place among them."""
    groups, group = np.unique(queries.group, return_inverse=True)
    return tuple(str(number) if names is None else names[number] for number in groups.tolist()), group


def units_of(
    guesses: Mapping[str, Ints], queries: Set, classes: int, names: Sequence[str] | None = None
) -> dict[tuple[str, str], Units]:
    """What accuracy and balanced accuracy of guesses, as ``score`` takes them, are made of by group."""
    groups, group = group_names(queries, names)
    total = np.zeros((len(groups), classes))
    np.add.at(total, (group, queries.labels), 1)
    found = {}
    for name, classed in guesses.items():
        right = np.zeros_like(total)
        np.add.at(right, (group, queries.labels), (classed == queries.labels).mean(axis=(0, 1)))
        found[name, "balanced"] = Units(groups, right, total)
        sums = right.sum(axis=1, keepdims=True), total.sum(axis=1, keepdims=True)
        found[name, "accuracy"] = Units(groups, *sums)
    return found


def _ranges(guesses: Ints, queries: Set, classes: int) -> dict[str, list[float]]:
    if len(guesses) < 2:
        return {}
    each = [score_once(found, queries, classes) for found in guesses]
    return {
        f"{key}_range": [min(one[key] for one in each), max(one[key] for one in each)]
        for key in ("accuracy", "balanced")
    }

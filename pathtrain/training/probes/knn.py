"""kNN accuracy on labelled tiles while training (evaluate.tile_level.knn)."""

from pathlib import Path

import numpy as np

from pathprep.errors import UsageError
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.evaluate.tile_level.labelled import Set, check_split, comparable
from pathtrain.features.encode import encode
from pathtrain.recipes.probes import KnnProbe
from pathtrain.runs.model import LoadedModel
from pathtrain.training.probes.base import Figures, LiveProbe, Setting, draw, group_of
from pathtrain.training.probes.overlap import trained_on


class LiveKnn(LiveProbe):
    """Its figures: ``accuracy`` and ``balanced`` (the mean recall of the classes).

    And the curve's floor, on the same tiles, the same each time: ``accuracy_colour``, that of mean and SD of
    red, green and blue, and ``accuracy_majority``, that of always saying the commonest class.

    Raises:
        UsageError, DatasetError: the sets or their labels cannot be read or do not fit, or ``k`` is more than
            the tiles that may vote.
    """

    def __init__(self, config: KnnProbe, setting: Setting) -> None:
        self.setting, self.k, self.alone = setting, config.k, config.test is None
        paths: list[Path] = [config.train] if config.test is None else [config.train, config.test]
        self.sources = [open_tiles(path, setting.target) for path in paths]
        labels = read_labels(self.sources, config.labels, config.label_origin)
        if not self.alone:
            check_split(self.sources, labels)
        labelled = [np.flatnonzero(values >= 0) for values in labels.values]
        self.orders = [rows[draw(len(rows), config.tiles, setting.seed)] for rows in labelled]
        self.labels = [values[order] for values, order in zip(labels.values, self.orders, strict=True)]
        self.groups = [group_of(tiles, order) for tiles, order in zip(self.sources, self.orders, strict=True)]
        self.classes = len(labels.classes)
        largest = int(np.bincount(self.groups[0]).max()) if self.alone else 0
        if config.k > (most := len(self.orders[0]) - largest):
            raise UsageError(f"k {config.k}: must be 1 to {most}, the number of labelled tiles that may vote")
        self.said = [
            line
            for tiles, group in zip(self.sources, self.groups, strict=True)
            if (line := trained_on(tiles, group, setting))
        ]

    def __call__(self, model: LoadedModel) -> Figures:
        sets = []
        for tiles, order, labels, group in zip(
            self.sources, self.orders, self.labels, self.groups, strict=True
        ):
            (features,), colour = encode([model], tiles, order, self.setting.how)
            sets.append(Set({"model": [features], "colour": [colour]}, labels, group))
        bank, queries = sets[0], sets[-1]
        asked = queries.labels
        right = self._right(bank, queries, "model")
        commonest = np.bincount(bank.labels).argmax()
        return {
            "accuracy": float(right.mean()),
            "balanced": float(np.mean([right[asked == each].mean() for each in np.unique(asked)])),
            "accuracy_colour": float(self._right(bank, queries, "colour").mean()),
            "accuracy_majority": float((asked == commonest).mean()),
        }

    def _right(self, bank: Set, queries: Set, name: str) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """(M,) whether the vote says each query's own label."""
        ((vectors, points),) = comparable(bank, queries, name)
        own = (lambda part: bank.group[part, None] == bank.group[None, :]) if self.alone else None
        guesses = vote(vectors, bank.labels, points, self.k, self.classes, own)
        right: np.ndarray[tuple[int], np.dtype[np.bool_]] = guesses == queries.labels
        return right

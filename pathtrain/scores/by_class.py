"""A probability of each class for each tile, by a probe that was fitted on labelled tiles.

linear  logistic regression (L2, C = 1) on features that are standardised on the labelled tiles
knn     votes of the k nearest labelled tiles by cosine, as shares, weighted by exp(similarity / 0.07)
        (Wu et al. 2018)
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.errors import UsageError
from pathprep.scores.write import check_name
from pathtrain.evaluate.statistics import neighbours
from pathtrain.evaluate.tile_level.knn import TEMPERATURE
from pathtrain.scores import source
from pathtrain.scores.source import Floats

Probe = Literal["linear", "knn"]
PROBES: tuple[Probe, ...] = ("linear", "knn")


@dataclass(frozen=True)
class ClassScores:
    """What was written.

    Attributes:
        out: the file. tiles, slides: in it.
        trained: labelled tiles of each class. predicted: tiles by their most probable class.
    """

    out: Path
    tiles: int
    slides: int
    trained: dict[str, int]
    predicted: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out)}


def classes(
    features: str | Path,
    train: str | Path,
    out: str | Path = "scores.parquet",
    *,
    labels: str | Path | None = None,
    probe: Probe = "linear",
    k: int = 20,
    seed: int = 0,
) -> ClassScores:
    """Give each tile a probability of each class, and the most probable one.

    Args:
        features: a folder of slides' features, as ``embed`` writes them.
        train: a folder of labelled tiles' features, of the same model.
        out: Parquet or CSV; columns ``class`` and ``p <class>``.
        labels: of ``train``, where it is of slides: a table with slide, label or slide, x, y, label.
        probe: ``linear`` or ``knn``; see the module.
        k: neighbours.
        seed: of the solver.

    Raises:
        UsageError: features of two models, no labels, or labels that do not fit.
    """
    if probe not in PROBES:
        raise UsageError(f"`probe` {probe}: give {' or '.join(PROBES)}")
    target = Path(out)
    check_name(target)
    slides = source.slides_of(features)
    bank_of, bank, names = source.labelled(train, labels)
    source.check_alike(bank_of, slides)
    every = sorted(set(names))
    numbers = np.array([every.index(name) for name in names], np.int64)
    if probe == "knn" and not 1 <= k <= len(bank):
        raise UsageError(f"`k` {k}: must be 1 to {len(bank)}, the number of labelled tiles")
    head = None
    if probe == "linear":
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, random_state=seed))
        head.fit(bank.astype(np.float64), numbers)
    columns, predicted = dict[str, dict[str, source.Column]](), Counter[str]()
    for slide in slides.counts:
        points = slides.read(slide)
        if head is not None:
            shares = np.asarray(head.predict_proba(points.astype(np.float64)))
        else:
            shares = votes(bank, numbers, points, k, len(every))
        best = [every[number] for number in shares.argmax(axis=1)]
        predicted.update(best)
        columns[slide] = {"class": best} | {f"p {name}": shares[:, n] for n, name in enumerate(every)}
    tiles = source.write(slides, target, columns)
    return ClassScores(
        target,
        tiles,
        len(columns),
        {name: names.count(name) for name in every},
        {name: predicted[name] for name in every},
    )


def votes(
    bank: Floats, labels: npt.NDArray[np.int64], queries: Floats, k: int, classes: int
) -> npt.NDArray[np.float64]:
    """(M, C) shares of the weighted votes of each query's k nearest rows of ``bank``."""
    found = np.zeros((len(queries), classes))
    nobody = lambda part: np.zeros((part.stop - part.start, len(bank)), bool)  # noqa: E731
    for part, similarity, rows in neighbours(bank, queries, k, nobody):
        weights = np.exp((similarity - similarity[:, :1]).astype(np.float64) / TEMPERATURE)
        here = np.zeros((len(rows), classes))
        np.add.at(here, (np.arange(len(rows))[:, None], labels[rows]), weights)
        found[part] = here / here.sum(axis=1, keepdims=True)
    return found

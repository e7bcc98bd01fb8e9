"""Pearson correlations of genes, with intervals over folds and over places of the tissue.

As published: per fold the mean over genes, then over folds, then over tasks. A gene that does not vary
among a fold's tested spots has no correlation (HEST's mean is then not a number): it is left out of that
fold for every row, and named. Predictions that do not vary say nothing of a gene: its correlation counts as
0.

Two intervals. Folds are other patients, the honest units where there are several; of two or three they are so
wide that they say little, which is so. Squares of tissue of the tested sections, drawn whole, since spots
side by side are alike, hold what other places in the same patients would change, and nothing of other
patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Flags, Ints, figures
from pathtrain.evaluate.units import Units, compared

BOUNDS = (-1.0, 1.0)
LEAD = (-2.0, 2.0)


@dataclass(frozen=True)
class Scored:
    """A fold's tested spots: B squares, G genes.

    Attributes:
        task, fold: names.
        varies: (G,) whether the gene has a correlation at all.
        pearson: name of the features -> (K, G) of K networks; NaN for genes that do not vary.
        moments: name -> (K, B, G, 6): of each square the sums of 1, x, y, xx, yy, xy, of centred truth x and
            prediction y.
        flat: name -> how many predictions do not vary, over networks and genes.
    """

    task: str
    fold: str
    varies: Flags
    pearson: dict[str, Doubles]
    moments: dict[str, Doubles]
    flat: dict[str, int]

    @property
    def squares(self) -> int:
        """B."""
        return int(next(iter(self.moments.values())).shape[1])

    def drawn(self, name: str, copies: Doubles) -> Doubles:
        """(R, G) correlations of R samples of the squares, copies (R, B), means over networks; NaN where the
        truth does not vary."""
        found = []
        for moments in self.moments[name]:
            sums = (copies @ moments.reshape(len(moments), -1)).reshape(len(copies), -1, 6)
            found.append(_correlation(sums))
        return np.asarray(np.mean(found, axis=0))


def scored(
    task: str, fold: str, truth: Doubles, predictions: Mapping[str, list[Doubles]], square: Ints
) -> Scored:
    """Correlations of a fold.

    Args:
        truth: (M, G). predictions: name -> (M, G) of each network. square: (M,) from 0 without gaps.
    """
    varies = np.ptp(truth, axis=0) > 0
    pearson, moments, flat = dict[str, Doubles](), dict[str, Doubles](), dict[str, int]()
    x = truth - truth.mean(axis=0)
    for name, every in predictions.items():
        found = []
        flat[name] = 0
        for predicted in every:
            y = predicted - predicted.mean(axis=0)
            still = np.ptp(predicted, axis=0) <= 1e-9 * np.abs(predicted).max(axis=0, initial=0.0)
            y[:, still] = 0  # rounding, not what was predicted
            flat[name] += int((still & varies).sum())
            parts = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=2)
            sums = np.zeros((int(square.max()) + 1, *parts.shape[1:]))
            np.add.at(sums, square, parts)
            found.append(sums)
        moments[name] = np.stack(found)
        pearson[name] = np.stack([_correlation(each.sum(axis=0)[None])[0] for each in found])
    return Scored(task, fold, varies, pearson, moments, flat)


def _correlation(sums: Doubles) -> Doubles:
    """(R, G) Pearson correlations of sums (R, G, 6): NaN where x does not vary, 0 where only y does not."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, 2, 0)
    count = np.maximum(count, 1)
    x_spread, y_spread = xx - x * x / count, yy - y * y / count
    scale = np.sqrt(np.maximum(x_spread, 0) * np.maximum(y_spread, 0))
    there = (x_spread > 1e-12 * np.maximum(xx, 1e-300)) & (y_spread > 1e-12 * np.maximum(yy, 1e-300))
    found = np.divide(xy - x * y / count, scale, out=np.zeros_like(scale), where=there & (scale > 0))
    found[x_spread <= 1e-12 * np.maximum(xx, 1e-300)] = np.nan
    return np.asarray(np.clip(found, *BOUNDS))


def units(folds: list[Scored]) -> dict[str, Units]:
    """Name -> units: a group per fold of each task, a column per task; the figure is as published."""
    tasks = list(dict.fromkeys(fold.task for fold in folds))
    groups = tuple(f"{fold.task}, fold {fold.fold}" for fold in folds)
    counts = np.array([[float(fold.task == task) for task in tasks] for fold in folds])
    return {
        name: Units(
            groups, counts * np.array([np.nanmean(fold.pearson[name]) for fold in folds])[:, None], counts
        )
        for name in folds[0].pearson
    }


def rows(folds: list[Scored], key: str, seed: int) -> list[dict[str, Any]]:
    """A row per kind of features: ``key``, ``key_interval`` over folds, ``key_spots_interval`` over squares
    of tissue, ``lead`` with the same three, and of several networks ``key_range``.

    Args:
        folds: of one task or of several. key: what the figure is called. seed: of the bootstraps.
    """
    of = units(folds)
    names = list(of)
    over_folds = compared(of, key, seed, BOUNDS)
    over_spots = _over_squares(folds, names, seed)
    found = []
    for name in names:
        row: dict[str, Any] = {"name": name, **over_folds[name]}
        row[f"{key}_spots_interval"] = over_spots["own", name]
        if row["lead"] is not None:
            row["lead"] = {**row["lead"], f"{key}_spots_interval": over_spots["lead", name]}
        networks = _networks(folds, name)
        if len(networks) > 1:
            row[f"{key}_range"] = [min(networks), max(networks)]
        row[f"{key}_flat_predictions"] = sum(fold.flat[name] for fold in folds)
        found.append(row)
    return found


def _networks(folds: list[Scored], name: str) -> list[float]:
    """The figure of each network alone."""
    tasks = list(dict.fromkeys(fold.task for fold in folds))
    count = len(folds[0].pearson[name])
    return [
        float(
            np.mean(
                [
                    np.mean([np.nanmean(fold.pearson[name][number]) for fold in folds if fold.task == task])
                    for task in tasks
                ]
            )
        )
        for number in range(count)
    ]


def _over_squares(
    folds: list[Scored], names: list[str], seed: int
) -> dict[tuple[str, str], list[float] | None]:
    """Intervals of figures and leads, all squares of all folds drawn together."""
    ends = np.cumsum([fold.squares for fold in folds])
    tasks = [fold.task for fold in folds]

    def both(copies: Doubles) -> dict[tuple[str, str], Doubles]:
        parts = np.split(copies, ends[:-1], axis=1)
        values = {}
        for name in names:
            each = [_mean(fold.drawn(name, part)) for fold, part in zip(folds, parts, strict=True)]
            by_task = [
                _mean(np.stack([v for v, t in zip(each, tasks, strict=True) if t == task], axis=1))
                for task in dict.fromkeys(tasks)
            ]
            values[name] = _mean(np.stack(by_task, axis=1))
        found = {("own", name): value for name, value in values.items()}
        return found | {("lead", name): values[names[0]] - values[name] for name in names[1:]}

    limits = {("own", name): BOUNDS for name in names} | {("lead", name): LEAD for name in names[1:]}
    return {which: figure.interval for which, figure in figures(both, int(ends[-1]), seed, limits).items()}


def _mean(values: Doubles) -> Doubles:
    """(R,) means over columns that are numbers; NaN where there is none."""
    there = np.isfinite(values)
    counts = there.sum(axis=1)
    sums = np.where(there, values, 0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


def genes(folds: list[Scored], names: list[str], seed: int) -> dict[str, list[dict[str, Any]]]:
    """Name of the features -> a row per gene of one task: ``gene``, ``pearson`` (mean over folds), its
    interval over folds and over squares of tissue, and ``folds``, the value of each; None where the gene
    does not vary.

    Args:
        folds: of the task. names: of the genes.
    """
    ends = np.cumsum([fold.squares for fold in folds])
    found = {}
    for features in folds[0].pearson:
        by_fold = np.stack([fold.pearson[features].mean(axis=0) for fold in folds])

        def over_folds(copies: Doubles, by_fold: Doubles = by_fold) -> dict[int, Doubles]:
            there = np.isfinite(by_fold).astype(np.float64)
            counts = copies @ there
            sums = copies @ np.nan_to_num(by_fold)
            means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
            return dict(enumerate(means.T))

        def over_squares(copies: Doubles, features: str = features) -> dict[int, Doubles]:
            parts = np.split(copies, ends[:-1], axis=1)
            each = np.stack(
                [fold.drawn(features, part) for fold, part in zip(folds, parts, strict=True)], axis=2
            )
            return {gene: _mean(each[:, gene]) for gene in range(each.shape[1])}

        limits = dict.fromkeys(range(len(names)), BOUNDS)
        wide = figures(over_folds, len(folds), seed, limits)
        places = figures(over_squares, int(ends[-1]), seed, limits)
        found[features] = [
            {
                "gene": name,
                "pearson": _known(wide[number].value),
                "interval": wide[number].interval,
                "spots_interval": places[number].interval,
                "folds": [_known(value) for value in by_fold[:, number].tolist()],
            }
            for number, name in enumerate(names)
        ]
    return found


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

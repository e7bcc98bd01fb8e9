"""Scores of frozen features on labelled tiles of two sides, and what one encoder has over another.

A linear score is logistic regression (scikit-learn) on features with mean 0 and SD 1, classes weighted by
their number, its C the best of a few by AUROC where whole groups of the fitting side are held out. kNN is
DINO's vote of 20 neighbours by cosine. AUROC is the mean over classes of each against the rest; balanced
accuracy the mean recall.

A figure of an encoder is the mean over its seeds. Intervals (95 %) are over the groups of the test side,
which are drawn whole (pathtrain.evaluate.statistics.figures); those of differences are paired by group.
What seeds change is told by the smallest and largest; a difference is called clear where its interval
leaves 0 out and all seeds are on one side of the other encoder's mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pathtrain.evaluate.statistics import figures
from pathtrain.evaluate.tile_level.knn import vote
from small.core.encoders import HANDMADE
from small.core.paired import gap_of
from small.core.tiles import table_of

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STRENGTHS = (0.003, 0.03, 0.3)  # of C
NEIGHBOURS = 20
FIGURES = ("auroc", "balanced", "knn")


@dataclass(frozen=True)
class Labels:
    """Labels of the tiles of a side: (N,) class numbers, (N,) group numbers, and the classes."""

    classes: tuple[str, ...]
    label: Ints
    group: Ints

    @classmethod
    def of(cls, where: Path, column: str = "label") -> "Labels":
        """Of a folder's labels.csv."""
        rows = table_of(where / "labels.csv")
        classes = sorted({row[column] for row in rows})
        codes = np.array([classes.index(row[column]) for row in rows], np.int64)
        groups = np.unique([row["group"] for row in rows], return_inverse=True)[1]
        return cls(tuple(classes), codes, groups.astype(np.int64))


@dataclass(frozen=True)
class Guess:
    """What one network's features say of the test tiles: probabilities (M, C), and kNN's classes (M,)."""

    probabilities: Doubles
    nearest: Ints


def guess(x: Floats, known: Labels, x_test: Floats, standardise: bool = False) -> Guess:
    """Fit one network's features on a side, and ask them of another.

    Args:
        standardise: features for neighbours too, as handmade ones need, whose units are their own.
    """
    if standardise:
        mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        x, x_test = (x - mean) / sd, (x_test - mean) / sd
    model = _linear(_strength(x, known)).fit(x, known.label)
    nearest = vote(x, known.label, x_test, min(NEIGHBOURS, len(x)), len(known.classes))
    return Guess(np.asarray(model.predict_proba(x_test), np.float64), nearest)


def _linear(strength: float) -> Pipeline:
    layer = LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3)
    return make_pipeline(StandardScaler(), layer)


def _strength(x: Floats, known: Labels) -> float:
    """The best C where a third of the groups is held out."""
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    large, small = next(folds.split(x, known.label, known.group))
    truth = known.label[small]
    if len(np.unique(known.label[large])) < len(known.classes) or len(np.unique(truth)) < len(known.classes):
        return STRENGTHS[1]

    def reached(strength: float) -> float:
        said = _linear(strength).fit(x[large], known.label[large]).predict_proba(x[small])
        return float(np.mean([roc_auc_score(truth == c, said[:, c]) for c in range(len(known.classes))]))

    return max(STRENGTHS, key=reached)


def guesses(
    known: Labels, sides: tuple[Mapping[str, Sequence[Floats]], Mapping[str, Sequence[Floats]]]
) -> dict[str, list[Guess]]:
    """Of all encoders and seeds: features of the fitting and the test side by encoder."""
    return {
        name: [
            guess(x, known, y, name in HANDMADE) for x, y in zip(sides[0][name], sides[1][name], strict=True)
        ]
        for name in sides[0]
    }


def table(
    found: Mapping[str, Sequence[Guess]], test: Labels, against: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """A row per encoder and figure.

    Args:
        found: encoder -> guesses per seed.
        test: the tiles they are of.
        against: encoder -> the encoders that it is compared with.

    Returns:
        Rows ``encoder``, ``figure``, ``value``, ``interval``, ``seeds``, and ``minus``: other -> ``value``,
        ``interval``, ``clear``, ``seeds``.
    """
    groups = int(test.group.max()) + 1
    made = figures(partial(_values, found, test, against), groups, 0)
    rows = []
    for figure in FIGURES:
        for name, each in found.items():
            own = made[figure, name]
            seeds = [made[figure, name, seed].value for seed in range(len(each))]
            minus = {}
            for other in against.get(name, ()):
                minus[other] = gap_of(made[figure, name, other], seeds, made[figure, other].value)
            rows.append({"encoder": name, "figure": figure, **own._asdict(), "seeds": seeds, "minus": minus})
    return rows


def _values(
    found: Mapping[str, Sequence[Guess]], test: Labels, against: Mapping[str, Sequence[str]], copies: Doubles
) -> dict[Any, Doubles]:
    """Figures (R,) in samples of groups (R, G)."""
    weights = copies[:, test.group]
    values: dict[Any, Doubles] = {}
    for name, each in found.items():
        for seed, one in enumerate(each):
            values["auroc", name, seed] = auroc(one.probabilities, test.label, weights)
            values["balanced", name, seed] = recall(one.probabilities.argmax(axis=1), test.label, weights)
            values["knn", name, seed] = recall(one.nearest, test.label, weights)
        for figure in FIGURES:
            values[figure, name] = np.mean([values[figure, name, seed] for seed in range(len(each))], axis=0)
    for name, others in against.items():
        for other in others if name in found else ():
            for figure in FIGURES:
                values[figure, name, other] = values[figure, name] - values[figure, other]
    return values


def auroc(said: Doubles, label: Ints, weights: Doubles) -> Doubles:
    """(R,) mean over classes of each one's AUROC against the rest, tiles (M,) weighted by (R, M); ties
    count half.

    A class that a sample lacks, or that is all of it, is left out of that sample's mean.
    """
    total = np.zeros(len(weights))
    counted = np.zeros(len(weights))
    for code in range(said.shape[1]):
        order = np.argsort(said[:, code], kind="stable")
        starts = np.flatnonzero(np.diff(said[order, code], prepend=-1.0))  # of equal values
        inside = label[order] == code
        own = np.add.reduceat(weights[:, order] * inside, starts, axis=1)
        rest = np.add.reduceat(weights[:, order] * ~inside, starts, axis=1)
        pairs = own.sum(axis=1) * rest.sum(axis=1)
        below = np.cumsum(rest, axis=1) - rest / 2
        won = (own * below).sum(axis=1)
        total += np.divide(won, pairs, out=np.zeros_like(won), where=pairs > 0)
        counted += pairs > 0
    return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)


def recall(said: Ints, label: Ints, weights: Doubles) -> Doubles:
    """(R,) mean recall over the classes that a sample has."""
    classes = np.arange(int(label.max()) + 1)
    members = (label[:, None] == classes).astype(np.float64)
    hits = weights @ (members * (said == label)[:, None])
    counts = weights @ members
    shares = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
    found: Doubles = np.nanmean(shares, axis=1)
    return found


def rows_text(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table of ``table``'s rows, a line per encoder."""
    titles = {"auroc": "AUROC", "balanced": "balanced accuracy", "knn": "kNN"}
    first = rows[0]["encoder"]
    lines = [f"| encoder | {' | '.join(titles.values())} | {first} minus it, AUROC |", "| --- " * 5 + "|"]
    minus = next(row["minus"] for row in rows if row["encoder"] == first and row["figure"] == "auroc")
    for name in dict.fromkeys(row["encoder"] for row in rows):
        own = {row["figure"]: row for row in rows if row["encoder"] == name}
        cells = [value_text(own[figure]) for figure in titles]
        lines.append(f"| {name} | {' | '.join(cells)} | {gap_text(minus.get(name))} |")
    return lines


def value_text(row: Mapping[str, Any]) -> str:
    """A figure with the smallest and largest of its seeds, if there are several."""
    seeds = row["seeds"]
    return f"{row['value']:.3f}" + (f" ({min(seeds):.3f} to {max(seeds):.3f})" if len(seeds) > 1 else "")


def gap_text(gap: Mapping[str, Any] | None) -> str:
    """A difference with its interval, in bold where it is clear."""
    if gap is None:
        return ""
    inside = "" if gap["interval"] is None else " [{:+.3f}, {:+.3f}]".format(*gap["interval"])
    text = f"{gap['value']:+.3f}{inside}"
    return f"**{text}**" if gap.get("clear") else text

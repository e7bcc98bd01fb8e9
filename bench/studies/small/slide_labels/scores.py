"""Figures of the study of slide labels: out of fold, over all slides, paired between arms.

A figure (AUROC, balanced accuracy) is the mean over the folds of that of a fold's test slides, which one
model has scored: scores of two models are never ranked against each other. Intervals (95 %) are over slides,
which share no original and are drawn whole, all folds at once (pathtrain.evaluate.statistics.figures); those
of differences are paired by slide. They hold what another draw of slides would change, and not what other
training slides would.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pathtrain.evaluate.slide_level.measures import Fold, Predictions, over_folds
from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.evaluate.statistics import figures

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# arm -> per seed: task -> (S, C) probabilities of all slides, each said by the model of the fold that tests
# it
Said = Mapping[str, Sequence[Mapping[str, Doubles]]]
Claim = tuple[str, str, str]  # two arms, and what it says of the first that it is above the second

MEAN = "mean over tasks"
SCORES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}


def folds_of(
    arm: Sequence[Mapping[str, Doubles]], rows: Sequence[Mapping[str, str]], classes: Mapping[str, list[str]]
) -> dict[str, list[Fold]]:
    """Per task its folds' test slides, as measures weigh them.

    Args:
        arm: per seed: task -> (S, C). rows: (S) with slide_id, fold, and each task's class, empty where
            unknown.
    """
    names = [row["slide_id"] for row in rows]
    fold = np.array([int(row["fold"]) for row in rows])
    found = {}
    for task, kinds in classes.items():
        known = np.flatnonzero([row[task] != "" for row in rows])
        labels = np.array([kinds.index(rows[place][task]) for place in known], np.int64)
        asked = Task(task, [names[place] for place in known], kinds, labels, names, known, None, False, [])
        parts = [np.flatnonzero(fold[known] == number) for number in np.unique(fold)]
        found[task] = [
            Fold(asked, [Predictions(part, seed[task][known[part]]) for seed in arm])
            for part in parts
            if len(part)
        ]
    return found


def scored(
    said: Said, rows: Sequence[Mapping[str, str]], classes: Mapping[str, list[str]], claims: Sequence[Claim]
) -> dict[str, list[dict[str, Any]]]:
    """``rows``: arm, task, score, value, interval; ``differences``: first, second and the same."""
    folds = {arm: folds_of(seeds, rows, classes) for arm, seeds in said.items()}
    pairs = [(one, other) for one, other, _ in claims]
    made = figures(partial(_values, folds, pairs), len(rows), 0)
    table = [
        {"arm": arm, "task": task, "score": score, **made[arm, task, score]._asdict()}
        for score in SCORES
        for arm in said
        for task in (*classes, MEAN)
    ]
    gaps = [
        {
            "first": one,
            "second": other,
            "task": task,
            "score": score,
            **made[one, other, task, score]._asdict(),
        }
        for one, other in pairs
        for score in SCORES
        for task in (*classes, MEAN)
    ]
    return {"rows": table, "differences": gaps}


def _values(
    folds: Mapping[str, Mapping[str, Sequence[Fold]]], pairs: Sequence[tuple[str, str]], copies: Doubles
) -> dict[tuple[str, ...], Doubles]:
    """Figures (R,) in samples of slides (R, S)."""
    found: dict[tuple[str, ...], Doubles] = {}
    for arm, tasks in folds.items():
        for task, parts in tasks.items():
            found |= {(arm, task, score): values for score, values in over_folds(parts, copies).items()}
        for score in SCORES:
            found[arm, MEAN, score] = np.mean([found[arm, task, score] for task in tasks], axis=0)
    for one, other in pairs:
        for _, task, score in [key for key in found if len(key) == 3 and key[0] == one]:
            found[one, other, task, score] = found[one, task, score] - found[other, task, score]
    return found


def plain(
    arm: Mapping[str, Doubles], rows: Sequence[Mapping[str, str]], classes: Mapping[str, list[str]]
) -> tuple[float, float]:
    """AUROC and balanced accuracy of a training on one fold, mean over tasks: what is chosen by."""
    ones = np.ones((1, len(rows)))
    found = [over_folds(parts, ones) for parts in folds_of([arm], rows, classes).values()]
    first, second = (float(np.mean([each[score][0] for each in found])) for score in SCORES)
    return first, second


def sentences(found: Mapping[str, list[dict[str, Any]]], claims: Sequence[Claim], chance: str) -> list[str]:
    """Of each claim whether it holds, by the mean over tasks, and in which tasks it or the reverse does.

    Args:
        chance: the arm that must know nothing.
    """
    lines = []
    for one, other, words in claims:
        gaps = {
            (gap["task"], gap["score"]): gap
            for gap in found["differences"]
            if (gap["first"], gap["second"]) == (one, other)
        }
        said = [f"{name} {gap(gaps[MEAN, score])}" for score, name in SCORES.items()]
        parts = {
            way: [
                f"{task} ({SCORES[score]})"
                for (task, score), row in gaps.items()
                if task != MEAN and side(row) == at
            ]
            for way, at in (("above in", 1), ("below in", -1))
        }
        beyond = "; ".join(f"{way} {', '.join(names)}" for way, names in parts.items() if names)
        more = (
            f"; beyond the interval it is {beyond}" if beyond else "; no single task is beyond its interval"
        )
        lines.append(
            f"{words}: {verdict(gaps[MEAN, 'auroc'])} ({one} minus {other}: {', '.join(said)}{more})."
        )
    none = [
        row
        for row in found["rows"]
        if row["arm"] == chance and row["score"] == "auroc" and row["task"] != MEAN
    ]
    off = [row for row in none if abs(row["value"] - 0.5) > 1e-9 and not _inside(row["interval"], 0.5)]
    told = ", ".join(f"{row['task']} {row['value']:.3f}" for row in none)
    held = "does not hold" if off else "holds"
    lines.append(f"Colour says nothing of equalised tiles: {held} (AUROC of its mean and SD: {told}).")
    return lines


def verdict(row: Mapping[str, Any]) -> str:
    """Of a difference that is claimed to be above 0."""
    return {1: "holds", 0: "not shown", -1: "does not hold, the reverse does"}[side(row)]


def side(row: Mapping[str, Any]) -> int:
    """1 or -1 where the interval of a difference leaves 0 out."""
    if row["interval"] is None:
        return 0
    low, high = row["interval"]
    return int(low > 0) - int(high < 0)


def _inside(interval: Sequence[float] | None, value: float) -> bool:
    return interval is None or interval[0] <= value <= interval[1]


def gap(row: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    ends = "" if row["interval"] is None else " [{:+.3f}, {:+.3f}]".format(*row["interval"])
    return f"{row['value']:+.3f}{ends}"


def table(found: Mapping[str, list[dict[str, Any]]], score: str) -> list[str]:
    """Lines of Markdown: an arm each, a column per task."""
    tasks = list(dict.fromkeys(row["task"] for row in found["rows"]))
    lines = [f"| {SCORES[score]} | {' | '.join(tasks)} |", "| --- " * (len(tasks) + 1) + "|"]
    for arm in dict.fromkeys(row["arm"] for row in found["rows"]):
        own = {row["task"]: row for row in found["rows"] if row["arm"] == arm and row["score"] == score}
        lines.append(f"| {arm} | {' | '.join(_cell(own[task]) for task in tasks)} |")
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    ends = "" if row["interval"] is None else " [{:.3f}, {:.3f}]".format(*row["interval"])
    return f"{row['value']:.3f}{ends}"

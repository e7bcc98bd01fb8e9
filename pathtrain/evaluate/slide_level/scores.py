"""Figures of tasks over seeds and folds, with intervals over seeds and over patients, and comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pathtrain.evaluate.baselines import HANDMADE
from pathtrain.evaluate.slide_level.calibration import calibration
from pathtrain.evaluate.slide_level.comparisons import bootstrap_p, delong, holm
from pathtrain.evaluate.slide_level.measures import BOUNDS, Fold, Predictions, over_folds
from pathtrain.evaluate.slide_level.survival_curves import risk_groups
from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.evaluate.statistics import RESAMPLES, figures, flat, mean_interval
from pathtrain.params.tasks import TOLD

Floats = npt.NDArray[np.float64]
Row = tuple[str, str]  # model and method
Asked = tuple[str, Row, Row | None]  # a figure of a row, or its lead over another
Runs = Sequence[Sequence[Predictions]]  # per seed, per fold


def score(task: Task, rows: Mapping[Row, Runs], seed: int) -> dict[Row, dict[str, Any]]:
    """Figures of every model and method on a task, and the lead of each over the others.

    Args:
        task: what was asked.
        rows: model and method -> per seed, per fold; all score the same rows of the task.
        seed: of the bootstrap.

    Returns:
        JSON-able; for each figure of the task's kind (pathtrain.params.tasks.TOLD; AUROC of several classes:
        mean of one against the rest) ``mean`` over seeds (of a seed: mean over its folds), ``sd`` over seeds,
        ``seeds`` (the values), ``seeds_interval`` (95 %, Student's t over seeds, clipped; None for one seed)
        and ``patients_interval`` (95 %, over the scored patients, of the mean over seeds).
        Beside them ``slides`` and ``patients``, the numbers that were scored, and ``leads``: over each
        ``model`` and ``method`` that it ``competes`` with the figures and their intervals, of one bootstrap
        for all, hence paired; of the first figure ``p``, by which ``test``, and ``p_holm``, corrected for all
        comparisons of the task.
        Of classes ``calibration``, of survival ``risk_groups``, of numbers ``pairs`` (true, said).
    """
    names = TOLD[task.kind]
    together = {row: [Fold(task, seeds) for seeds in zip(*runs, strict=True)] for row, runs in rows.items()}
    folds = next(iter(together.values()))
    scored = np.unique(np.concatenate([fold.patient for fold in folds]))
    pairs = [(row, other) for row in rows for other in rows if competes(row, other)]
    drawn: dict[tuple[Row, Row], list[Floats]] = {pair: [] for pair in pairs}

    def statistic(samples: Floats) -> dict[Asked, Floats]:
        copies = np.zeros((len(samples), len(task.patients)))
        copies[:, scored] = samples
        values: dict[Asked, Floats] = {}
        for row, own in together.items():
            values |= {(name, row, None): found for name, found in over_folds(own, copies).items()}
        for row, other in pairs:
            leads = {name: values[name, row, None] - values[name, other, None] for name in names}
            drawn[row, other].append(leads[names[0]])
            values |= {(name, row, other): found for name, found in leads.items()}
        return values

    asked: list[tuple[Row, Row | None]] = [*((row, None) for row in rows), *pairs]
    bounds: dict[Asked, tuple[float, float]] = {}
    for name in names:
        low, high = BOUNDS[name]
        bounds |= {
            (name, row, other): (low, high) if other is None else (low - high, high - low)
            for row, other in asked
        }
    found = figures(statistic, len(scored), seed, bounds)
    tests = {pair: _test(task, together, pair, drawn[pair]) for pair in pairs}
    # one over the other and the other over the one are one comparison
    corrected = holm({frozenset(pair): p for pair, (p, _) in tests.items() if p is not None})
    once = np.ones((1, len(task.patients)))
    result: dict[Row, dict[str, Any]] = {}
    for row, runs in rows.items():
        alone = [[Fold(task, [one]) for one in run] for run in runs]
        each = [over_folds(own, once) for own in alone]
        result[row] = {"slides": sum(len(fold.rows) for fold in folds), "patients": len(scored)}
        for name in names:
            values = [float(own[name][0]) for own in each]
            result[row][name] = {
                "mean": float(np.mean(values)),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "seeds": values,
                "seeds_interval": over_seeds(values, BOUNDS[name]),
                "patients_interval": found[name, row, None].interval,
            }
        result[row] |= _more(task, together[row], alone)
        result[row]["leads"] = [
            {
                "model": other[0],
                "method": other[1],
                **flat({name: found[name, row, other] for name in names}),
                "p": tests[mine, other][0],
                "test": tests[mine, other][1],
                "p_holm": corrected.get(frozenset((mine, other))),
            }
            for mine, other in pairs
            if mine == row
        ]
    return result


def competes(row: Row, other: Row) -> bool:
    """Whether one is to be compared with the other: with what pixels alone say, and with other models by the
    same method.
    """
    if row[0] in HANDMADE:
        return False
    return other[0] in HANDMADE or (other[0] != row[0] and other[1] == row[1])


def over_seeds(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> list[float] | None:
    """95 % interval of the mean by Student's t, clipped; None for fewer than two values."""
    ends = mean_interval(values)
    return None if ends is None else [float(np.clip(end, *bounds)) for end in ends]


def _test(
    task: Task, together: Mapping[Row, list[Fold]], pair: tuple[Row, Row], drawn: Sequence[Floats]
) -> tuple[float | None, str]:
    """p of a lead's first figure, and by which test."""
    if task.kind == "classes":
        p = delong(together[pair[0]], together[pair[1]])
        if p is not None:
            return p, "DeLong"
    # the first of what ``figures`` asks is the sample itself, then the bootstrap; what is left out follows
    values = np.concatenate(drawn)[1 : RESAMPLES + 1]
    return (bootstrap_p(values) if len(values) and np.isfinite(values).any() else None), "paired bootstrap"


def _more(task: Task, folds: Sequence[Fold], alone: Sequence[Sequence[Fold]]) -> dict[str, Any]:
    """What a page draws of a row."""
    if task.kind == "classes":
        return {"calibration": calibration(alone)}
    if task.kind == "survival":
        return {"risk_groups": risk_groups(folds)}
    if task.kind == "regression":
        said = [np.mean(fold.seeds, axis=0)[:, 0].tolist() for fold in folds]
        true = [fold.numbers.tolist() for fold in folds if fold.numbers is not None]
        return {
            "pairs": [list(pair) for own in zip(true, said, strict=True) for pair in zip(*own, strict=True)]
        }
    return {}

"""Expression of genes from tiles around spots (three her2st sections of two patients), for many encoders.

What `pathtrain evaluate hest` does, with its own functions: tiles of 112 um, 50 genes of the largest
variance, counts brought to the median total, one patient left out, Pearson per gene. Two ways from features
to genes:

    published   StandardScaler, PCA(256) and a ridge whose penalty is small: made for thousands of spots; of
                some hundred it follows noise, and more so the longer the features are
    tuned       standardised features and a ridge whose penalty five parts of the training tissue choose, so
                that six numbers of colour and hundreds of an encoder are restrained each as they need

Intervals are over squares of the tested tissue (6 x 6 of a section), drawn whole: what other places of these
patients would change. Of other patients they say nothing, and two patients could not; so each patient's
figure, and how many genes are better told, stand beside them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.storage import atomic
from pathtrain.evaluate.expression import folds as dividing
from pathtrain.evaluate.expression import scores
from pathtrain.evaluate.expression.regression import predict
from pathtrain.evaluate.expression.spots import Fold, SpotTiles, Task
from pathtrain.evaluate.expression.study import SQUARES
from pathtrain.evaluate.expression.tasks import tasks_of
from pathtrain.evaluate.statistics import Doubles, Floats, Ints
from pathtrain.params.expression import HestParams
from small.core import paired
from small.core.config import Study
from small.core.encoders import HANDMADE, Encoder, features, handmade
from small.core.tiles import check_side

WAYS = ("published", "tuned")
TASKS = {way: f"expression, Pearson, {way} ridge" for way in WAYS}
PENALTIES = tuple(10.0 ** np.arange(0, 7))  # for standardised features of some hundred spots
PARTS = 5  # of the training tissue, that choose the penalty


def expression(
    study: Study, encoders: Sequence[Encoder], against: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Score encoders, and the handmade features beside them.

    Args:
        against: encoder -> those that it is compared with, as paired.rows takes it.

    Returns:
        ``rows`` of both ways, see paired.rows, each with ``patients``: patient -> figure, and in each of
        ``minus``
        ``genes_above``, the share of genes that are better told; ``spots``, ``squares`` and ``genes``.

    Raises:
        TestGroups: before the choice is made.
    """
    check_side(study, "test")
    ((task, folds, _),) = tasks_of(study.data / "expression", HestParams(counts="scaled"), None, None)
    where = tiles(study, task)
    every = features(study, encoders, where) | handmade(where)
    found: list[paired.Row] = []
    squares = 0
    for way in WAYS:
        scored = [_fold(task, fold, every, way) for fold in folds]
        squares = sum(each.squares for each in scored)
        found += _rows(scored, {name: len(seeds) for name, seeds in every.items()}, way, against)
    return {"rows": found, "spots": len(task.values), "squares": squares, "genes": len(task.genes)}


def tiles(study: Study, task: Task) -> Path:
    """The tiles around all spots as a folder, in the task's order, made once."""
    where = study.work / "tiles" / "expression"
    if not where.exists():
        half = where.with_name("expression.half")
        half.mkdir(parents=True, exist_ok=True)
        source = SpotTiles(task.path, task.sections, None)
        lines = ["file,label,group"]
        for number, section in enumerate(source.group):
            pixels = source.pixels(source.read(number), number)
            Image.fromarray(pixels).save(half / f"{number:05d}.png", compress_level=1)
            lines.append(f"{number:05d}.png,{source.groups[section]},{task.sections[section].patient}")
        source.close()
        atomic.write_bytes(half / "labels.csv", ("\n".join(lines) + "\n").encode())
        half.rename(where)
    return where


def _fold(task: Task, fold: Fold, every: Mapping[str, Sequence[Floats]], way: str) -> scores.Scored:
    """Correlations of a fold, of each seed under a name of its own."""
    train, truth = task.values[fold.train], task.values[fold.test]
    blocks = dividing.squares(task, Fold(fold.name, fold.test, fold.train), SQUARES)
    found: dict[str, list[Doubles]] = {}
    for name, seeds in every.items():
        for seed, whole in enumerate(seeds):
            sides = whole[fold.train], whole[fold.test]
            if name in HANDMADE:  # of units of their own
                mean, sd = sides[0].mean(axis=0), np.maximum(sides[0].std(axis=0), 1e-6)
                sides = (sides[0] - mean) / sd, (sides[1] - mean) / sd
            if way == "published":
                found[_key(name, seed)] = [predict(sides[0], train, sides[1], "pca")[0]]
            else:
                found[_key(name, seed)] = [tuned(sides[0], train, sides[1], blocks)]
    return scores.scored(task.name, fold.name, truth, found, dividing.squares(task, fold, SQUARES))


def _key(name: str, seed: int) -> str:
    return f"{name}\n{seed}"


def tuned(train: Floats, values: Doubles, test: Floats, blocks: Ints) -> Doubles:
    """Expression (M, G) of the tested spots by a ridge whose penalty is chosen.

    Args:
        train: (N, D). values: (N, G). test: (M, D).
        blocks: (N,) pieces of tissue that no choosing part divides.
    """
    parts = GroupKFold(min(PARTS, len(np.unique(blocks))))
    ridge = make_pipeline(StandardScaler(), Ridge())
    search = GridSearchCV(ridge, {"ridge__alpha": PENALTIES}, cv=parts, scoring="r2")
    wide = train.astype(np.float64), test.astype(np.float64)
    found: Doubles = search.fit(wide[0], values, groups=blocks).predict(wide[1])
    return found


def _rows(
    scored: Sequence[scores.Scored], seeds: Mapping[str, int], way: str, against: Mapping[str, Sequence[str]]
) -> list[paired.Row]:
    ends = np.cumsum([fold.squares for fold in scored])
    own = {
        name: [partial(_figure, scored, ends, _key(name, seed)) for seed in range(count)]
        for name, count in seeds.items()
    }
    genes = {
        name: np.mean(
            [[fold.pearson[_key(name, seed)][0] for fold in scored] for seed in range(count)], axis=0
        )
        for name, count in seeds.items()
    }  # (folds, G)
    found = paired.rows(TASKS[way], own, int(ends[-1]), against)
    for row in found:
        mine = genes[row["encoder"]]
        row["patients"] = {
            fold.fold: float(np.nanmean(values)) for fold, values in zip(scored, mine, strict=True)
        }
        for other, gap in row["minus"].items():
            better = np.nanmean(mine, axis=0) > np.nanmean(genes[other], axis=0)
            gap["genes_above"] = float(better.mean())
    return found


def _figure(scored: Sequence[scores.Scored], ends: Ints, key: str, copies: Doubles) -> Doubles:
    """(R,) means over genes, then over folds, of samples of all folds' squares."""
    parts = np.split(copies, ends[:-1], axis=1)
    found = [np.nanmean(fold.drawn(key, part), axis=1) for fold, part in zip(scored, parts, strict=True)]
    return np.asarray(np.mean(found, axis=0))


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables."""
    lines = [paired.table(result["rows"]), ""]
    for row in result["rows"]:
        patients = ", ".join(f"{name} {value:.3f}" for name, value in row["patients"].items())
        genes = ", ".join(f"{gap['genes_above']:.0%} over {name}" for name, gap in row["minus"].items())
        ends = f"; genes better told: {genes}" if genes else ""
        lines.append(f"- {row['figure']}, {row['encoder']}: patients {patients}{ends}")
    lines += [
        "",
        f"{result['spots']} spots, {result['genes']} genes, two patients: one is learnt from, one tested. "
        f"Intervals are over {result['squares']} squares of tissue and say nothing of other patients.",
    ]
    return "\n".join(lines)

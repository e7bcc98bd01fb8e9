"""How much a few labelled tiles of each class tell: SimpleShot, by the nearest class mean.

SimpleShot (Wang et al. 2019, arXiv 1911.04623) as UNI has it (Chen et al. 2024): of each class n tiles are
drawn from the training side; all features less their mean, and of length 1 (CL2N); a test tile has the class
of the nearest class mean, by Euclid. 1,000 draws, each scored on the whole test side.

    with centre c, class mean p and test tile q, the distance orders classes as  |p|^2 - 2 (q-c).p / |q-c|
    so that many draws are one product of matrices

All features see the same draws. Figures are means over draws, with intervals over the groups of the test
side, and the range that 95 % of the draws lie in.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, describe
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.labelled import comparable, encode_sets, group_names, hold_out
from pathtrain.evaluate.tile_level.rows import Networks, per_class, per_tile
from pathtrain.evaluate.tile_level.sides import open_sides
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import preparation
from pathtrain.params.tile_level import FewShotParams
from pathtrain.runs.model import Model

AT_ONCE = 2**24  # distances: 64 MB
PROTOCOL = "SimpleShot as UNI has it: centred, of length 1, nearest class mean"


def few_shot(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by the nearest of class means of a few tiles each; see the module's text.

    Args:
        model, train, labels, label_origin: as ``linear`` takes them.
        test: another set; None takes the set's own split, or holds a fifth out by group.
        settings: of FewShotParams, by their flat names: ``shots="1,8", episodes=100``.

    Returns:
        JSON-able: what was done, counts, ``shots``, ``left_out_shots`` (more than a class has tiles), and
        ``results``: per features and number of shots ``balanced_N`` and ``accuracy_N`` with intervals over
        groups, ``balanced_N_episodes``, what 95 % of the draws lie between, of several networks
        ``balanced_N_range``, lowest and highest of one, and the model's lead.

    Raises:
        UsageError: as ``linear``; or a class has fewer tiles to learn from than every number of shots.
    """
    return few_shot_scored(model, train, test, labels, label_origin, **settings).result


def few_shot_scored(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    **settings: Any,
) -> Scored:
    """``few_shot``, with the units of its rows."""
    params = build(FewShotParams, settings)
    model = vectors_of(model, params.how)
    sides = open_sides(train, None, test, labels, label_origin, model.target).pair()
    classes, seed = sides.labels.classes, params.seed
    beside = Beside.of(model, params.baselines, seed)
    sets = encode_sets(beside, sides.sources, sides.labels, params.how)
    said = sides.said
    if len(sets) == 1:
        sets, said = (
            [*hold_out(sets[0], classes, sides.sources[0], seed)],
            f"80:20 by {sides.sources[0].kind}",
        )
    bank, queries = sets
    smallest = int(np.bincount(bank.labels, minlength=len(classes)).min())
    shots = [number for number in params.numbers() if number <= smallest]
    if not shots:
        raise UsageError(
            f"`shots` {params.shots}: a class has {smallest} tiles to learn from; give at most that"
        )
    scored = sides.of(sides.scored)[0]
    groups, group = group_names(queries, scored.groups)
    made, ranges = Networks(), dict[str, dict[str, list[float]]]()
    by_class = lambda right: per_class(right, queries.labels, len(classes), groups, group)  # noqa: E731
    for name in bank.features:
        pairs = list(comparable(bank, queries, name))
        ranges[name] = {}
        for number in shots:
            draws = drawn(bank.labels, len(classes), number, params.episodes, seed)
            found = [episodes(vectors, points, draws, queries.labels) for vectors, points in pairs]
            right = [each for each, _ in found]
            made.add(name, f"balanced_{number}", right, by_class)
            made.add(name, f"accuracy_{number}", right, lambda each: per_tile(each, groups, group))
            spread = np.concatenate([each for _, each in found])
            ranges[name][f"balanced_{number}_episodes"] = np.quantile(spread, [0.025, 0.975]).tolist()
    result = {
        "task": "few-shot",
        "protocol": f"{PROTOCOL}; {said}",
        "model": describe(model),
        "train": str(train),
        "test": None if test is None else str(test),
        **preparation(model, params.how),
        "precision": params.how.precision,
        "shots": shots,
        "left_out_shots": [number for number in params.numbers() if number > smallest],
        "episodes": params.episodes,
        "seed": seed,
        "classes": classes,
        "absent": sides.absent(),
        "train_tiles": len(bank.labels),
        "test_tiles": len(queries.labels),
        "groups": len(groups),
        "group_kind": scored.kind,
        "chance": 1 / len(classes),
        "baselines": beside.about,
        "results": [{**row, **ranges[row["name"]]} for row in made.rows(seed)],
    }
    return Scored(result, made.units)


def drawn(labels: Ints, classes: int, shots: int, episodes: int, seed: int) -> Ints:
    """(E, C, shots) row numbers, of each class without replacement."""
    rng = np.random.default_rng([seed, shots])
    own = [np.flatnonzero(labels == number) for number in range(classes)]
    return np.stack([[rng.choice(rows, shots, replace=False) for rows in own] for _ in range(episodes)])


def episodes(bank: Floats, queries: Floats, draws: Ints, labels: Ints) -> tuple[Doubles, Doubles]:
    """Classify the queries by each draw.

    Args:
        bank: (N, D). queries: (M, D), labels: (M,) their class numbers.
        draws: (E, C, shots) rows of the bank.

    Returns:
        (M,) share of the draws in which a query is right, and (E,) balanced accuracy of each draw.
    """
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        shift = bank.mean(axis=0)  # cancels; differences of small numbers lose less
        source, points = torch.from_numpy(bank - shift), torch.from_numpy(queries - shift)
        lengths = (points**2).sum(dim=1)[:, None]
        right, each = np.zeros(len(queries)), []
        counts = np.bincount(labels)
        block = max(1, AT_ONCE // (len(queries) * (draws.shape[1] + 1)))
        for start in range(0, len(draws), block):
            part = torch.from_numpy(draws[start : start + block])
            support = source[part]  # (e, C, n, D)
            centre = support.mean(dim=(1, 2))
            near = torch.nn.functional.normalize(support - centre[:, None, None], dim=-1).mean(dim=2)
            columns = torch.cat([near, centre[:, None]], dim=1)  # (e, C + 1, D)
            products = (points @ columns.flatten(0, 1).T).view(len(points), *columns.shape[:2])
            apart = (lengths - 2 * products[..., -1] + (centre**2).sum(dim=1)).clamp_min(1e-12).sqrt()
            inner = products[..., :-1] - (near * centre[:, None]).sum(dim=-1)
            distance = (near**2).sum(dim=-1) - 2 * inner / apart[..., None]
            hits = (distance.argmin(dim=2).numpy() == labels[:, None]).astype(np.float64)  # (M, e)
            right += hits.sum(axis=1)
            recalls = [hits[labels == number].mean(axis=0) for number in np.flatnonzero(counts)]
            each.append(np.mean(recalls, axis=0))
        return right / len(draws), np.concatenate(each)

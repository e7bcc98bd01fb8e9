"""The tail measures of croma (arXiv 2607.25497): by how much the class or the centre is nearer, tile by tile.

    MaRI    the robustness index with neighbours weighted by exp(-d / tau), d the cosine distance; tau is
            the median distance of the SO and OS neighbours within k
    CRoMa   of a tile, (d_OS - d_SO) / (d_OS + d_SO), with the mean distances of the 5 nearest neighbours of
    each
            kind, however far: above 0 the class is nearer. Its median over tiles; ``tail``, the mean of the
            worst tenth (LTM of 10 %); ``fragile``, the share of tiles at or below 0 (F(0))

Equal to croma 1.0.1 to rounding. It needs every tile to have 5 neighbours of each kind; where some have none,
croma stops, and here they are left out and counted (``margin_left_out``).
"""

from collections.abc import Sequence

import numpy as np

from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.shifts.found import Found, Tail, per_group
from pathtrain.evaluate.shifts.index import Near
from pathtrain.evaluate.statistics import Doubles, Flags, Floats, neighbours
from pathtrain.evaluate.units import Units

NEAREST = 5  # croma's headline m
WORST = 0.10
TAU = 0.2  # where no distance says another
ROUNDING = 1e-6  # of a cosine in float32: what is nearer is the same


def margins(features: Floats, cohort: Cohort, nears: Sequence[Near], k: int) -> Found:
    """MaRI and CRoMa of the subsets whose neighbours are given."""
    weighted, tau = _weighted(cohort, nears, k)
    found = [_croma(features[near.rows], near.cohort) for near in nears]
    values = np.concatenate(found)
    group = np.concatenate([near.cohort.group for near in nears])
    kept = np.isfinite(values)
    facts = {"mari_tau": tau, "margin_nearest": NEAREST, "margin_left_out": int((~kept).sum())}
    if not kept.any():
        return Found({"mari": weighted}, dict.fromkeys(("croma", "tail", "fragile")), facts)
    values, group = values[kept], group[kept]
    below = (values <= 0).astype(np.float64)
    return Found(
        {
            "mari": weighted,
            "croma": Tail.of(values, group, cohort.groups, 0.5),
            "tail": Tail.of(values, group, cohort.groups, WORST, mean=True),
            "fragile": per_group(group, cohort.groups, below, np.ones(len(below))),
        },
        {},
        facts,
    )


def _weighted(cohort: Cohort, nears: Sequence[Near], k: int) -> tuple[Units, float]:
    kinds = [near.kinds(k) for near in nears]
    distance = [_distance(near.similarity[:, :k]) for near in nears]
    typed = np.concatenate([each[so | os] for each, (so, os) in zip(distance, kinds, strict=True)])
    tau = float(np.median(typed)) if len(typed) else TAU
    tau = tau if tau > 0 else TAU
    nearest = float(typed.min()) if len(typed) else 0.0  # taken out of the exponent: the same ratio
    weights = [np.exp(-np.maximum(each - nearest, 0) / tau) for each in distance]
    so = np.concatenate([(each * one).sum(axis=1) for each, (one, _) in zip(weights, kinds, strict=True)])
    os = np.concatenate([(each * two).sum(axis=1) for each, (_, two) in zip(weights, kinds, strict=True)])
    group = np.concatenate([near.cohort.group for near in nears])
    return per_group(group, cohort.groups, so, so + os), tau


def _croma(features: Floats, cohort: Cohort) -> Doubles:
    """(n,) margins; NaN where a tile has too few neighbours of a kind, or all at distance 0."""
    so, os = _far(features, cohort, same_label=True), _far(features, cohort, same_label=False)
    values = np.full(len(cohort), np.nan)
    np.divide(os - so, os + so, out=values, where=np.isfinite(os + so) & (os + so > 0))
    return values


def _far(features: Floats, cohort: Cohort, same_label: bool) -> Doubles:
    """(n,) mean distance of the nearest SO (or OS); NaN where there are fewer than NEAREST."""
    label, column = cohort.label, cohort.column

    def banned(part: slice) -> Flags:
        one = label[part, None] == label[None, :]
        other = column[part, None] == column[None, :]
        return np.asarray(~(one ^ other) | (one != same_label) | cohort.banned(part))

    far = np.full(len(cohort), np.nan)
    if len(cohort) >= NEAREST:
        for part, similarity, _ in neighbours(features, features, NEAREST, banned):
            far[part] = _distance(similarity).mean(axis=1)  # infinite if few
    return np.where(np.isfinite(far), far, np.nan)


def _distance(similarity: Floats) -> Doubles:
    """Cosine distances in float64, 0 where rounding alone tells two apart."""
    far = 1 - similarity.astype(np.float64)
    return np.where(far < ROUNDING, 0.0, far)

"""Whether probabilities are what they say: expected calibration error and Brier score.

    ece      over 15 bins of equal width of the highest probability of a tile (Guo et al. 2017): the mean over
             tiles of |share of right ones - mean probability| of their bin; 0 is calibrated
    brier    mean over tiles of the sum over classes of (p - y)^2 (Brier 1950): 0 to 2, lower is better

Of several networks and repeats: the mean of each one's figures. Lower is better, so a lead below 0 is good.
Intervals are over groups, of the same draws for all features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Figure, Floats, Ints, figures, flat
from pathtrain.evaluate.tile_level.labelled import Set, group_names
from pathtrain.evaluate.units import Units, compared

BINS = 15
Shares = Mapping[str, Floats] | Mapping[str, Doubles]


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits, over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def bins_of(shares: Floats | Doubles, labels: Ints) -> tuple[Ints, Doubles, Doubles]:
    """Of tiles (M, C): the bin (M,) of each one's highest probability, the latter, and 1 where right."""
    best = shares.argmax(axis=1)
    sure = shares[np.arange(len(shares)), best].astype(np.float64)
    bins = np.minimum(np.ceil(sure * BINS).astype(np.int64) - 1, BINS - 1)
    return np.maximum(bins, 0), sure, (best == labels).astype(np.float64)


def brier(shares: Floats | Doubles, labels: Ints) -> Doubles:
    """(M,) of probabilities (M, C)."""
    goals = np.eye(shares.shape[1])[labels]
    return np.asarray(((shares - goals) ** 2).sum(axis=1), dtype=np.float64)


def calibrated(
    shares: Shares, queries: Set, seed: int, names: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], Units]]:
    """Calibration of each kind of features, and how the first's differs.

    Args:
        shares: name -> (N, R, M, C) probabilities of N networks, R repeats.
        queries: M tiles.
        seed: of the bootstrap.
        names: of the groups, by number.

    Returns:
        Per name ``ece``, ``brier``, their intervals, ``lead`` (the first's less this one's; None for the
        first) and ``reliability``: of each bin tiles, mean probability and share of right ones, of all
        networks and repeats; and the units of ``brier``.
    """
    groups, group = group_names(queries, names)
    counts = np.bincount(group).astype(np.float64)
    units, gaps, found = dict[tuple[str, str], Units](), dict[str, Doubles](), dict[str, dict[str, Any]]()
    for name, each in shares.items():
        repeats = each.reshape(-1, *each.shape[2:])
        off = np.mean([brier(one, queries.labels) for one in repeats], axis=0)
        units[name, "brier"] = Units(
            groups, np.asarray(np.bincount(group, off)[:, None], np.float64), counts[:, None]
        )
        gaps[name], table = _gaps(repeats, queries.labels, group, len(groups))
        found[name] = {"reliability": table}
    first = next(iter(shares))

    def both(copies: Doubles) -> dict[tuple[str, str], Doubles]:
        tiles = copies @ counts
        own = {}
        for name, gap in gaps.items():
            drawn = np.abs(copies @ gap.reshape(len(groups), -1)).reshape(len(copies), BINS, -1)
            own["own", name] = drawn.sum(axis=1).mean(axis=1) / tiles
        return own | {("lead", name): own["own", first] - own["own", name] for name in shares}

    limits = {(kind, name): (low, 1.0) for kind, low in (("own", 0.0), ("lead", -1.0)) for name in shares}
    errors = figures(both, len(groups), seed, limits)
    scores = compared({name: units[name, "brier"] for name in shares}, "brier", seed, (0.0, 2.0))
    for name in shares:
        lead: dict[str, Figure] = {"ece": errors["lead", name]}
        also = scores[name]["lead"]
        found[name] |= flat({"ece": errors["own", name]}) | scores[name]
        found[name]["lead"] = None if name == first else {**flat(lead), **also}
    return found, units


def _gaps(
    repeats: Floats | Doubles, labels: Ints, group: Ints, groups: int
) -> tuple[Doubles, list[dict[str, float | int | None]]]:
    """(G, BINS, R) sums of right - probability of groups, bins and repeats; and the table of the bins."""
    gaps = np.zeros((groups, BINS, len(repeats)))
    tiles, sure_sums, right_sums = (np.zeros(BINS) for _ in range(3))
    for number, one in enumerate(repeats):
        bins, sure, right = bins_of(one, labels)
        np.add.at(gaps[:, :, number], (group, bins), right - sure)
        tiles += np.bincount(bins, minlength=BINS)
        sure_sums += np.bincount(bins, sure, minlength=BINS)
        right_sums += np.bincount(bins, right, minlength=BINS)
    return gaps, [
        {
            "tiles": int(tiles[b]),
            "probability": float(sure_sums[b] / tiles[b]) if tiles[b] else None,
            "right": float(right_sums[b] / tiles[b]) if tiles[b] else None,
        }
        for b in range(BINS)
    ]


def joined(rows: list[dict[str, Any]], more: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the figures of others of their name, leads too."""
    found = []
    for row in rows:
        own = more[row["name"]]
        lead = None if row["lead"] is None else {**row["lead"], **own["lead"]}
        found.append({**row, **own, "lead": lead})
    return found

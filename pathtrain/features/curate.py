"""``pathtrain curate``: features of tiles to clusters of tiles, to draw from alike.

What is common in tissue fills most tiles. Clusters of their features, drawn equally often, show what is rare
as often as what is common (Vo et al. 2024, arXiv 2405.15613); see pathtrain.features.hierarchical_kmeans.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.params.running import listed
from pathprep.storage.place import local_folder
from pathtrain.data import cluster_table, groups
from pathtrain.data.cluster_table import ClusterTable, Shard
from pathtrain.data.groups import Grouped
from pathtrain.data.order import Ints
from pathtrain.features import hierarchical_kmeans as kmeans
from pathtrain.features.bags import Bags
from pathtrain.features.read import opened

EACH = 50  # tiles of a cluster of the finest level on average, where the user does not say how many there are
SHRINK, FEWEST = 10, 5  # each next level has a tenth of the clusters, and none has fewer than these
MOST_FINEST = 10_000
MEMORY_GB = 2.0
MADE_FROM = ("fingerprint", "build_id", "source_sha256", "slide")  # attributes of a file of features

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LevelSummary:
    """One level of clusters.

    Attributes:
        level: 1 is the finest.
        clusters: that hold a tile.
        smallest, median, largest: tiles of one.
        effective_before, effective_after: exp of the entropy of the clusters' shares of tiles as they are,
            and as they are drawn; equal shares of K clusters have K.
    """

    level: int
    clusters: int
    smallest: int
    median: float
    largest: int
    effective_before: float
    effective_after: float


@dataclass(frozen=True)
class Curation:
    """What was made.

    Attributes:
        out: the table.
        tiles, slides: in it. fitted: tiles that the clusters were fitted on.
        levels: the finest first.
        weight_range: smallest and largest weight of a tile.
    """

    out: Path
    tiles: int
    slides: int
    fitted: int
    levels: list[LevelSummary]
    weight_range: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out)}


def curate(
    features: str | Path | Iterable[str | Path],
    out: str | Path = "weights.parquet",
    *,
    clusters: Sequence[int] | None = None,
    resample: int = 10,
    seed: int = 0,
    memory: float = MEMORY_GB,
) -> Curation:
    """Cluster tiles by their features, and write each one's clusters and weight.

    Features are scaled to length 1. Where they are more than ``memory``, clusters are fitted on as many tiles
    as fit, drawn at random, and all tiles are then assigned, slide by slide.

    Args:
        features: a folder that `pathtrain embed` wrote, or several, of one model.
        out: the table, Parquet.
        clusters: of each level, the finest first, falling; None: a fiftieth of the tiles (at most 10,000),
            and a tenth of that in each next level.
        resample: how often each level is clustered again on an equal number of points of each cluster.
        seed: of the clusters.
        memory: GB of features that are fitted on.

    Raises:
        UsageError: ``out`` is not called .parquet; no features, of several models, or not as they were
            written; wrong numbers of clusters.
    """
    if resample < 0 or seed < 0 or not memory > 0:
        raise UsageError("`resample` and `seed` must be 0 or more, `memory` above 0")
    target = Path(local_folder(out))
    if target.suffix != ".parquet":
        raise UsageError(f"`out` {out}: the table is Parquet; end its name in .parquet")
    sources = [Bags.open(Path(folder)) for folder in listed(features)]
    shards, made = _described(sources)
    total = sum(shard.rows for shard in shards)
    if any(source.dim != sources[0].dim for source in sources):
        raise UsageError("features of one length are needed: give folders of one model")
    most = int(memory * 1e9) // (4 * sources[0].dim)
    counts = _counts(clusters, min(total, most))
    points = points_of(sources, total, most, seed)
    found = kmeans.fit(points, counts, resample, seed, log.info)
    fitted = len(points)
    del points
    parts = [found.assign(unit(source.read(slide))) for source in sources for slide in source.counts]
    assigned = np.concatenate(parts)
    grouped = _grouped(assigned)
    weights = _weights(grouped, total)
    made |= {"clusters": counts, "resample": resample, "seed": seed, "fitted": fitted}
    cluster_table.write(target, ClusterTable(assigned, _coords(sources, shards), weights, shards, made))
    low, high = float(weights.min()), float(weights.max())
    levels = [_summary(assigned, level, weights) for level in range(assigned.shape[1])]
    return Curation(target, total, len(shards), fitted, levels, (low, high))


def _described(sources: list[Bags]) -> tuple[list[Shard], dict[str, Any]]:
    """The tars whose tiles these are, and the model that the features are of."""
    shards, models = list[Shard](), dict[str, Path]()
    for source in sources:
        for slide, rows in source.counts.items():
            path = source.paths[slide]
            with opened(path, whole=False) as file:
                given = {
                    key: file.attrs.get(key) for key in ("fingerprint", "build_id", "source_sha256", "slide")
                }
            if not all(given.values()):
                raise UsageError(
                    f"{path}: does not say which tiles of which dataset it is of; curate takes features of "
                    "a dataset's tiles, as `pathtrain embed` writes them"
                )
            models.setdefault(str(given["fingerprint"]), path)
            shards.append(Shard(slide, str(given["source_sha256"]), str(given["build_id"]), rows))
    if len(models) > 1:
        (_, one), (_, other) = list(models.items())[:2]
        raise UsageError(f"{one} and {other} are of two models; give features of one")
    if len({(shard.slide, shard.sha256) for shard in shards}) < len(shards):
        raise UsageError("the features of a slide come twice; name each folder once")
    return shards, {"fingerprint": next(iter(models))}


def _counts(given: Sequence[int] | None, points: int) -> list[int]:
    if given is None:
        counts = [max(FEWEST, min(MOST_FINEST, points // EACH))]
        while counts[-1] // SHRINK >= FEWEST:
            counts.append(counts[-1] // SHRINK)
        given = counts
    counts = list(given)
    falling = all(after < before for before, after in pairwise(counts))
    if not counts or min(counts) < 2 or not falling or counts[0] >= points:
        raise UsageError(
            f"`clusters` {','.join(map(str, counts))}: give the clusters of each level, the finest first, "
            f"each fewer than the one before, 2 at least, and fewer than {points:,}, the tiles of the fit"
        )
    return counts


def points_of(sources: list[Bags], total: int, most: int, seed: int) -> Floats:
    """Features of all tiles, or of ``most`` of them at random, of length 1."""
    chosen = np.arange(total)
    if total > most:
        chosen = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
    found = np.empty((len(chosen), sources[0].dim), np.float32)
    start = at = 0
    for source in sources:
        for slide, rows in source.counts.items():
            own = chosen[(chosen >= start) & (chosen < start + rows)] - start
            if len(own):
                found[at : at + len(own)] = unit(source.read(slide)[own])
            start, at = start + rows, at + len(own)
    return found


def unit(features: Floats) -> Floats:
    """Features of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    found: Floats = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return found


def _coords(sources: list[Bags], shards: list[Shard]) -> Ints:
    found = []
    for source in sources:
        for slide, rows in source.counts.items():
            with opened(source.paths[slide]) as file:
                known = "coords" in file
                found.append(np.asarray(file["coords"], np.int64) if known else np.full((rows, 2), -1))
    return np.concatenate(found)


def _grouped(assigned: Ints) -> Grouped:
    """The groups that training draws by."""
    count = len(assigned)
    codes = [assigned[:, level] for level in reversed(range(assigned.shape[1]))]
    levels, starts, firsts, places, leaves = groups.tree(
        codes, np.arange(count), np.ones(count, np.int64), [None] * len(codes)
    )
    return Grouped({"cluster": leaves[-1].astype(str)}, levels, starts, firsts, places)


def _weights(grouped: Grouped, total: int) -> npt.NDArray[np.float64]:
    """(N,) how often each tile comes against all alike; their mean is 1."""
    found = np.empty(total)
    found[grouped.firsts] = np.repeat(grouped.shares / grouped.sizes, grouped.sizes) * total
    return found


def _summary(assigned: Ints, level: int, weights: npt.NDArray[np.float64]) -> LevelSummary:
    _, numbers = np.unique(assigned[:, level], return_inverse=True)
    sizes = np.bincount(numbers)
    after = np.bincount(numbers, weights)
    return LevelSummary(
        level + 1,
        len(sizes),
        int(sizes.min()),
        float(np.median(sizes)),
        int(sizes.max()),
        effective(sizes),
        effective(after),
    )


def effective(amounts: npt.NDArray[Any]) -> float:
    """exp of the entropy of shares: of K equal ones K, of one that is all 1."""
    shares = amounts[amounts > 0] / amounts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))

"""Clusters of tiles by their features: which look alike, over all slides.

k-means on features of length 1 (pathtrain.features.hierarchical_kmeans), at one level or several; the
clusters are numbered by size, so that cluster 1 is the largest.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.scores.columns import MOST_CLASSES
from pathprep.scores.write import check_name
from pathtrain.features import curate, hierarchical_kmeans
from pathtrain.scores import source


@dataclass(frozen=True)
class Clusters:
    """What was written.

    Attributes:
        out: the file. tiles, slides: in it. fitted: tiles that the clusters were fitted on.
        sizes: tiles of each cluster, by level, the finest first.
    """

    out: Path
    tiles: int
    slides: int
    fitted: int
    sizes: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out)}


def clusters(
    features: str | Path,
    out: str | Path = "scores.parquet",
    *,
    count: int | Sequence[int] = 8,
    seed: int = 0,
    memory: float = curate.MEMORY_GB,
) -> Clusters:
    """Cluster the tiles of slides by their features.

    Args:
        features: a folder of slides' features, as ``embed`` writes them.
        out: Parquet or CSV; a column ``cluster``, or ``cluster of <count>`` for each of several levels.
        count: of clusters, or of each level, falling.
        seed: of the clusters.
        memory: GB of features that clusters are fitted on; of more, so many at random.

    Raises:
        UsageError: a wrong number of clusters, or features without places.
    """
    target = Path(out)
    check_name(target)
    slides = source.slides_of(features)
    total = sum(slides.counts.values())
    counts = [count] if isinstance(count, int) else list(count)
    most = min(total, MOST_CLASSES)
    falling = all(after < before for before, after in pairwise(counts))
    if not counts or min(counts) < 2 or not falling or counts[0] > most:
        raise UsageError(
            f"`count` {','.join(map(str, counts))}: give 2 to {most:,} clusters; of several "
            "levels each fewer than the one before"
        )
    if seed < 0 or not memory > 0:
        raise UsageError("`seed` must be 0 or more, `memory` above 0")
    points = curate.points_of([slides], total, int(memory * 1e9) // (4 * slides.dim), seed)
    found = hierarchical_kmeans.fit(points, counts, 0, seed, lambda _text: None)
    assigned = {slide: found.assign(curate.unit(slides.read(slide))) for slide in slides.counts}
    every = np.concatenate(list(assigned.values()))
    sizes = [np.bincount(every[:, level], minlength=counts[level]) for level in range(len(counts))]
    ranks = [np.argsort(np.argsort(-size, kind="stable"), kind="stable") + 1 for size in sizes]
    names = ["cluster"] if len(counts) == 1 else [f"cluster of {number}" for number in counts]
    columns = {
        slide: {
            name: [f"cluster {number}" for number in ranks[level][own[:, level]].tolist()]
            for level, name in enumerate(names)
        }
        for slide, own in assigned.items()
    }
    tiles = source.write(slides, target, columns)
    falling_sizes = [sorted(size.tolist(), reverse=True) for size in sizes]
    return Clusters(target, tiles, len(columns), len(points), falling_sizes)

"""Hierarchical k-means with resampling: Vo et al. 2024, Automatic Data Curation for Self-Supervised Learning:
A Clustering-Based Approach (arXiv 2405.15613), section 3.

The points are clustered, the centroids again, and so on. Plain k-means puts most of its centroids where most
points are. So at each level the clustering is repeated, on an equal number of points of each cluster, those
nearest to its centroid, about half of what a cluster has on average: the centroids spread over what there is,
not over how much of it there is. scikit-learn's k-means does each clustering.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin_min

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Points times clusters, from which on batches of points move the centroids, not all points at once
MOST_AT_ONCE = 200_000_000
BATCH = 4096  # at least; several points a cluster
FEWEST = 2  # points of a cluster that are drawn in resampling


@dataclass(frozen=True)
class Hierarchy:
    """L levels of clusters, the finest first.

    Attributes:
        centroids: (K1, D) of the finest level.
        parents: of each level but the last, (K,) the cluster of the next one that its clusters are in.
    """

    centroids: Floats
    parents: list[Ints]

    def assign(self, points: Floats) -> Ints:
        """(N, L) cluster of each point in each level, the finest first."""
        found = [nearest(points, self.centroids)[0]]
        for parents in self.parents:
            found.append(parents[found[-1]])
        return np.stack(found, axis=1)


def nearest(points: Floats, centroids: Floats) -> tuple[Ints, Floats]:
    """(N,) the nearest centroid of each point, and its distance; in blocks, without a matrix of all."""
    found, distances = pairwise_distances_argmin_min(points, centroids)
    return found.astype(np.int64), distances.astype(np.float32)


def fit(
    points: Floats, clusters: Sequence[int], resample: int, seed: int, watch: Callable[[str], None] = print
) -> Hierarchy:
    """Cluster points.

    Args:
        points: (N, D).
        clusters: of each level, the finest first; fewer in each than in the one before, and than points.
        resample: how often the clustering is repeated at each level; 0 is plain hierarchical k-means.
        seed: the same gives the same, on the same machine.
        watch: told of each level.
    """
    here, centroids, parents = points, list[Floats](), list[Ints]()
    for level, count in enumerate(clusters):
        watch(f"level {level + 1}: {len(here):,} points into {count:,} clusters")
        made = _kmeans(here, count, seed)
        for _ in range(resample):
            made = _kmeans(_some_of_each(here, made), count, seed)
        if level:
            parents.append(nearest(here, made)[0])
        centroids.append(made)
        here = made
    return Hierarchy(centroids[0], parents)


def _some_of_each(points: Floats, centroids: Floats) -> Floats:
    """Of each cluster the points that are nearest to its centroid: half of a cluster's average number."""
    most = max(FEWEST, round(len(points) / len(centroids) / 2))
    cluster, distance = nearest(points, centroids)
    order = np.lexsort((distance, cluster))
    counts = np.bincount(cluster, minlength=len(centroids))
    place = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
    return points[np.sort(order[place < most])]


def _kmeans(points: Floats, count: int, seed: int) -> Floats:
    """(count, D) centroids; (N, D) the points themselves where there are no more."""
    if len(points) <= count:
        return points
    made: KMeans | MiniBatchKMeans
    if len(points) * count <= MOST_AT_ONCE:
        made = KMeans(count, n_init=1, max_iter=50, random_state=seed)
    else:
        batch = max(BATCH, 4 * count)
        made = MiniBatchKMeans(count, n_init=1, batch_size=batch, random_state=seed)
    with (
        warnings.catch_warnings()
    ):  # points that are alike make fewer clusters; empty ones are left out later
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Floats = made.fit(points).cluster_centers_.astype(np.float32)
    return found

"""PathoROB's clustering score: does k-means find the classes, or the centres?

Within every two classes at two values of the column, with as many tiles of each cell, the features'
directions are clustered (k-means, random starts, as its code): with 2 to 30 clusters, the number at which
the cosine silhouette is best, and then 50 times from other starts. The score is the adjusted Rand index of
the clusters with
the classes, less that with the values: 1 the classes, -1 the centres. The mean over repeats, and over
    subsets.

Intervals are over subsets, which share classes and values; there is none for one subset. Of one subset,
``clusters_range`` says what the starts change.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.shifts.found import Found
from pathtrain.evaluate.shifts.index import subsets
from pathtrain.evaluate.statistics import Floats, Ints, unit
from pathtrain.evaluate.tile_level.collapse import silhouette
from pathtrain.evaluate.units import Units
from pathtrain.params.robustness import ClusterParams

SEED = 1337  # PathoROB's, of the first start
STARTS, STARTS_AGAIN = 20, 5  # when the number is chosen, and in each repeat


def parts_of(cohort: Cohort, params: ClusterParams, seed: int) -> list[Ints]:
    """Rows of each subset, at most ``params.tiles`` of a cell.

    Raises:
        UsageError: no two classes are both at two values.
    """
    found: list[Ints] = []
    for rows in subsets(cohort, "paired", seed):
        cell = cohort.label[rows] * len(cohort.values) + cohort.column[rows]
        rng = np.random.default_rng([seed, len(found)])
        kept = [rng.permutation(rows[cell == each])[: params.tiles] for each in np.unique(cell)]
        found.append(np.sort(np.concatenate(kept)))
    return found


def clustering(features: Floats, cohort: Cohort, parts: list[Ints], params: ClusterParams) -> Found:
    """The score of one kind of features on the subsets."""
    scores, label, value, best = [], [], [], []
    for rows in parts:
        points = unit(features[rows])
        number = clusters_of(points, params.most)
        best.append(number)
        each = [grouped(points, number, SEED + repeat, STARTS_AGAIN) for repeat in range(params.repeats)]
        label.append([float(adjusted_rand_score(cohort.label[rows], found)) for found in each])
        value.append([float(adjusted_rand_score(cohort.column[rows], found)) for found in each])
        scores.append(np.subtract(label[-1], value[-1]))
    mean = np.array([one.mean() for one in scores])
    names = tuple(f"subset {number}" for number in range(len(parts)))
    low, high = float(np.mean([one.min() for one in scores])), float(np.mean([one.max() for one in scores]))
    return Found(
        {"clusters": Units(names, mean[:, None], np.ones((len(mean), 1)))},
        {"rand_label": float(np.mean(label)), "rand_column": float(np.mean(value))},
        {"clusters_number": {"min": min(best), "median": float(np.median(best)), "max": max(best)},
         "clusters_range": [low, high], "clusters_subsets": len(parts)},
    )  # fmt: skip


def clusters_of(points: Floats, most: int) -> int:
    """The number of clusters with the best silhouette; the smaller of two."""
    numbers = range(2, min(most, len(np.unique(points, axis=0)) - 1) + 1)
    if not numbers:
        return 2
    found = [float(silhouette(points, grouped(points, each, SEED, STARTS)).mean()) for each in numbers]
    return numbers[int(np.argmax(found))]


def grouped(points: Floats, number: int, seed: int, starts: int) -> Ints:
    """(n,) cluster of each point, numbered without gaps."""
    number = min(number, len(np.unique(points, axis=0)))
    model = KMeans(n_clusters=number, random_state=seed, n_init=starts, init="random").fit(points)
    return np.unique(model.labels_, return_inverse=True)[1].astype(np.int64)

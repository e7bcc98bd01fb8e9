"""The clustering score against PathoROB's steps in scikit-learn, and known answers."""

import numpy as np
import pytest
from helpers.cohorts import balanced, features
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from pathtrain.evaluate.shifts.clusters import clustering, clusters_of, grouped, parts_of
from pathtrain.evaluate.shifts.found import Found
from pathtrain.evaluate.tile_level.collapse import silhouette
from pathtrain.params.robustness import ClusterParams

PARAMS = ClusterParams(repeats=3, most=5)


def value(found: Found) -> float:
    unit = found.units["clusters"]
    return float(unit.figure(np.ones((1, len(unit.groups))))[0])


def test_it_is_pathorobs_steps() -> None:
    made = balanced()
    points = features(made, label=0.5, column=0.7)
    (rows,) = parts_of(made, PARAMS, 0)
    found = clustering(points, made, [rows], PARAMS)
    unit = points[rows] / np.linalg.norm(points[rows], axis=1, keepdims=True)
    widths = {}
    for number in range(2, 6):
        labels = KMeans(number, random_state=1337, init="random", n_init=20).fit(unit).labels_
        widths[number] = silhouette_score(unit, labels, metric="cosine")
    best = max(widths, key=lambda number: widths[number])
    scores = []
    for trial in range(3):
        labels = KMeans(best, random_state=1337 + trial, init="random", n_init=5).fit(unit).labels_
        scores.append(
            adjusted_rand_score(made.label[rows], labels) - adjusted_rand_score(made.column[rows], labels)
        )
    assert found.facts["clusters_number"]["median"] == best
    assert value(found) == pytest.approx(np.mean(scores), abs=1e-9)


@pytest.mark.parametrize(("label", "column", "expected"), [(9.0, 0.0, 1.0), (0.0, 9.0, -1.0)])
def test_known_answers(label: float, column: float, expected: float) -> None:
    made = balanced(centres=3)
    parts = parts_of(made, PARAMS, 0)
    assert len(parts) == 3
    found = clustering(features(made, label=label, column=column), made, parts, PARAMS)
    assert value(found) == pytest.approx(expected, abs=0.02)


def test_alike_features_are_one_cluster() -> None:
    made = balanced()
    points = np.ones((len(made), 4), np.float32)
    assert clusters_of(points, 5) == 2
    assert value(clustering(points, made, parts_of(made, PARAMS, 0), PARAMS)) == 0


def test_fewer_points_than_clusters_are_as_many_clusters() -> None:
    # scikit-learn#10059: 17 points, 9 of them different, into 10 clusters
    points = [(1086, 348), (1087, 347), (1190, 244), (1190, 244), (1086, 348), (1185, 249), (1193, 241)]
    points += [(1185, 249), (1087, 347), (1188, 247), (1187, 233), *[(26, 111)] * 2, *[(26, 110)] * 4]
    found = grouped(np.array(points, np.float32), 10, 0, 5)
    assert sorted(set(found.tolist())) == list(range(9))
    assert clusters_of(np.array(points, np.float32), 30) <= 8


def test_a_cluster_of_one_has_the_width_nought_as_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 4)).astype(np.float32)
    numbers = np.array([0] * 10 + [1] * 9 + [2])
    expected = silhouette_score(points.astype(np.float64), numbers, metric="cosine")
    assert silhouette(points, numbers).mean() == pytest.approx(expected, abs=1e-6)

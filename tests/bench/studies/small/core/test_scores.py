"""Scores of the study against scikit-learn's, and on features with a known answer."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from small.core.scores import Guess, Labels, auroc, gap_text, guess, recall, rows_text, table


def test_weighted_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], 20)
    said = rng.random((60, 3)).round(1)  # with ties
    weights = rng.integers(0, 3, (5, 60)).astype(float)
    found = auroc(said, label, weights)
    for row, value in zip(weights, found, strict=True):
        each = [roc_auc_score(label == code, said[:, code], sample_weight=row) for code in range(3)]
        assert value == pytest.approx(np.mean(each), abs=1e-12)


def test_a_class_that_a_sample_lacks_is_left_out() -> None:
    label, said = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    found = auroc(said, label, np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]))
    assert found[0] == 1
    assert np.isnan(found[1])


def test_weighted_recall_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    label, said = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    weights = rng.integers(1, 4, (4, 60)).astype(float)
    expected = [balanced_accuracy_score(label, said, sample_weight=row) for row in weights]
    assert recall(said, label, weights) == pytest.approx(expected)


def drawn(shift: float, seed: int) -> tuple[np.ndarray, np.ndarray, Labels, Labels]:
    """Features of 90 and 120 tiles of three classes, whose means are ``shift`` apart."""
    rng = np.random.default_rng(seed)

    def side(count: int) -> tuple[np.ndarray, Labels]:
        label = np.arange(count) % 3
        x = rng.normal(size=(count, 4)) + shift * np.eye(4)[label]
        return x.astype(np.float32), Labels(("a", "b", "c"), label, np.arange(count) // 3)

    (x, known), (y, asked) = side(90), side(120)
    return x, y, known, asked


def test_what_knows_more_is_told_from_what_knows_less_and_nothing_from_nothing() -> None:
    found: dict[str, list[Guess]] = {}
    for name, shift in (("good", 3.0), ("blind", 0.0), ("blind too", 0.0)):
        for seed in range(2):
            x, y, known, asked = drawn(shift, seed + len(name))
            found.setdefault(name, []).append(guess(x, known, y))
    rows = table(found, asked, {"good": ["blind"], "blind": ["blind too"]})
    at = {(row["encoder"], row["figure"]): row for row in rows}
    for figure in ("auroc", "balanced", "knn"):
        assert at["good", figure]["value"] > 0.8
        assert at["good", figure]["minus"]["blind"]["clear"]
        assert not at["blind", figure]["minus"]["blind too"]["clear"]
        assert len(at["good", figure]["seeds"]) == 2
    assert at["good", "auroc"]["value"] == pytest.approx(np.mean(at["good", "auroc"]["seeds"]))
    text = rows_text(rows)
    assert text[2].startswith("| good | 0.")
    assert "**+0." in text[3]


def test_one_seed_on_the_other_side_is_not_clear() -> None:
    """Two seeds far above and one below: the mean's interval leaves 0 out, and it is not called clear."""
    label, group = np.arange(60) % 2, np.arange(60) // 2
    right = np.eye(2)[label]
    asked = Labels(("a", "b"), label, group)

    def of(share: float) -> Guess:
        told = np.where(np.arange(60)[:, None] < 60 * share, right, 1 - right)
        return Guess(told, told.argmax(axis=1))

    rows = table({"new": [of(1), of(1), of(0.5)], "old": [of(0.6)]}, asked, {"new": ["old"]})
    gap = next(row for row in rows if row["encoder"] == "new" and row["figure"] == "balanced")["minus"]["old"]
    assert gap["interval"][0] > 0
    assert not gap["clear"]
    assert "**" not in gap_text(gap)

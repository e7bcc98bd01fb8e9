"""Calibration against torchmetrics and scikit-learn, and on data whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torchmetrics.classification import MulticlassCalibrationError

from pathtrain.evaluate.tile_level.calibration import brier, calibrated, softmax
from pathtrain.evaluate.tile_level.labelled import Set


def drawn(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return softmax(rng.normal(0, 2, (count, classes)).astype(np.float32)), rng.integers(classes, size=count)


def test_figures_are_torchmetrics_and_sklearns() -> None:
    shares, labels = drawn(500, 4, 0)
    queries = Set({}, labels, np.arange(500) // 10)
    found, units = calibrated({"model": shares[None, None]}, queries, 0)
    error = MulticlassCalibrationError(4, n_bins=15, norm="l1")(
        torch.from_numpy(shares), torch.from_numpy(labels)
    )
    assert found["model"]["ece"] == pytest.approx(float(error), abs=1e-6)
    two, truth = drawn(300, 2, 1)
    # scikit-learn's of two classes counts one of them: half of the sum
    assert brier(two, truth).mean() == pytest.approx(2 * brier_score_loss(truth, two[:, 1]), abs=1e-6)
    assert units["model", "brier"].figure(np.ones((1, 50)))[0] == pytest.approx(found["model"]["brier"])
    assert sum(each["tiles"] for each in found["model"]["reliability"]) == 500
    low, high = found["model"]["ece_interval"]
    assert 0 <= low < high <= 1


def test_known_answers_and_leads() -> None:
    """Always right and sure is 0; right half of the time and sure is 0.5, and a Brier score of 1."""
    labels = np.array([0, 1] * 40)
    sure = np.eye(2, dtype=np.float32)
    right, half = sure[labels], np.tile(sure[:1], (80, 1))
    queries = Set({}, labels, np.arange(80) // 4)
    found, _ = calibrated({"model": right[None, None], "colour": half[None, None]}, queries, 0)
    assert (found["model"]["ece"], found["model"]["brier"]) == (0.0, 0.0)
    assert (found["colour"]["ece"], found["colour"]["brier"]) == (0.5, 1.0)
    assert found["model"]["lead"] is None
    assert (found["colour"]["lead"]["ece"], found["colour"]["lead"]["brier"]) == (-0.5, -1.0)
    level = np.full((80, 2), 0.5, dtype=np.float32)
    found, _ = calibrated({"model": level[None, None]}, queries, 0)
    assert (found["model"]["ece"], found["model"]["brier"]) == (0.0, 0.5)


def test_repeats_count_each_for_itself() -> None:
    """Errors of repeats do not cancel: of one that is too sure and one that is not sure enough, the mean."""
    labels = np.array([0, 1] * 20)
    sure = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (40, 1))
    shy = np.where(np.eye(2)[labels] > 0, 0.55, 0.45).astype(np.float32)
    queries = Set({}, labels, np.arange(40))
    both, _ = calibrated({"model": np.stack([sure, shy])[None]}, queries, 0)
    assert both["model"]["ece"] == pytest.approx((0.5 + 0.45) / 2, abs=1e-6)

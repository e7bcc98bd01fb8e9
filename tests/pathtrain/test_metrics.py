"""Scores of features, against their definitions."""

import numpy as np
import pytest
from scipy.linalg import svdvals
from scipy.stats import entropy

from pathtrain.metrics import rankme


def test_effective_rank_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 30)) @ np.diag(0.8 ** np.arange(30.0)) + 0.5).astype(np.float32)
    values = svdvals(features.astype(np.float64))
    expected = np.exp(entropy(values / values.sum()))  # without the paper's 1e-7, which moves it by < 1e-4
    assert rankme(features) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("used", [1, 4, 16])
def test_equal_directions_count_one_each(used: int) -> None:
    features = np.tile(np.eye(16, dtype=np.float32)[:used], (8, 1))
    assert rankme(features) == pytest.approx(used, rel=1e-3)


def test_nothing_has_no_rank() -> None:
    assert rankme(np.zeros((5, 3), dtype=np.float32)) == 0

"""Figures of outputs and features against numpy and scipy, from means over parts."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn import functional

from pathtrain.losses.spread import MOMENT, effective_rank, figures, moments


def outputs(rng: np.random.Generator, tiles: int, k: int) -> np.ndarray:
    powers = np.exp(rng.normal(size=(tiles, k)) * 3)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("sizes", [[12], [5, 4, 3]])
def test_figures_of_the_whole_follow_from_means_of_its_parts(sizes: list[int]) -> None:
    """SD and singular values of all features at once, by numpy; parts weigh by their tiles."""
    rng = np.random.default_rng(0)
    features, q = rng.normal(size=(12, 7)) + 2, outputs(rng, 12, 9)
    means = {"outputs": torch.zeros(9, dtype=torch.float64)}
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        found = {"outputs": torch.tensor(q[part].mean(axis=0)), **moments(torch.tensor(features[part]))}
        for name, value in found.items():
            means[name] = means.get(name, 0) + value * size / 12
        start += size
    z = features / np.linalg.norm(features, axis=1, keepdims=True)
    shown = figures(means)
    assert float(shown["output_entropy"]) == pytest.approx(entropy(q.mean(axis=0)))
    assert float(shown["outputs_used"]) == pytest.approx(math.exp(entropy(q.mean(axis=0))))
    assert float(shown["feature_sd"]) == pytest.approx(z.std(axis=0).mean() * math.sqrt(7))
    singular = np.linalg.svd(z, compute_uv=False)
    assert effective_rank(means[MOMENT]) == pytest.approx(math.exp(entropy(singular / singular.sum())))


def test_ends_of_the_scales() -> None:
    """The same everywhere, and evenly spread on the sphere."""
    same = moments(torch.ones(50, 32))
    assert effective_rank(same[MOMENT]) == pytest.approx(1, abs=1e-5)
    one = torch.zeros(10)
    one[3] = 1
    shown = figures({"outputs": one, **same})
    assert float(shown["output_entropy"]) == 0
    assert float(shown["outputs_used"]) == 1
    assert float(shown["feature_sd"]) == pytest.approx(0, abs=1e-6)
    even = moments(torch.randn(20_000, 32, generator=torch.Generator().manual_seed(0)))
    assert effective_rank(even[MOMENT]) == pytest.approx(32, rel=0.01)
    shown = figures({"outputs": torch.full((10,), 0.1), **even})
    assert float(shown["outputs_used"]) == pytest.approx(10)
    assert float(shown["feature_sd"]) == pytest.approx(1, rel=0.01)


def test_autocast_leaves_them_as_they_are() -> None:
    """Of bfloat16 features, as of the same numbers in float64."""
    features = functional.normalize(torch.randn(40, 16), dim=-1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = moments(features)
    exact = moments(features.double())
    assert all(torch.equal(found[name], exact[name]) for name in exact)

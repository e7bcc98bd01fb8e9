"""Both protocols against plain scikit-learn, and against formulas in float64."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from pathtrain.evaluate.expression.regression import predict

Doubles = npt.NDArray[np.float64]


def data(train: int, dim: int, genes: int = 5, seed: int = 0) -> tuple[Doubles, Doubles, Doubles]:
    rng = np.random.default_rng(seed)
    features = rng.normal(2, 1, (train + 30, dim)) @ rng.normal(0, 1, (dim, dim))
    values = np.log1p(rng.poisson(np.exp(features[:train] @ rng.normal(0, 0.3 / dim, (dim, genes)) + 1)))
    return features[:train].astype(np.float32), values, features[train:].astype(np.float32)


@pytest.mark.parametrize(("train", "dim"), [(400, 300), (100, 300), (80, 6)])
def test_with_pca_it_is_scikit_learns(train: int, dim: int) -> None:
    x, y, z = data(train, dim)
    found, columns = predict(x, y, z, "pca")
    scaler, pca = StandardScaler(), PCA(min(256, train, dim), random_state=1)
    a = torch.Tensor(pca.fit_transform(scaler.fit_transform(x)))  # as HEST's benchmark.py
    b = torch.Tensor(pca.transform(scaler.transform(z)))
    alpha = 100 / (a.shape[1] * 5)
    ridge = Ridge(alpha, solver="lsqr", fit_intercept=False, max_iter=1000, random_state=1)
    np.testing.assert_array_equal(found, ridge.fit(a, y).predict(b))
    assert columns == min(256, train, dim)


@pytest.mark.parametrize("protocol", ["pca", "plain"])
def test_it_is_the_formula_in_float64(protocol: str) -> None:
    """The ridge's solution in closed form; lsqr stops at a tolerance of 1e-4."""
    x, y, z = data(200, 40)
    found, _ = predict(x, y, z, protocol)
    a, b = x.astype(np.float64), z.astype(np.float64)
    if protocol == "pca":
        mean, sd = a.mean(axis=0), a.std(axis=0)
        a, b = (a - mean) / sd, (b - mean) / sd
        _, _, axes = np.linalg.svd(a - a.mean(axis=0), full_matrices=False)
        a, b = a @ axes.T, b @ axes.T
    weights = np.linalg.solve(a.T @ a + 100 / (40 * 5) * np.eye(40), a.T @ y)
    for gene in range(5):
        assert np.corrcoef(found[:, gene], (b @ weights)[:, gene])[0, 1] > 0.998


def test_plain_features_are_not_scaled_and_have_no_intercept() -> None:
    x, y, z = data(200, 10)
    moved, _ = predict(x + 50, y, z + 50, "plain")
    same, _ = predict(x, y, z, "plain")
    assert not np.allclose(moved, same, atol=1e-2)
    assert predict(x, y, z, "plain")[1] == 10


def test_one_gene_and_one_tested_spot() -> None:
    x, y, z = data(50, 8)
    found, _ = predict(x, y[:, :1], z[:1], "pca")
    assert found.shape == (1, 1)

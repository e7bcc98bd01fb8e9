import numpy as np
import numpy.typing as npt
import pytest

from pathprep.kernels import macenko_reference as reference

HE = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])


def paint(height: int, width: int, seed: int = 0, glass: float = 0.3) -> npt.NDArray[np.uint8]:
    """An H&E-like tile: two stains with known vectors (HE, scaled to length 1), glass, sensor noise."""
    rng = np.random.default_rng(seed)
    n = height * width
    he = HE / np.linalg.norm(HE, axis=0)
    amounts = rng.gamma([0.8, 2.0], [0.7, 0.35], (n, 2))
    amounts[: n // 20, 1] *= 0.02  # a few pixels of nearly pure haematoxylin, a few of eosin
    amounts[n // 20 : n // 10, 0] *= 0.02
    amounts[rng.random(n) < glass] *= 0.01
    grey = reference.IO * np.exp(-amounts @ he.T) - 1 + rng.normal(0, 1.0, (n, 3))
    return rng.permutation(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).reshape(height, width, 3)


@pytest.fixture(scope="session")
def stained() -> npt.NDArray[np.uint8]:
    """Four H&E-like tiles of 96 px, unlike each other."""
    return np.stack([paint(96, 96, seed, glass) for seed, glass in enumerate((0.0, 0.2, 0.6, 0.9))])

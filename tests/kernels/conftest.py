import shutil

import numpy as np
import numpy.typing as npt
import pytest
from helpers.cuda_shim import Shim
from helpers.macenko_cuda import (
    SHIM_THREADS,
    SOURCES,
    Runner,
    on_cpu,
    on_gpu,
)

from pathprep.kernels import macenko_cuda
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


@pytest.fixture(scope="session")
def shims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shim]:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    folder = tmp_path_factory.mktemp("shim")
    return {
        "macenko": Shim(SOURCES / "macenko.cu", ["macenko"], folder, {"THREADS": SHIM_THREADS}),
        "macenko_apply": Shim(SOURCES / "macenko_apply.cu", ["macenko_apply"], folder),
    }


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    if request.param == "gpu":
        return on_gpu()
    monkeypatch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
    return on_cpu(request.getfixturevalue("shims"))


@pytest.fixture(scope="session", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def applier(request: pytest.FixtureRequest) -> Runner:
    """For ``apply`` alone: nothing is patched, so that one serves all examples of a property."""
    return on_gpu() if request.param == "gpu" else on_cpu(request.getfixturevalue("shims"))

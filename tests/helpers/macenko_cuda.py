"""The CUDA kernels run on a GPU, or through a CPU build of their source, and compared with the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from helpers.cuda_shim import Shim, ShimDevice
from helpers.macenko_cases import (
    assert_fit,
)
from pathprep.kernels import cuda, macenko_cuda
from pathprep.kernels import macenko_reference as reference

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
TARGET_HE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
TARGET_MAX_C = np.array([1.9705, 1.0308])
SHIM_THREADS = 128
FEW_KEYS = 96
SOURCES = Path(cuda.__file__).parent


@dataclass(frozen=True)
class Runner:
    """The launchers' functions on numpy arrays, wherever they run."""

    device: Callable[[str], Any]
    to: Callable[[Any], Any]
    back: Callable[[Any], Any]

    def fit(self, tiles: list[Tile], *arguments: Any, **options: Any) -> tuple[Any, ...]:
        batches = [self.to(tile[None] if tile.ndim == 3 else tile) for tile in tiles]
        found = macenko_cuda.fit(batches, *arguments, device=self.device("macenko"), **options)
        return tuple(self.back(part) for part in found)

    def normalize(self, tiles: list[Tile]) -> list[Tile]:
        batches = [self.to(tile[None]) for tile in tiles]
        found, _ = macenko_cuda.normalize(batches, TARGET_HE, TARGET_MAX_C, device=self.device("macenko"))
        return [self.back(tile)[0] for tile in found]

    def apply(self, tiles: list[Tile], matrices: Floats, io: float = reference.IO) -> list[Tile]:
        batches = [self.to(tile[None]) for tile in tiles]
        found = macenko_cuda.apply(batches, self.to(matrices), io, device=self.device("macenko_apply"))
        return [self.back(tile)[0] for tile in found]


def on_cpu(shims: dict[str, Shim], **options: Any) -> Runner:
    return Runner(lambda name: ShimDevice(shims[name], **options), np.asarray, np.asarray)


def on_gpu() -> Runner:
    import cupy

    return Runner(lambda name: cuda.module(f"{name}.cu"), cupy.asarray, cupy.asnumpy)


def assert_matches(runner: Runner, tiles: list[Tile], keep_any: bool = False, **options: Any) -> int:
    """Every tile's fit is the reference's; returns how many were fitted."""
    he, max_c, tissue_pixels, status = runner.fit(tiles, keep_any, **options)
    assert set(status.tolist()) <= {0, 2}
    for i, tile in enumerate(tiles):
        expected = reference.fit(tile, keep_any, **options)
        assert_fit(he[i], max_c[i], tissue_pixels[i], status[i] == 0, expected)
    return int((status == 0).sum())


def normalized(tile: Tile) -> Tile:
    expected = reference.fit(tile)
    if not expected.fitted:
        return tile
    return reference.apply(tile, reference.matrix(expected.he, expected.max_c, TARGET_HE, TARGET_MAX_C))


SIZES = [(1, 1), (1, 211), (13, 17), (96, 95), (224, 224), (300, 513)]


def ragged(stained: Tile) -> list[Tile]:
    """Tiles of many sizes, most of which are no multiple of anything."""
    pixels = np.concatenate([tile.reshape(-1, 3) for tile in stained[:2]])
    return [np.resize(pixels, (height, width, 3)) for height, width in SIZES]

"""Gaussian blur on the CPU: as wide as DALI's, three sigma to each side; beyond its border a picture is
mirrored, without its edge twice."""

import math

import numpy as np
import numpy.typing as npt

from pathprep.kernels.compiled import jit_finite
from pathprep.kernels.simd import LANES, add, levels, load, mul, splat, store

Singles = npt.NDArray[np.float32]


@jit_finite
def apply(planes: Singles, height: int, width: int, sigma: float, out: Singles) -> None:
    """Blur levels (3, H', W') of a picture of height x width pixels at their beginning, columns, then rows.

    Args:
        planes: contiguous, W' a multiple of LANES, no less than width.
        sigma: in pixels, above 0.
        out: written: as planes, whole levels; another array.
    """
    half = _half(sigma)
    reach, side = len(half) - 1, planes.shape[2]
    line = np.zeros(reach + side + reach, np.float32)
    above, below = np.empty(reach + 1, np.int64), np.empty(reach + 1, np.int64)
    for plane in range(3):
        source, target = planes[plane].reshape(-1), out[plane].reshape(-1)
        for y in range(height):
            for step in range(1, reach + 1):
                above[step] = _mirrored(y - step, height) * side
                below[step] = _mirrored(y + step, height) * side
            for x in range(0, side, LANES):
                total = mul(splat(half[0]), load(source, y * side + x))
                for step in range(1, reach + 1):
                    pair = add(load(source, above[step] + x), load(source, below[step] + x))
                    total = add(total, mul(splat(half[step]), pair))
                store(line, reach + x, total)
            for step in range(1, reach + 1):
                line[reach - step] = line[reach + _mirrored(-step, width)]
                line[reach + width - 1 + step] = line[reach + _mirrored(width - 1 + step, width)]
            for x in range(0, side, LANES):
                total = mul(splat(half[0]), load(line, reach + x))
                for step in range(1, reach + 1):
                    pair = add(load(line, reach + x - step), load(line, reach + x + step))
                    total = add(total, mul(splat(half[step]), pair))
                store(target, y * side + x, levels(total))


@jit_finite
def _half(sigma: float) -> Singles:
    """Half the window, from its middle."""
    weights = np.empty(math.ceil(3 * sigma) + 1)
    total = 0.0
    for step in range(len(weights)):
        weights[step] = math.exp(-0.5 * (step / sigma) ** 2)
        total += weights[step] if step == 0 else 2 * weights[step]
    return (weights / total).astype(np.float32)


@jit_finite
def _mirrored(at: int, size: int) -> int:
    if size == 1:
        return 0
    while at < 0 or at >= size:
        at = -at if at < 0 else 2 * (size - 1) - at
    return at

"""Applying stain matrices on the CPU: macenko_reference.py's step 7, one pass of SIMD over the pixels.

Optical density comes from a 256-entry table; exp(x) = (1 + y + ... + y^4 / 24)^16 with y = x / 16 takes
multiplications only and errs by less than 1e-3 grey levels, which shows as one level where the exact
value lies that close to the next. The caller's thread, no GIL, a few kilobytes of scratch.
"""

import math
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from pathprep.kernels.macenko_reference import IO, Bytes, Floats, optical_density

Singles = npt.NDArray[np.float32]

jit = nb.njit(nogil=True, cache=True, error_model="numpy")

BLOCK = 2048  # pixels: three planes of float32 stay in the first-level cache


@jit
def _planes(pixels: Bytes, table: Singles, r: Singles, g: Singles, b: Singles) -> None:
    """Optical density of flat RGB bytes as three planes."""
    for i in range(len(r)):
        r[i] = table[pixels[3 * i]]
        g[i] = table[pixels[3 * i + 1]]
        b[i] = table[pixels[3 * i + 2]]


@jit
def _byte(od: float, io: float) -> Any:
    """I0 exp(-OD), clipped and truncated; below 1e-3 grey levels of error."""
    y = od * np.float32(-1.0 / 16.0)
    y = y if y < np.float32(0.1) else np.float32(0.1)  # written so that NaN ends up inside as well
    y = y if y > np.float32(-0.5) else np.float32(-0.5)  # exp(-8) is black
    e = y * np.float32(1.0 / 24.0) + np.float32(1.0 / 6.0)
    e = e * y + np.float32(0.5)
    e = e * y + np.float32(1.0)
    e = e * y + np.float32(1.0)
    e = e * e
    e = e * e
    e = e * e
    grey = e * e * io
    return np.uint8(np.int32(grey if grey < np.float32(255.0) else np.float32(255.0)))


@jit
def _bytes(
    r: Singles, g: Singles, b: Singles, m: Singles, io: float, red: Bytes, green: Bytes, blue: Bytes
) -> None:
    """Step 7 on a block of planes."""
    m00, m01, m02 = m[0, 0], m[0, 1], m[0, 2]
    m10, m11, m12 = m[1, 0], m[1, 1], m[1, 2]
    m20, m21, m22 = m[2, 0], m[2, 1], m[2, 2]
    for i in range(len(r)):
        x, y, z = r[i], g[i], b[i]
        red[i] = _byte(m00 * x + m01 * y + m02 * z, io)
        green[i] = _byte(m10 * x + m11 * y + m12 * z, io)
        blue[i] = _byte(m20 * x + m21 * y + m22 * z, io)


@jit
def _interleave(red: Bytes, green: Bytes, blue: Bytes, out: Bytes) -> None:
    for i in range(len(red)):
        out[3 * i] = red[i]
        out[3 * i + 1] = green[i]
        out[3 * i + 2] = blue[i]


@jit
def _apply_batch(
    tiles: Bytes, matrices: Singles, identity: npt.NDArray[np.bool_], table: Singles, io: float, out: Bytes
) -> None:
    n = tiles.shape[1] // 3
    planes, channels = np.empty((3, BLOCK), np.float32), np.empty((3, BLOCK), np.uint8)
    for t in range(len(tiles)):
        if identity[t]:
            out[t] = tiles[t]
            continue
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            r, g, b = planes[0][:m], planes[1][:m], planes[2][:m]
            red, green, blue = channels[0][:m], channels[1][:m], channels[2][:m]
            _planes(tiles[t][3 * start :], table, r, g, b)
            _bytes(r, g, b, matrices[t], io, red, green, blue)
            _interleave(red, green, blue, out[t][3 * start :])


@lru_cache
def density_table(io: float) -> Singles:
    """(256,) optical density of each grey level."""
    return optical_density(np.arange(256), io).astype(np.float32)


def apply(tiles: Bytes, matrices: Floats, io: float = IO, threads: int | None = 1) -> Bytes:
    """Step 7 on tiles (N, H, W, 3) with a matrix each (N, 3, 3); an exact identity copies its tile."""
    n = len(tiles)
    flat = np.ascontiguousarray(tiles).reshape(n, math.prod(tiles.shape[1:]))
    out = np.empty_like(flat)
    identity = (matrices == np.eye(3)).all(axis=(1, 2))
    _apply_batch(flat, matrices.astype(np.float32), identity, density_table(io), np.float32(io), out)
    return out.reshape(tiles.shape)

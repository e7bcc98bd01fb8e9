"""Colour jitter on the CPU: colour_reference.py's steps in float32, a block of pixels at a time, so that the
arithmetic runs on planes, which compile to SIMD."""

import numpy as np
import numpy.typing as npt

from pathprep.kernels.colour_reference import LUMA, Bytes
from pathprep.kernels.compiled import jit_finite

Singles = npt.NDArray[np.float32]

BLOCK = 1024  # pixels: three planes stay in the first-level cache
LUMA_R, LUMA_G, LUMA_B = (np.float32(part) for part in LUMA)


@jit_finite
def apply(view: Bytes, setting: Singles) -> Bytes:
    """All steps on a view (H, W, 3), contiguous, with a row of settings."""
    pixels = view.reshape(-1)
    out = np.empty_like(pixels)
    count = len(pixels) // 3
    planes = np.empty((3, BLOCK), np.float32)
    m = setting[:9]
    shift = _mean(pixels, 0) * setting[9] + _mean(pixels, 1) * setting[10] + _mean(pixels, 2) * setting[11]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        r, g, b = planes[0, : stop - start], planes[1, : stop - start], planes[2, : stop - start]
        _blend(pixels[3 * start : 3 * stop], m, np.float32(shift), r, g, b)
        if setting[12] != 0:
            _turn(np.float32(6) * setting[12], r, g, b)
        if setting[13] != 0:
            _grey(r, g, b)
        _store(r, g, b, out[3 * start : 3 * stop])
    return out.reshape(view.shape)


@jit_finite
def _mean(pixels: Bytes, channel: int) -> float:
    total = np.int64(0)
    for at in range(channel, len(pixels), 3):
        total += pixels[at]
    return 3.0 * total / len(pixels)


@jit_finite
def _blend(pixels: Bytes, m: Singles, shift: np.float32, r: Singles, g: Singles, b: Singles) -> None:
    for i in range(len(r)):
        x, y, z = np.float32(pixels[3 * i]), np.float32(pixels[3 * i + 1]), np.float32(pixels[3 * i + 2])
        r[i] = _clipped(m[0] * x + m[1] * y + m[2] * z + shift)
        g[i] = _clipped(m[3] * x + m[4] * y + m[5] * z + shift)
        b[i] = _clipped(m[6] * x + m[7] * y + m[8] * z + shift)


@jit_finite
def _clipped(value: np.float32) -> np.float32:
    return min(max(value, np.float32(0)), np.float32(255))


@jit_finite
def _turn(sixths: np.float32, r: Singles, g: Singles, b: Singles) -> None:
    two, four = np.float32(2), np.float32(4)
    for i in range(len(r)):
        x, y, z = r[i], g[i], b[i]
        value = max(x, max(y, z))
        chroma = value - min(x, min(y, z))
        inverse = np.float32(1) / (chroma if chroma > 0 else np.float32(1))
        by_green = two + (z - x) * inverse if value == y else four + (x - y) * inverse
        sector = (y - z) * inverse if value == x else by_green
        sector += sixths
        r[i] = value - chroma * _ramp(sector + np.float32(5))
        g[i] = value - chroma * _ramp(sector + np.float32(3))
        b[i] = value - chroma * _ramp(sector + np.float32(1))


@jit_finite
def _ramp(place: np.float32) -> np.float32:
    place -= np.float32(6) * np.floor(place * np.float32(1 / 6))
    return min(max(min(place, np.float32(4) - place), np.float32(0)), np.float32(1))


@jit_finite
def _grey(r: Singles, g: Singles, b: Singles) -> None:
    for i in range(len(r)):
        luminance = LUMA_R * r[i] + LUMA_G * g[i] + LUMA_B * b[i]
        r[i] = luminance
        g[i] = luminance
        b[i] = luminance


@jit_finite
def _store(r: Singles, g: Singles, b: Singles, pixels: Bytes) -> None:
    half = np.float32(0.5)
    for i in range(len(r)):
        pixels[3 * i] = np.uint8(np.int32(r[i] + half))
        pixels[3 * i + 1] = np.uint8(np.int32(g[i] + half))
        pixels[3 * i + 2] = np.uint8(np.int32(b[i] + half))

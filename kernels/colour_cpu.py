"""Colour jitter on the CPU: colour_reference.py's steps in float32 on planes, which compile to SIMD, a block
of pixels at a time."""

import numpy as np
import numpy.typing as npt

from pathprep.kernels.colour_reference import LUMA
from pathprep.kernels.compiled import jit_finite

Singles = npt.NDArray[np.float32]

BLOCK = 1024  # pixels: of three planes they stay in the first-level cache
LUMA_R, LUMA_G, LUMA_B = (np.float32(part) for part in LUMA)


@jit_finite
def apply(planes: Singles, height: int, width: int, setting: Singles) -> None:
    """All steps with a row of settings, in place.

    Args:
        planes: (3, H', W') levels of a view of height x width pixels at their beginning, contiguous; what is
            beside it in its rows is changed too.
    """
    count = height * planes.shape[2]
    shift = 0.0
    for channel in range(3):
        shift += setting[9 + channel] * _mean(planes[channel], height, width)
    red, green, blue = planes[0].reshape(-1), planes[1].reshape(-1), planes[2].reshape(-1)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        r, g, b = red[start:stop], green[start:stop], blue[start:stop]
        _blend(setting, np.float32(shift), r, g, b)
        if setting[12] != 0:
            _turn(np.float32(6) * setting[12], r, g, b)
        if setting[13] != 0:
            _grey(r, g, b)
        _round(r)
        _round(g)
        _round(b)


@jit_finite
def _mean(plane: Singles, height: int, width: int) -> float:
    total = 0.0
    for y in range(height):
        row = np.int32(0)
        for x in range(width):
            row += np.int32(plane[y, x])
        total += row
    return total / (height * width)


@jit_finite
def _blend(m: Singles, shift: np.float32, r: Singles, g: Singles, b: Singles) -> None:
    for i in range(len(r)):
        x, y, z = r[i], g[i], b[i]
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
def _round(plane: Singles) -> None:
    for i in range(len(plane)):
        plane[i] = np.floor(plane[i] + np.float32(0.5))

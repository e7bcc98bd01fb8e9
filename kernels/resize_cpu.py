"""Resizing on the CPU: resize_reference.py in float32, LANES rows of the view at a time.

Columns first, from the tile's bytes, which lie side by side; of LANES such rows the columns are then rows of
LANES numbers, so that what is summed along x lies side by side too.

Of a box of 380 px to 224 px 0.19 ms on one thread, where DALI takes 1.24 and torch's uint8 kernel 0.42.
"""

import math

import numpy as np
import numpy.typing as npt

from pathprep.kernels.compiled import jit_finite
from pathprep.kernels.resize_reference import Bytes
from pathprep.kernels.simd import LANES, add, levels, load, load_bytes, mul, splat, store, transpose

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@jit_finite
def padded(size: int) -> int:
    """Pixels of a side of the planes that hold a view: LANES at a time are worked on."""
    return -(-size // LANES) * LANES


@jit_finite
def apply(
    tile: Bytes,
    top: float,
    left: float,
    bottom: float,
    right: float,
    turned: bool,
    size: int,
    planes: Singles,
) -> None:
    """A tile's box as a view of size x size pixels.

    Args:
        tile: (H, W, 3), contiguous.
        top, left, bottom, right: of the box, as shares of the tile's sides, 0 to 1.
        turned: whether rows and columns of the view change places.
        planes: written: (3, padded(size), padded(size)), whole levels 0 to 255; beyond size, its rows hold
            any level, and what rows there are is not written.
    """
    height, width, _ = tile.shape
    side = planes.shape[1]
    pixels, out = tile.reshape(-1), planes.reshape(-1)
    y_first, y_weights = _weights(height * top, height * bottom, height, size)
    x_first, x_weights = _weights(width * left, width * right, width, size)
    first = min(x_first[0], x_first[size - 1])
    count = 3 * (max(x_first[0], x_first[size - 1]) + x_weights.shape[1] - first)
    row = (count + LANES - 1) // LANES * LANES
    rows, columns = np.zeros(LANES * row, np.float32), np.empty(row * LANES, np.float32)
    done = np.zeros(3 * side * LANES, np.float32)
    for y in range(0, size, LANES):
        for lane in range(LANES):
            of = min(y + lane, size - 1)
            at = 3 * (y_first[of] * width + first)
            _sum_rows(pixels, at, 3 * width, y_weights[of], count, rows[lane * row :])
        for column in range(0, row, LANES):
            transpose(rows, column, row, columns, column * LANES, LANES)
        if turned:
            _sum_columns(columns, first, x_first, x_weights, out[y:], side, side * side)
        else:
            _sum_columns(columns, first, x_first, x_weights, done, LANES, side * LANES)
            for plane in range(3):
                for x in range(0, side, LANES):
                    to = (plane * side + y) * side + x
                    transpose(done, (plane * side + x) * LANES, LANES, out, to, side)


@jit_finite
def _weights(start: float, end: float, length: int, size: int) -> tuple[Ints, Singles]:
    """The first pixel that each output pixel is made of (size,), and the weights from it on (size, taps)."""
    scale = (end - start) / size
    wide = max(abs(scale), 1.0)
    narrow = 1 / wide
    reach = math.ceil(4 * wide)
    taps = min(reach, length)
    first, weights = np.empty(size, np.int64), np.zeros((size, taps), np.float32)
    found = np.empty(reach)
    for i in range(size):
        middle = start + (i + 0.5) * scale
        low = math.floor(middle - 2 * wide + 0.5)
        for tap in range(reach):
            x = abs((low + tap + 0.5 - middle) * narrow)
            near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
            found[tap] = near if x < 1 else far if x < 2 else 0.0
        total = 0.0
        for tap in range(reach):
            total += found[tap]
        part = 1 / total
        first[i] = min(max(low, 0), length - taps)
        if low >= 0 and low + reach <= length:
            for tap in range(reach):
                weights[i, tap] = found[tap] * part
        else:
            for tap in range(reach):
                weights[i, min(max(low + tap, 0), length - 1) - first[i]] += np.float32(found[tap] * part)
    return first, weights


@jit_finite
def _sum_rows(pixels: Bytes, at: int, step: int, weights: Singles, count: int, out: Singles) -> None:
    """out[i] = sum of weights[k] * pixels[at + k * step + i], of ``count`` of them; reads no others."""
    if count < LANES:
        for i in range(count):
            total = np.float32(0)
            for tap in range(len(weights)):
                total += weights[tap] * np.float32(pixels[at + tap * step + i])
            out[i] = total
        return
    i = 0
    while i + 4 * LANES <= count:
        a, b, c, d = splat(0), splat(0), splat(0), splat(0)
        place = at + i
        for tap in range(len(weights)):
            weight = splat(weights[tap])
            a = add(a, mul(weight, load_bytes(pixels, place)))
            b = add(b, mul(weight, load_bytes(pixels, place + LANES)))
            c = add(c, mul(weight, load_bytes(pixels, place + 2 * LANES)))
            d = add(d, mul(weight, load_bytes(pixels, place + 3 * LANES)))
            place += step
        store(out, i, a)
        store(out, i + LANES, b)
        store(out, i + 2 * LANES, c)
        store(out, i + 3 * LANES, d)
        i += 4 * LANES
    while i < count:
        i = min(i, count - LANES)  # the last ones, some of them once more
        a = splat(0)
        place = at + i
        for tap in range(len(weights)):
            a = add(a, mul(splat(weights[tap]), load_bytes(pixels, place)))
            place += step
        store(out, i, a)
        i += LANES


@jit_finite
def _sum_columns(
    columns: Singles, first: int, x_first: Ints, weights: Singles, out: Singles, step: int, plane: int
) -> None:
    """LANES rows of the view, of columns of three channels from ``first`` on: in ``out`` each x is ``step``
    apart, each channel ``plane``."""
    for x in range(len(weights)):
        place = 3 * LANES * (x_first[x] - first)
        a, b, c = splat(0), splat(0), splat(0)
        for tap in range(weights.shape[1]):
            weight = splat(weights[x, tap])
            a = add(a, mul(weight, load(columns, place)))
            b = add(b, mul(weight, load(columns, place + LANES)))
            c = add(c, mul(weight, load(columns, place + 2 * LANES)))
            place += 3 * LANES
        store(out, x * step, levels(a))
        store(out, x * step + plane, levels(b))
        store(out, x * step + 2 * plane, levels(c))

"""Cutting tiles on the CPU: tiling_reference.py as loops that the compiler turns into SIMD.

The resampled pixels equal the reference exactly, because everything until the division is an integer
and the division cannot round across a level. The figures come from integer sums as well (saturation
in steps of 2^-20), so they do not depend on threads or on the other tiles of the block.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.kernels.compiled import jit
from pathprep.kernels.tiling_reference import FIGURES, LUMINANCE, STAINED, WHITE, Bytes, check

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

SATURATION_STEPS = float(1 << 20)
U1, U2, U3, U4, U5, U6, U7, U8 = (np.uint64(k) for k in range(1, 9))
# The numbers of in_hsv_box and is_pen; as 16-bit integers, because numba would widen what it multiplies
short = np.int16
SIGN, K1, K2, K4, K5, K20, K25 = (short(k) for k in (15, 1, 2, 4, 5, 20, 25))
K34, K59, K60, K103, K110 = (short(k) for k in (34, 59, 60, 103, 110))


@jit
def _taps(side: int, stored: int) -> tuple[Whole, Weights]:
    """First source pixel (stored,) and weights (stored, taps) of each stored pixel.

    Taps are a multiple of three, which the loops below unroll; the last of them have weight zero.
    """
    taps = 0
    for i in range(stored):
        taps = max(taps, ((i + 1) * side - 1) // stored - i * side // stored + 1)
    taps = (taps + 2) // 3 * 3
    first, share = np.empty(stored, np.int64), np.zeros((stored, taps), np.int32)
    for i in range(stored):
        first[i] = i * side // stored
        for t in range(taps):
            j = first[i] + t
            overlap = min((i + 1) * side, (j + 1) * stored) - max(i * side, j * stored)
            share[i, t] = max(overlap, 0)
    return first, share


@jit
def _add(a: Bytes, b: Bytes, c: Bytes, w: Weights, rows: Floats) -> None:
    """rows += w[0] a + w[1] b + w[2] c"""
    w0, w1, w2 = w[0], w[1], w[2]
    for k in range(len(a)):
        rows[k] += np.float64(w0 * np.int32(a[k]) + w1 * np.int32(b[k]) + w2 * np.int32(c[k]))


@jit
def _columns(rows: Floats, first: Whole, share: Floats, sums: Floats) -> None:
    """Weighted sums of a row's pixels, three channels side by side."""
    for j in range(len(first)):
        r = g = b = 0.0
        for t in range(0, share.shape[1], 3):
            k = np.uint64(3 * (first[j] + t))  # unsigned: numba need not ask whether it counts from the end
            w0, w1, w2 = share[j, t], share[j, t + 1], share[j, t + 2]
            r += w0 * rows[k] + w1 * rows[k + U3] + w2 * rows[k + U6]
            g += w0 * rows[k + U1] + w1 * rows[k + U4] + w2 * rows[k + U7]
            b += w0 * rows[k + U2] + w1 * rows[k + U5] + w2 * rows[k + U8]
        sums[3 * j] = r
        sums[3 * j + 1] = g
        sums[3 * j + 2] = b


@jit
def _divide(sums: Floats, half: float, inverse: float, out: Bytes) -> None:
    for k in range(len(sums)):
        out[k] = np.uint8(np.int32((sums[k] + half) * inverse))


@jit
def _area(
    block: Bytes, x: int, y: int, side: int, stored: int, first: Whole, share: Weights, out: Bytes
) -> None:
    """One tile by area into ``out``, flat; block is (H, 3 W). Sums are integers below 2^53: exact."""
    inverse = 1.0 / (float(side) * side)
    half = 0.5 * side * side + 0.25  # the quarter is less than a step of the sum and more than its rounding
    across = share.astype(np.float64)
    taps, last, width = share.shape[1], y + side - 1, 3 * side
    start, stop = 3 * x, 3 * x + width
    rows = np.zeros(width + 3 * taps)  # beyond the width: zeros under weights of zero
    sums = np.empty(3 * stored)
    for i in range(stored):
        rows[:width] = 0.0
        for t in range(0, taps, 3):
            j = y + first[i] + t
            a, b, c = block[min(j, last)], block[min(j + 1, last)], block[min(j + 2, last)]
            _add(a[start:stop], b[start:stop], c[start:stop], share[i][t : t + 3], rows)
        _columns(rows, first, across, sums)
        _divide(sums, half, inverse, out[3 * stored * i : 3 * stored * (i + 1)])


@jit
def _copy(source: Bytes, target: Bytes) -> None:
    for k in range(len(target)):
        target[k] = source[k]


@jit
def _split(pixels: Bytes, red: Bytes, green: Bytes, blue: Bytes) -> None:
    for i in range(len(red)):
        red[i] = pixels[3 * i]
        green[i] = pixels[3 * i + 1]
        blue[i] = pixels[3 * i + 2]


@jit
def _colours(red: Bytes, green: Bytes, blue: Bytes, luminance: Weights, grey: Weights) -> Any:
    """Sum of the saturation over a row, in steps; fills its luminance in 256ths."""
    saturation = np.int64(0)
    for i in range(len(red)):
        r, g, b = np.int32(red[i]), np.int32(green[i]), np.int32(blue[i])
        high, low = max(r, g, b), min(r, g, b)
        share = np.float32(high - low) / np.float32(max(high, np.int32(1)))
        saturation += np.int64(np.int32(share * np.float32(SATURATION_STEPS) + np.float32(0.5)))
        grey[i] = r * luminance[0] + g * luminance[1] + b * luminance[2]
    return saturation


@jit
def _shares(red: Bytes, green: Bytes, blue: Bytes, levels: tuple[int, int], counts: Whole) -> None:
    """Adds a row's pixels that are white, stained, in the HSV box, and pen (counts, in this order).

    A rule is a margin here: it holds where that is not negative, several hold where the least is not, and its
    sign counts the others. Everything fits 16 bits, and nothing is a mask: half the time of comparisons.
    """
    bright, dark = short(levels[0]), short(levels[1])
    white = stained = box = pen = short(0)  # minus the pixels outside; a row has at most 8192
    for i in range(len(red)):
        r, g, b = short(red[i]), short(green[i]), short(blue[i])
        cool = max(g, b)
        high, low = max(r, cool), min(r, min(g, b))
        spread, rise = short(high - low), short(g - r)
        white = short(white + (short(low - bright) >> SIGN))
        stained = short(stained + (short(dark - high) >> SIGN))
        hue = max(short(spread - K60 * short(high - b)), short(K60 * short(b - g) - spread - K1))
        inside = min(hue, min(short(K34 * spread - high), short(high - K103)))
        box = short(box + (inside >> SIGN))
        cold = min(short(rise - K25), short(K4 * rise - high))
        warm = min(short(r - K110), short(K2 * r - K5 * cool))
        black = min(short(K59 - high), short(K20 - spread))
        pen = short(pen + (max(cold, max(warm, black)) >> SIGN))
    counts[0] += len(red) + white
    counts[1] += len(red) + stained
    counts[2] += len(red) + box
    counts[3] += len(red) + pen


@jit
def _laplacian(above: Weights, row: Weights, below: Weights) -> tuple[Any, Any]:
    """Sum and sum of squares of the Laplacian over a row's inner pixels."""
    total = square = np.int64(0)
    left, centre, right = row[:-2], row[1:-1], row[2:]
    above, below = above[1:-1], below[1:-1]
    for i in range(len(centre)):
        value = left[i] + right[i] + above[i] + below[i] - np.int32(4) * centre[i]
        total += np.int64(value)
        square += np.int64(value) * np.int64(value)
    return total, square


@jit
def _quality(pixels: Bytes, side: int, levels: tuple[int, int], luminance: Weights, figures: Singles) -> None:
    """The figures of one flat tile."""
    red, green, blue = np.empty(side, np.uint8), np.empty(side, np.uint8), np.empty(side, np.uint8)
    grey = np.empty((3, side), np.int32)  # the last three rows
    counts = np.zeros(4, np.int64)
    saturation = total = square = np.int64(0)
    for y in range(side):
        _split(pixels[3 * side * y : 3 * side * (y + 1)], red, green, blue)
        saturation += _colours(red, green, blue, luminance, grey[y % 3])
        _shares(red, green, blue, levels, counts)
        if y >= 2 and side >= 3:
            a, b = _laplacian(grey[(y - 2) % 3], grey[(y - 1) % 3], grey[y % 3])
            total += a
            square += b
    inner = float(max(side - 2, 0)) ** 2
    figures[0] = saturation / (SATURATION_STEPS * side * side)
    figures[1] = counts[0] / (side * side)
    figures[3:] = counts[1:] / (side * side)
    figures[2] = (square - float(total) * float(total) / inner) / inner / 65536.0 if inner else 0.0


@jit
def _hsv_share(tile: Bytes, width: int, levels: tuple[int, int]) -> float:
    """Share of a flat tile's pixels that are in the HSV box."""
    red, green, blue = np.empty(width, np.uint8), np.empty(width, np.uint8), np.empty(width, np.uint8)
    counts = np.zeros(4, np.int64)
    for at in range(0, len(tile), 3 * width):
        _split(tile[at : at + 3 * width], red, green, blue)
        _shares(red, green, blue, levels, counts)
    return float(3 * counts[2] / len(tile))


@jit
def _reduce(block: Bytes, side: int, stored: int, out: Bytes) -> None:
    first, share = _taps(side, stored)
    _area(block, 0, 0, side, stored, first, share, out)


def reduce(block: Bytes, out: Bytes) -> None:
    """A whole block (S, S, 3) by area, as ``cut`` has it, into ``out`` (s, s, 3); s at most S.

    Raises:
        ValueError: as ``cut``, or an array is not contiguous.
    """
    side, stored = len(block), len(out)
    check(block.shape, block.dtype, np.zeros((1, 2), np.int32), side, stored)
    if not (block.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("contiguous arrays are reduced")
    _reduce(block.reshape(side, -1), side, stored, out.reshape(-1))


def hsv_share(tile: Bytes) -> float:
    """Share of the pixels of a tile (H, W, 3) that are in the HSV box, 0 to 1 (see tiling_reference.py)."""
    flat = np.ascontiguousarray(tile).reshape(-1)
    return float(_hsv_share(flat, tile.shape[1], (np.int32(WHITE), np.int32(STAINED))))


@jit
def _cut(
    block: Bytes,
    origins: Weights,
    side: int,
    stored: int,
    levels: tuple[int, int],
    luminance: Weights,
    tiles: Bytes,
    figures: Singles,
) -> None:
    first, share = _taps(side, stored)
    for t in range(len(origins)):
        x, y = origins[t, 0], origins[t, 1]
        if side == stored:
            for i in range(side):
                _copy(block[y + i][3 * x : 3 * (x + side)], tiles[t][3 * side * i : 3 * side * (i + 1)])
        else:
            _area(block, x, y, side, stored, first, share, tiles[t])
        _quality(tiles[t], stored, levels, luminance, figures[t])


def cut(
    block: Bytes, origins: npt.NDArray[np.int32], side: int, stored: int
) -> tuple[Bytes, npt.NDArray[np.float32]]:
    """Cut tiles from a block, resample them by area, and measure them.

    Args:
        block: (H, W, 3) uint8.
        origins: (T, 2) int32, x then y of each tile's corner in the block.
        side: pixels of the block on a tile's edge.
        stored: pixels of a returned tile's edge; equal to ``side`` copies.

    Returns:
        Tiles (T, stored, stored, 3) uint8, and (T, 6) float32: mean saturation 0 to 1, share of white
        pixels 0 to 1, focus in grey levels squared, and the shares of stained pixels, of pixels in the
        HSV box, and of pen, 0 to 1 (see tiling_reference.py).

    Raises:
        ValueError: ``stored`` exceeds ``side`` (pixels are never invented), a tile leaves the block, or an
            array has another shape or type.
    """
    check(block.shape, block.dtype, origins, side, stored)
    height, width, _ = block.shape
    tiles = np.empty((len(origins), 3 * stored * stored), np.uint8)
    figures = np.empty((len(origins), FIGURES), np.float32)
    # numba's cache watches this file only: what another one defines comes as an argument.
    levels, luminance = (np.int32(WHITE), np.int32(STAINED)), np.array(LUMINANCE, np.int32)
    flat = np.ascontiguousarray(block).reshape(height, 3 * width)
    _cut(flat, origins, side, stored, levels, luminance, tiles, figures)
    return tiles.reshape(len(origins), stored, stored, 3), figures

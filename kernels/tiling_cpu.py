"""Cutting tiles from a block on the CPU: tiling_reference.py in one pass, all in integers.

Equal to the reference to the bit in the pixels, on the caller's thread, without the GIL.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from pathprep.kernels.tiling_reference import LUMINANCE, WHITE, Bytes

jit = nb.njit(nogil=True, cache=True, error_model="numpy")
_R, _G, _B = LUMINANCE


@jit
def _copy(block, x, y, tile):  # type: ignore[no-untyped-def]
    side = tile.shape[0]
    for i in range(side):
        tile[i] = block[y + i, x : x + side]


@jit
def _resample(block, x, y, side, tile):  # type: ignore[no-untyped-def]
    """Rows first: each source row is added, with its overlap, to the sums of the stored rows it meets."""
    stored = tile.shape[0]
    row = np.empty((stored, 3), np.int64)
    total = np.zeros((stored, 3), np.int64)
    area = np.int64(side) * side
    i = 0
    for j in range(side):
        _shrink_row(block[y + j], x, side, row)
        # source row j covers [j stored, (j + 1) stored); stored row i covers [i side, (i + 1) side)
        start, stop = j * stored, (j + 1) * stored
        while start < stop:
            end = min(stop, (i + 1) * side)
            weight = end - start
            for c in range(stored):
                for k in range(3):
                    total[c, k] += weight * row[c, k]
            start = end
            if end == (i + 1) * side:
                for c in range(stored):
                    for k in range(3):
                        tile[i, c, k] = (2 * total[c, k] + area) // (2 * area)
                        total[c, k] = 0
                i += 1


@jit
def _shrink_row(source, x, side, row):  # type: ignore[no-untyped-def]
    stored = row.shape[0]
    row[:] = 0
    i = 0
    for j in range(side):
        start, stop = j * stored, (j + 1) * stored
        while start < stop:
            end = min(stop, (i + 1) * side)
            weight = end - start
            for k in range(3):
                row[i, k] += weight * np.int64(source[x + j, k])
            start = end
            if end == (i + 1) * side:
                i += 1


@jit
def _quality(tile, out):  # type: ignore[no-untyped-def]
    """Saturation, white, focus; the luminance in 256ths, so sums are exact integers."""
    height, width = tile.shape[0], tile.shape[1]
    grey = np.empty((3, width), np.int32)
    saturation = 0.0
    white = 0
    first, second = np.int64(0), np.int64(0)
    for i in range(height):
        part = np.float32(0.0)
        line = grey[i % 3]
        for j in range(width):
            r, g, b = np.int32(tile[i, j, 0]), np.int32(tile[i, j, 1]), np.int32(tile[i, j, 2])
            high, low = max(r, g, b), min(r, g, b)
            part += np.float32(high - low) / np.float32(max(high, 1))
            white += low >= WHITE
            line[j] = _R * r + _G * g + _B * b
        saturation += part
        if i < 2:
            continue
        above, middle = grey[(i - 2) % 3], grey[(i - 1) % 3]
        for j in range(1, width - 1):
            value = np.int64(above[j] + line[j] + middle[j - 1] + middle[j + 1] - 4 * middle[j])
            first += value
            second += value * value
    pixels = height * width
    inner = max(0, height - 2) * max(0, width - 2)
    out[0] = saturation / pixels
    out[1] = white / pixels
    out[2] = 0.0
    if inner:
        mean = first / inner
        out[2] = max(0.0, second / inner - mean * mean) / 65536.0


@jit
def _cut(block, origins, side, tiles, figures):  # type: ignore[no-untyped-def]
    for t in range(len(origins)):
        x, y = origins[t, 0], origins[t, 1]
        if side == tiles.shape[1]:
            _copy(block, x, y, tiles[t])
        else:
            _resample(block, x, y, side, tiles[t])
        _quality(tiles[t], figures[t])


def cut(
    block: Bytes, origins: npt.NDArray[np.int32], side: int, stored: int
) -> tuple[Bytes, npt.NDArray[np.float32]]:
    """Cut tiles from a block, reduce them by area averaging, and measure them.

    Args:
        block: (H, W, 3) uint8 RGB.
        origins: (T, 2) int32, x then y of each tile's corner in the block.
        side: of a tile in the block, pixels.
        stored: of the result, pixels; at most ``side``.

    Returns:
        Tiles (T, stored, stored, 3) uint8, and (T, 3) float32: mean HSV saturation 0 to 1, share of
        white pixels 0 to 1, variance of the Laplacian of luminance in grey levels squared.

    Raises:
        ValueError: ``stored`` is above ``side``, or a tile leaves the block.
    """
    if not 1 <= stored <= side:
        raise ValueError(f"stored {stored} must be 1 to side {side}: tiles are never enlarged")
    height, width = block.shape[:2]
    if len(origins) and (origins.min() < 0 or (origins.max(axis=0) + side > (width, height)).any()):
        raise ValueError(f"tiles of side {side} at {origins.tolist()} leave the block of {width} x {height}")
    tiles = np.empty((len(origins), stored, stored, 3), np.uint8)
    figures = np.empty((len(origins), 3), np.float32)
    _cut(block, origins, side, tiles, figures)
    return tiles, figures

"""Launching tiling.cu: tiles and their figures from a decoded block on the GPU, on the caller's stream."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.kernels.cuda import PLAIN_SHARED, Device, module
from pathprep.kernels.tiling_reference import FIGURES, LUMINANCE, STAINED, WHITE, check

# CuPy arrays (numpy's under test)
Array = Any

ROWS, COLUMNS, THREADS, SUMS = 16, 64, 256, 6  # as in tiling.cu
HELD = 4 * (ROWS + 2) * (COLUMNS + 2) + 3 * ROWS * COLUMNS  # bytes of luminance and of pixels of a rectangle
MOST_TILES = 65535  # of one launch: the grid's third extent


def cut(
    block: Array, origins: npt.NDArray[np.int32], side: int, stored: int, device: Device | None = None
) -> tuple[Array, Array]:
    """Cut tiles from a block, resample them by area, and measure them; nothing waits for the GPU.

    Args:
        block: (H, W, 3) uint8, on the GPU; rows may lie apart (a view), pixels and channels may not.
        origins: (T, 2) int32, x then y of each tile's corner in the block; numpy, so that they can be
            checked without asking the GPU.
        side, stored: as in tiling_cpu.cut. device: for tests.

    Returns:
        Tiles (T, stored, stored, 3) uint8 and figures (T, 6) float32, on the GPU.

    Raises:
        ValueError: as tiling_cpu.cut does.
    """
    device = device or module("tiling.cu")
    xp = device.xp
    check(block.shape, block.dtype, origins, side, stored)
    if block.strides[1:] != (3, 1) or block.strides[0] < 0:
        block = xp.ascontiguousarray(block)
    count = len(origins)
    tiles = xp.empty((count, stored, stored, 3), np.uint8)
    figures = xp.empty((count, FIGURES), np.float32)
    sums = xp.zeros((count, SUMS), np.uint64)
    corners = xp.asarray(np.ascontiguousarray(origins, np.int32))
    pitch, shared = staging(side, stored)
    kernel = "tiling_copy" if side == stored else "tiling_halve" if side == 2 * stored else "tiling_area"
    inverse = np.uint64(-(-(1 << 40) // stored))
    levels = [np.int32(value) for value in (pitch, WHITE, STAINED, *LUMINANCE)]
    numbers = [np.int32(side), np.int32(stored), inverse, *levels]
    for start in range(0, count, MOST_TILES):
        part = slice(start, start + MOST_TILES)
        n = len(tiles[part])
        grid = (-(-stored // COLUMNS), -(-stored // ROWS), n)
        arguments = [block, np.int64(block.strides[0]), corners[part], *numbers, tiles[part], sums[part]]
        device.launch(kernel, grid, (THREADS,), arguments, shared)
        arguments = [sums[part], np.int32(n), np.int32(stored), figures[part]]
        device.launch("tiling_figures", (-(-n // THREADS),), (THREADS,), arguments)
    return tiles, figures


def staging(side: int, stored: int) -> tuple[int, int]:
    """Bytes of a row of a rectangle's source in shared memory, 0 if it does not fit there; bytes in all."""
    rows, columns = (-(-(extent + 2) * side // stored) + 1 for extent in (ROWS, COLUMNS))
    pitch = (3 * columns + 15 + 15) // 16 * 16  # a row starts up to 15 bytes in, as it does in the block
    total = HELD + rows * pitch
    return (pitch, total) if total <= PLAIN_SHARED else (0, HELD)

"""Launching macenko.cu and macenko_apply.cu: batches or ragged lists of tiles, on the caller's stream.

Nothing here waits for the GPU, except the first call for each io, which sends its tables. Tiles are handed
over as the first's address and the distance to the next, or, where there are several batches, as addresses,
so that a list of tiles of differing sizes is one launch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.kernels.cuda import Device, module
from pathprep.kernels.macenko_reference import (
    ALPHA,
    BETA,
    CONCENTRATION_PERCENTILE,
    IO,
    LIMITS,
    MAX_PIXELS,
    optical_density,
    with_shift,
)

# CuPy arrays (numpy's under test): no types of theirs are at hand without CuPy
Array = Any

THREADS = 1024
COPIES, GROUPS, BINS = 16, 4, 256  # as in macenko_tile.cuh
# Keys that each of the two lists holds: a sample of the pixels, then those under its cut, 1.0 % and as many
# as its chance makes, some .8 % at 1,664 and .4 % at 4,736. At 256 px what a Hopper block's shared memory
# leaves
FEWEST_KEYS, PIXELS_PER_KEY = 1664, 56


def keys(pixels: int, shared: int) -> int:
    """Keys that a list holds, where the largest tile has so many pixels: both take at most a quarter of the
    shared memory, unless that is too few."""
    return max(min(-(-pixels // PIXELS_PER_KEY // 64) * 64, shared // 32), FEWEST_KEYS)


def scratch(room: int) -> int:
    """Bytes of dynamic shared memory beside the tile, for lists of so many keys."""
    return 4 * (256 * COPIES + GROUPS * BINS + 2 * room)


STATIC = 1536  # bytes of static shared memory with the KiB that the driver keeps of each block, rounded up
QUANTUM = 16  # pixels: 48 bytes, so that every piece of a tile starts as well aligned as the tile
SCALE = 1 << 17  # steps of optical density per unit
# A hair more light, 5e-4 grey levels, as a binary logarithm: OD 0 is exactly I0, and must not be truncated to
# the level below
LIGHT = 3e-6

APPLY_THREADS = 512
APPLY_PIXELS = 16 * 512  # of a strip of every warp of a block
APPLY_SHARED = 4 * 256 * 32 + 16 * 1536
MANY = 1024  # tiles that keep every SM busy with one block each


def fit(
    batches: Sequence[Array],
    keep_any: bool = False,
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    device: Device | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Steps 1 to 6.

    Args:
        batches: (n, H, W, 3) uint8 each, N tiles in all.
        device: for tests.

    Returns:
        he (N, 3, 2) float64, max_c (N, 2) float64, tissue_pixels (N,) int64, and status (N,) uint8: 0 fitted,
        2 not, with zeros for he and max_c.

    Raises:
        ValueError: a tile has more than 2^24 pixels.
    """
    return _macenko(batches, None, None, keep_any, alpha, beta, io, device or module("macenko.cu"))[1]


def normalize(
    batches: Sequence[Array],
    target_he: npt.NDArray[np.float64],
    target_max_c: npt.NDArray[np.float64],
    io: float = IO,
    device: Device | None = None,
) -> tuple[list[Array], tuple[Array, Array, Array, Array]]:
    """Steps 1 to 7 in one kernel, each tile read once and written once; tiles without a fit are copied.

    Returns:
        The tiles, and what ``fit`` returns.

    Raises:
        ValueError: a tile has more than 2^24 pixels.
    """
    device = device or module("macenko.cu")
    results = [device.xp.empty(batch.shape, np.uint8) for batch in batches]
    target = np.concatenate([target_he.ravel(), target_max_c])
    return results, _macenko(batches, results, target, False, ALPHA, BETA, io, device)[1]


def apply(
    batches: Sequence[Array], matrices: Array, io: float = IO, device: Device | None = None
) -> list[Array]:
    """Step 7 with a matrix (N, 3, 3) or (N, 3, 4) for each tile; an exact identity copies.

    Args:
        matrices: on the GPU, or numpy.
    """
    device = device or module("macenko_apply.cu")
    xp = device.xp
    results = [xp.empty(batch.shape, np.uint8) for batch in batches]
    held = [xp.ascontiguousarray(batch) for batch in batches]
    count, largest = sum(map(len, held)), max(map(pixels, held), default=0)
    if not count:
        return results
    places = None if len(held) == 1 else xp.asarray(_places(held, results))
    # A block fills its table once: many strips each, but where that would leave the card idle
    strips = max(1, min(-(-largest // APPLY_PIXELS), 8 if count >= MANY else 2))
    per_tile = max(1, -(-largest // (strips * APPLY_PIXELS)))
    arguments = [
        held[0],
        results[0],
        np.int32(pixels(held[0])),
        places,
        np.int32(per_tile),
        np.int32(strips),
        xp.ascontiguousarray(with_shift(xp.asarray(matrices)), np.float64),
        logarithms(device, io),
    ]
    device.launch("macenko_apply", (count * per_tile,), (APPLY_THREADS,), arguments, APPLY_SHARED)
    del held  # until here: freed memory may be given out again, but only behind this kernel on the stream
    return results


def _macenko(
    batches: Sequence[Array],
    results: list[Array] | None,
    target: npt.NDArray[np.float64] | None,
    keep_any: bool,
    alpha: float,
    beta: float,
    io: float,
    device: Device,
) -> tuple[list[Array] | None, tuple[Array, Array, Array, Array]]:
    xp = device.xp
    held = [xp.ascontiguousarray(batch) for batch in batches]
    count, largest = sum(map(len, held)), max(map(pixels, held), default=0)
    he, max_c = xp.empty((count, 3, 2)), xp.empty((count, 2))
    tissue, status = xp.empty(count, np.int64), xp.empty(count, np.uint8)
    if largest > MAX_PIXELS:
        raise ValueError(f"a tile has {largest} pixels; expected at most {MAX_PIXELS}, 4096 x 4096")
    if count:
        room = keys(largest, device.shared)
        left = device.shared - scratch(room) - STATIC
        capacity = min(-(-largest // QUANTUM), left // (3 * QUANTUM)) * QUANTUM
        arguments = [
            held[0],
            None if results is None else results[0],
            np.int32(pixels(held[0])),
            None if len(held) == 1 else xp.asarray(_places(held, results)),
            np.int32(capacity),
            np.int32(room),
            xp.asarray(_settings(keep_any, alpha, beta, io)),
            densities(device, io),
            np.float32(np.log2(io) + LIGHT),
            None if target is None else xp.asarray(target),
            he,
            max_c,
            tissue,
            status,
        ]
        device.launch("macenko", (count,), (THREADS,), arguments, scratch(room) + 3 * capacity)
    del held  # until here: freed memory may be given out again, but only behind this kernel on the stream
    return results, (he, max_c, tissue, status)


def _places(batches: Sequence[Array], results: Sequence[Array] | None) -> npt.NDArray[np.uint64]:
    """Of each tile where it is, where its result goes (0: nowhere), and its pixels: (N, 3)."""
    rows = [
        (address(batch) + 3 * pixels(batch) * i, result and result + 3 * pixels(batch) * i, pixels(batch))
        for batch, result in zip(
            batches, map(address, results) if results else [0] * len(batches), strict=True
        )
        for i in range(len(batch))
    ]
    return np.array(rows, np.uint64).reshape(-1, 3)


def pixels(batch: Array) -> int:
    """Of a tile of a batch (n, H, W, 3)."""
    return int(batch.shape[1]) * int(batch.shape[2])


def address(array: Array) -> int:
    """Where an array's bytes begin."""
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def _settings(keep_any: bool, alpha: float, beta: float, io: float) -> npt.NDArray[np.float64]:
    """macenko.cu's `settings`."""
    levels = int((optical_density(np.arange(256), io) >= beta).sum())  # OD falls with the grey level
    return np.array([keep_any, levels - 1, alpha, CONCENTRATION_PERCENTILE, *LIMITS], np.float64)


def densities(device: Device, io: float) -> Array:
    """OD of each grey level in steps, (256,)."""
    return device.constant(tuple(np.rint(optical_density(np.arange(256), io) * SCALE)), np.int32)


def logarithms(device: Device, io: float) -> Array:
    """log2 of (I + 1) / I0 for each grey level, and of I0 last, (257,)."""
    od = optical_density(np.arange(256), io)
    return device.constant(tuple(np.append(-od / np.log(2), np.log2(io) + LIGHT)), np.float32)

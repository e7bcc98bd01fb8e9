"""Fits as metadata: their statuses, fitting tiles, and the slide's pooled fit."""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pathprep.kernels import macenko_cpu
from pathprep.kernels.macenko_reference import ALPHA, BETA, IO, MAX_PIXELS
from pathprep.kernels.threads_cpu import share_out
from pathprep.stain import plausible
from pathprep.stain.arrays import (
    Array,
    beside,
    is_cupy,
    is_torch,
    namespace,
    native,
    place,
    returner,
    stream_of,
)

# (N, H, W, 3) uint8, or a sequence of (H, W, 3): numpy, CuPy, or torch
Tiles = Array | Sequence[Array]

KEEP = ("all", "any")
Result = TypeVar("Result")


class Status(enum.IntEnum):
    """Where a tile's fit comes from."""

    FITTED = 0  # the tile itself
    # the slide's pooled fit: the tile has too little tissue, one stain alone, or its fit was implausible
    SLIDE_FIT = 1
    UNFITTED = 2  # nowhere: the tile is left as it is


# CuPy does not compare arrays with members of an enum
FITTED, UNFITTED = int(Status.FITTED), int(Status.UNFITTED)


@dataclass(frozen=True)
class StainFit:
    """The stains of N tiles, in arrays of the library that the tiles were in.

    Attributes:
        he: (N, 3, 2) float64; unit columns, the optical density (RGB) of haematoxylin and of eosin.
        max_c: (N, 2) float64; 99th percentile of the two concentrations, positive.
        tissue_pixels: (N,) int64; pixels that the fit used.
        status: (N,) uint8 of ``Status``. Where UNFITTED, he and max_c are zeros.
    """

    he: Array
    max_c: Array
    tissue_pixels: Array
    status: Array

    @staticmethod
    def join(fits: "Sequence[StainFit]") -> "StainFit":
        """The fits of several batches, in numpy, as those of one."""
        columns = zip(*(fit._arrays() for fit in fits), strict=True)
        return StainFit(*(np.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.status)

    def native(self) -> "StainFit":
        """The same in numpy or CuPy."""
        return StainFit(*(native(array) for array in self._arrays()))

    def like(self, given: Array) -> "StainFit":
        """The same, from numpy or CuPy to the library of ``given``."""
        back = returner(given)
        return StainFit(*(back(array) for array in self._arrays()))

    def _arrays(self) -> tuple[Array, ...]:
        return self.he, self.max_c, self.tissue_pixels, self.status


def fit(
    tiles: Tiles,
    *,
    keep: str = "all",
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    threads: int | None = None,
) -> StainFit:
    """Fit the stains of each tile.

    Args:
        tiles: (N, H, W, 3) uint8 or a sequence of (H, W, 3), of 1 to 2^24 pixels (4096 x 4096) each. On a
            GPU (CuPy, torch) the work is queued on the current stream, and nothing waits for it, except
            the first call for each io.
        keep: a pixel is tissue if "all" of its channels have an optical density of at least ``beta``, or
            if "any" has (cuCIM's rule; it moves the eosin vector by tens of degrees).
        alpha: percent of tissue pixels beyond each stain vector, 0 to 50.
        beta: optical density, natural logarithm.
        io: transmitted light, grey levels.
        threads: CPU threads, None for one per core; changes no bit of the result.

    Raises:
        ValueError: an argument is outside its range, or tiles are not (H, W, 3) uint8, too large, or not
            of one library on one device.
    """
    if keep not in KEEP:
        raise ValueError(f"keep is {keep!r}; expected one of {KEEP}")
    if not 0 <= alpha < 50:
        raise ValueError(f"alpha is {alpha}; expected percent, 0 <= alpha < 50")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}; expected an optical density, finite and not negative")
    check_io(io)
    given = first(tiles)
    with stream_of(given):
        batches = checked(tiles)
        if batches and is_cupy(batches[0]):
            from pathprep.kernels import macenko_cuda

            columns = macenko_cuda.fit(batches, keep == "any", alpha, beta, io)
            return judged(StainFit(*columns), batches, io).like(given)
        if is_batch(tiles):
            parts = [macenko_cpu.fit(batches[0], keep == "any", alpha, beta, io, threads)]
        else:
            parts = each(
                batches, lambda tile, _: macenko_cpu.fit(tile, keep == "any", alpha, beta, io), threads
            )
            parts.append(macenko_cpu.fit(np.empty((0, 1, 1, 3), np.uint8)))  # for a list of none
        he, max_c, tissue_pixels, fitted = (np.concatenate(column) for column in zip(*parts, strict=True))
        status = np.where(fitted, Status.FITTED, Status.UNFITTED).astype(np.uint8)
        return judged(StainFit(he, max_c, tissue_pixels, status), batches, io).like(given)


def judged(fits: StainFit, batches: list[Array], io: float) -> StainFit:
    """The kernels' fits, UNFITTED where they would spoil their tiles (see ``plausible``); nothing waits."""
    xp = namespace(fits.he)
    if not len(fits):
        return fits
    good = (fits.status == FITTED) & ~plausible.refused(xp, batches, fits.he, fits.max_c, io)
    he, max_c = fits.he * good[:, None, None], fits.max_c * good[:, None]
    return StainFit(he, max_c, fits.tissue_pixels, (~good * xp.uint8(UNFITTED)).astype(xp.uint8))


def pool(fits: StainFit) -> StainFit:
    """One fit (N = 1) for a slide from its tiles' fits, whatever their order.

    Component-wise medians over the FITTED tiles, the vectors scaled back to unit length: a few tiles of
    ink or folded tissue do not move it. ``tissue_pixels`` is the sum over those tiles. UNFITTED if there
    is none. Waits for the GPU if the fits are there.
    """
    given = fits.he
    with stream_of(given):
        return _pooled(fits.native()).like(given)


def _pooled(fits: StainFit) -> StainFit:
    xp = namespace(fits.he)
    use = fits.status == FITTED
    total = fits.tissue_pixels[use].sum().reshape(1)
    if not use.any():
        return StainFit(xp.zeros((1, 3, 2)), xp.zeros((1, 2)), total, xp.full(1, UNFITTED, xp.uint8))
    he = xp.median(fits.he[use], axis=0)
    he /= xp.linalg.norm(he, axis=0)
    max_c = xp.median(fits.max_c[use], axis=0)
    return StainFit(he[None], max_c[None], total, xp.full(1, FITTED, xp.uint8))


def fall_back(fits: StainFit, pooled: StainFit) -> StainFit:
    """UNFITTED tiles take the slide's pooled fit (N = 1) and the status SLIDE_FIT.

    If there is no pooled fit either, they stay UNFITTED. ``tissue_pixels`` stays each tile's own.

    Raises:
        ValueError: the pooled fit is neither numpy nor of the library and on the device of the fits.
    """
    given = fits.he
    with stream_of(given):
        fits = fits.native()
        xp = namespace(fits.he)
        pooled = StainFit(*(xp.asarray(beside(part, given, "a pooled fit")) for part in pooled._arrays()))
        use = (fits.status == UNFITTED) & (pooled.status[0] != UNFITTED)
        return StainFit(
            xp.where(use[:, None, None], pooled.he, fits.he),
            xp.where(use[:, None], pooled.max_c, fits.max_c),
            fits.tissue_pixels,
            xp.where(use, xp.uint8(Status.SLIDE_FIT), fits.status),
        ).like(given)


def each(batches: list[Array], work: Callable[[Array, int], Result], threads: int | None) -> list[Result]:
    """``work`` on every tile (1, H, W, 3) of a list, with its number, on several threads."""
    results: list[Any] = [None] * len(batches)

    def some(part: slice) -> None:
        for i in range(*part.indices(len(batches))):
            results[i] = work(batches[i], i)

    pixels = sum(batch.shape[1] * batch.shape[2] for batch in batches) // max(len(batches), 1)
    share_out(some, len(batches), pixels, threads)
    return results


def check_io(io: float) -> None:
    """Refuse a transmitted light that no 8-bit image can have."""
    if not 1 <= io <= 256:
        raise ValueError(f"io is {io}; expected grey levels, 1 to 256")


def first(tiles: Tiles) -> Any:
    """An array of the tiles' library: the batch itself, or the first of a sequence."""
    if is_batch(tiles) or not len(tiles):
        return tiles if is_batch(tiles) else np.empty(0)
    return tiles[0]


def is_batch(tiles: Tiles) -> bool:
    """One array, not a sequence of them."""
    return isinstance(tiles, np.ndarray) or is_cupy(tiles) or is_torch(tiles)


def checked(tiles: Tiles) -> list[Array]:
    """Native batches (n, H, W, 3): the one given, or one for each tile of a sequence.

    Raises:
        ValueError: tiles are not (H, W, 3) uint8, too large, or not of one library on one device.
    """
    if is_batch(tiles):
        return [_checked(native(tiles), 4)]
    batches = [_checked(native(tile), 3)[None] for tile in tiles]
    places = sorted({place(tile) for tile in tiles})
    if len(places) > 1:
        raise ValueError(f"expected tiles of one library on one device, got {' and '.join(places)}")
    return batches


def _checked(tiles: Array, dimensions: int) -> Array:
    if tiles.dtype != np.uint8 or tiles.ndim != dimensions or tiles.shape[-1] != 3 or 0 in tiles.shape[-3:]:
        shape = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"expected tiles {shape} of uint8, got {tiles.shape} of {tiles.dtype}")
    height, width = tiles.shape[-3:-1]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"expected tiles of at most {MAX_PIXELS} pixels (4096 x 4096), got {width} x {height}"
        )
    return tiles

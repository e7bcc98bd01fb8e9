"""Cutting a batch's views on the CPU, by compiled kernels: each view is resized, recoloured, blurred,
solarised and normalised while it is in the cache, and is written where the batch has it.

What DALI's operators give, to a grey level (the tests hold one against the other), in a sixth of the time.
"""

import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pathprep.kernels import blur_cpu, colour_cpu, macenko_cpu, resize_cpu
from pathprep.kernels.colour_reference import UNCHANGED
from pathprep.kernels.compiled import jit_finite
from pathprep.kernels.threads_cpu import share_out
from pathtrain.data.view_numbers import COLOUR, SIGMA, SOLARISE, TRANSPOSE

SOLARISE_FROM = 128  # PIL.ImageOps.solarize's default
RED = COLOUR.start

Pixels = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Cutter:
    """What DALI's python_function calls with a batch's tiles, in order; ``take`` gives the views, in order.

    They do not go through DALI, which would copy them. DALI's own threads wait for it, hence as many threads
    as they are.

    Args:
        sizes: of a tile's V views.
        mean, std: per channel, of levels 0 to 255, that the views are normalised with.
        io: transmitted light of the stain matrices, grey levels.
    """

    def __init__(
        self, sizes: list[int], mean: list[float], std: list[float], threads: int, io: float
    ) -> None:
        self._sizes, self._threads, self._io = sizes, threads, io
        self._factor = (1 / np.array(std)).astype(np.float32)
        self._shift = (-np.array(mean) / std).astype(np.float32)
        self._pool = _Pool()
        self._made: deque[list[Tensor]] = deque()

    def take(self) -> list[Tensor]:
        """The views of the first batch that has not been taken, a tensor (B, 3, size, size) each."""
        return self._made.popleft()

    def __call__(
        self, tiles: list[Pixels], numbers: list[Singles], *matrices: list[Doubles]
    ) -> list[npt.NDArray[np.uint8]]:
        """Cut tiles (H, W, 3).

        Args:
            numbers: B of (V, WIDTH), see pathtrain.data.view_numbers.
            matrices: of the views' stain, B of (V, 3, 4), if any.

        Returns:
            B arrays for DALI, which have no meaning.
        """
        views = self._pool.take([(len(tiles), 3, size, size) for size in self._sizes])
        out = [view.numpy() for view in views]
        side = resize_cpu.padded(max(self._sizes))

        def some(part: slice) -> None:
            scratch = np.empty((2, 3 * side * side), np.float32)
            for at in range(*part.indices(len(tiles))):
                for number, each in enumerate(out):
                    row = numbers[at][number]
                    given = row, each[at], scratch, self._factor, self._shift
                    if matrices:
                        self._stained(tiles[at], matrices[0][at][number], *given)
                    else:
                        _cut(tiles[at], *given)

        share_out(some, len(tiles), sum(size * size for size in self._sizes), self._threads)
        self._made.append(views)
        return [np.zeros(1, np.uint8)] * len(tiles)

    def _stained(self, tile: Pixels, matrix: Doubles, row: Singles, out: Singles, *given: Any) -> None:
        """As _cut, with the view's stain changed after it was resized, as pathprep.stain.apply does it."""
        size = out.shape[1]
        view = np.empty((size, size, 3), np.uint8)
        _resized(tile, row, view, given[0])
        changed = macenko_cpu.apply(view[None], matrix[None], self._io)[0]
        _finished_from(changed, row, out, *given)


class _Pool:
    """Memory of batches, used again when a batch's last tensor is gone: fresh memory costs a page fault for
    every 4 KiB, a tenth of the time of a batch."""

    def __init__(self) -> None:
        self._free: deque[Singles] = deque()

    def take(self, shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """Tensors of any content."""
        lengths = [int(np.prod(shape)) for shape in shapes]
        memory = self._free.pop() if self._free else np.empty(0, np.float32)
        if len(memory) != sum(lengths):
            memory = np.empty(sum(lengths), np.float32)
        lent = memory[:]
        whole = torch.from_numpy(lent)  # holds ``lent`` as long as a tensor that shares its memory is there
        weakref.finalize(lent, self._free.append, memory).atexit = False
        parts = torch.split(whole, lengths)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@jit_finite  # type: ignore[untyped-decorator]
def _cut(tile: Pixels, row: Singles, out: Singles, scratch: Singles, factor: Singles, shift: Singles) -> None:
    """A view of a tile (H, W, 3), normalised, (3, S, S)."""
    planes, other = _planes(scratch, out.shape[1])
    box = row[0], row[1], row[2], row[3]
    resize_cpu.apply(tile, *box, row[TRANSPOSE] != 0, out.shape[1], planes)
    _finished(planes, other, row, out, factor, shift)


@jit_finite  # type: ignore[untyped-decorator]
def _resized(tile: Pixels, row: Singles, view: Pixels, scratch: Singles) -> None:
    """A view (S, S, 3) of a tile, resized only."""
    size = len(view)
    planes, _ = _planes(scratch, size)
    box = row[0], row[1], row[2], row[3]
    resize_cpu.apply(tile, *box, row[TRANSPOSE] != 0, size, planes)
    for y in range(size):
        for x in range(size):
            for channel in range(3):
                view[y, x, channel] = np.uint8(np.int32(planes[channel, y, x]))


@jit_finite  # type: ignore[untyped-decorator]
def _finished_from(
    view: Pixels, row: Singles, out: Singles, scratch: Singles, factor: Singles, shift: Singles
) -> None:
    """What follows resizing, of a view (S, S, 3)."""
    size = len(view)
    planes, other = _planes(scratch, size)
    planes[:] = 0
    for y in range(size):
        for x in range(size):
            for channel in range(3):
                planes[channel, y, x] = view[y, x, channel]
    _finished(planes, other, row, out, factor, shift)


@jit_finite  # type: ignore[untyped-decorator]
def _planes(scratch: Singles, size: int) -> tuple[Singles, Singles]:
    side = resize_cpu.padded(size)
    count = 3 * side * side
    return scratch[0, :count].reshape(3, side, side), scratch[1, :count].reshape(3, side, side)


@jit_finite  # type: ignore[untyped-decorator]
def _finished(
    planes: Singles, other: Singles, row: Singles, out: Singles, factor: Singles, shift: Singles
) -> None:
    size = out.shape[1]
    colour = row[COLOUR]
    if (colour != UNCHANGED).any():
        colour_cpu.apply(planes, size, size, colour)
    if row[SIGMA] > 0:
        blur_cpu.apply(planes, size, size, row[SIGMA], other)
        planes, other = other, planes
    for channel in range(3):
        by, plus = factor[channel], shift[channel]
        for y in range(size):
            source, target = planes[channel, y], out[channel, y]
            if row[SOLARISE] != 0:
                for x in range(size):
                    level = source[x]
                    level = np.float32(255) - level if level >= SOLARISE_FROM else level
                    target[x] = level * by + plus
            else:
                for x in range(size):
                    target[x] = source[x] * by + plus

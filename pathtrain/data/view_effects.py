"""What is done to a view's pixels after the crop: colour, blur, solarise; by DALI on GPUs, compiled on CPUs.

Both do the same, to a grey level (the tests hold one against the other). On the CPU DALI's coord_transform
takes 24 ns a pixel and its gaussian_blur 68, which was a third of the loader's time; here it is 3 and 5.
"""

import math
from collections.abc import Collection
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from nvidia.dali import fn, types

from pathprep.kernels.threads_cpu import share_out

SOLARISE_FROM = 128  # PIL.ImageOps.solarize's default
NAMES = ("coloured", "matrix", "offset", "blur", "sigma", "solarise")  # the inputs, in their order

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_jit = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)


def by_dali(x: Any, given: dict[str, Any]) -> Any:
    """Part of a graph that DALI traces, with conditionals: they take only the samples that need the work.

    Args:
        x: views (H, W, 3) uint8.
        given: those of NAMES that there are.
    """
    if "matrix" in given:
        if given["coloured"]:
            average = fn.reductions.mean(x, axes=(0, 1)).cpu()  # arguments live on the CPU
            offset = fn.reductions.sum(average * given["offset"])
            x = fn.coord_transform(x, M=given["matrix"], T=offset, dtype=types.UINT8)
    if "blur" in given:
        if given["blur"]:
            x = fn.gaussian_blur(x, sigma=given["sigma"])
    if "solarise" in given:
        if given["solarise"]:
            bright = fn.cast(x >= SOLARISE_FROM, dtype=types.UINT8)
            x = fn.cast(bright * (255 - x) + (1 - bright) * x, dtype=types.UINT8)
    return x


class Compiled:
    """What DALI's python_function calls, with the views (H, W, 3) uint8 of a batch and their inputs.

    DALI's own threads wait for it, hence as many threads as they are.

    Args:
        keys: of the view's inputs.

    Attributes:
        names: of the inputs that it takes: those of NAMES that there are.
    """

    def __init__(self, keys: Collection[str], threads: int) -> None:
        self.names, self._threads = [name for name in NAMES if name in keys], threads

    def __call__(self, views: list[Pixels], *inputs: list[npt.NDArray[Any]]) -> list[Pixels]:
        found = list(views)

        def some(part: slice) -> None:
            for at in range(*part.indices(len(views))):
                given = {name: values[at] for name, values in zip(self.names, inputs, strict=True)}
                found[at] = _changed(views[at], given)

        share_out(some, len(views), views[0].shape[0] * views[0].shape[1], self._threads)
        return found


def _changed(view: Pixels, given: dict[str, npt.NDArray[Any]]) -> Pixels:
    if given.get("coloured", False):
        view = _recolour(view, given["matrix"], given["offset"])
    if given.get("blur", False):
        view = _blur(view, _kernel(float(given["sigma"])))
    if given.get("solarise", False):
        view = np.where(view >= SOLARISE_FROM, 255 - view, view)
    return view


def _kernel(sigma: float) -> Floats:
    """Half a Gaussian window, from its middle: as wide as DALI's, three sigma to each side."""
    weights = np.exp(-0.5 * (np.arange(math.ceil(3 * sigma) + 1) / sigma) ** 2)
    half: Floats = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    return half


@_jit  # type: ignore[untyped-decorator]
def _recolour(view: Pixels, matrix: Floats, offset: Floats) -> Pixels:
    """out = matrix @ rgb + offset . mean(rgb), rounded and clipped."""
    height, width, _ = view.shape
    sums = np.zeros(3, np.int64)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                sums[channel] += view[row, column, channel]
    shift = np.float32(0.5)
    for channel in range(3):
        shift += np.float32(sums[channel] / (height * width)) * offset[channel]
    out = np.empty_like(view)
    for row in range(height):
        for column in range(width):
            r = np.float32(view[row, column, 0])
            g = np.float32(view[row, column, 1])
            b = np.float32(view[row, column, 2])
            for channel in range(3):
                value = matrix[channel, 0] * r + matrix[channel, 1] * g + matrix[channel, 2] * b + shift
                out[row, column, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
    return out


@_jit  # type: ignore[untyped-decorator]
def _blur(view: Pixels, kernel: Floats) -> Pixels:
    """Columns, then rows; beyond the border the picture is mirrored, without its edge twice."""
    height, width, _ = view.shape
    reach = len(kernel) - 1
    flat = view.reshape(height, width * 3)
    out = np.empty((height, width * 3), np.uint8)
    line = np.empty((width + 2 * reach) * 3, np.float32)
    sums = np.empty(width * 3, np.float32)
    for row in range(height):
        middle = line[3 * reach : 3 * (reach + width)]
        middle[:] = flat[row] * kernel[0]
        for step in range(1, reach + 1):
            above, below = flat[_mirrored(row - step, height)], flat[_mirrored(row + step, height)]
            weight = kernel[step]
            for at in range(3 * width):
                middle[at] += weight * (np.float32(above[at]) + np.float32(below[at]))
        for column in range(1, reach + 1):
            for channel in range(3):
                left, right = _mirrored(-column, width), _mirrored(width - 1 + column, width)
                line[3 * (reach - column) + channel] = middle[3 * left + channel]
                line[3 * (reach + width - 1 + column) + channel] = middle[3 * right + channel]
        sums[:] = middle * kernel[0] + np.float32(0.5)
        for step in range(1, reach + 1):
            weight = kernel[step]
            before, after = line[3 * (reach - step) :], line[3 * (reach + step) :]
            for at in range(3 * width):
                sums[at] += weight * (before[at] + after[at])
        for at in range(3 * width):
            out[row, at] = np.uint8(sums[at])
    return out.reshape(height, width, 3)


@_jit  # type: ignore[untyped-decorator]
def _mirrored(at: int, size: int) -> int:
    if size == 1:
        return 0
    while at < 0 or at >= size:
        at = -at if at < 0 else 2 * (size - 1) - at
    return at

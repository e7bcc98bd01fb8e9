"""What is done to a view's pixels after the crop: stain, colour, blur, solarise; compiled on CPUs, on GPUs by
kernels of this project (stain, colour) and by DALI.

Both do the same, to a grey level (the tests hold one against the other). On the CPU DALI's gaussian_blur
takes 68 ns a pixel, which was a fifth of the loader's time; here it is 5. DALI has no operator that turns hue
on the circle of HSV: its fn.hsv is linear, and a linear turn is 7 to 15 levels from torchvision's on tissue.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from nvidia.dali import fn, types

from pathprep import stain
from pathprep.kernels import colour_cpu, colour_cuda, macenko_cpu
from pathprep.kernels.colour_reference import UNCHANGED
from pathprep.kernels.compiled import jit_finite
from pathprep.kernels.threads_cpu import share_out

SOLARISE_FROM = 128  # PIL.ImageOps.solarize's default
NAMES = ("stain", "colour", "blur", "sigma", "solarise")  # the inputs, in their order
ON_ARRAYS = NAMES[:2]  # on a GPU, those that are no operators of DALI

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def by_dali(x: Any, given: dict[str, Any], number: int, io: float) -> Any:
    """Part of a GPU's graph that DALI traces, with conditionals: they take only what needs the work.

    Args:
        x: views (H, W, 3) uint8.
        given: those of NAMES that there are, on the CPU.
        number, io: as of ``Compiled``.
    """
    on_arrays = [name for name in ON_ARRAYS if name in given]
    if on_arrays:
        x = fn.python_function(
            x,
            *(given[name].gpu() for name in on_arrays),
            function=recoloured(on_arrays, number, io),
            batch_processing=True,
            output_layouts="HWC",
            device="gpu",
        )
    return blurred_by_dali(x, given)


def blurred_by_dali(x: Any, given: dict[str, Any]) -> Any:
    """The rest of ``by_dali``, which runs on CPUs too."""
    if "blur" in given:
        if given["blur"]:
            x = fn.gaussian_blur(x, sigma=given["sigma"])
    if "solarise" in given:
        if given["solarise"]:
            bright = fn.cast(x >= SOLARISE_FROM, dtype=types.UINT8)
            x = fn.cast(bright * (255 - x) + (1 - bright) * x, dtype=types.UINT8)
    return x


def turned_by_dali(x: Any, given: dict[str, Any]) -> Any:
    """Transposes what is to be; on CPUs and GPUs."""
    if "transpose" in given:
        if given["transpose"]:
            x = fn.transpose(x, perm=[1, 0, 2], output_layout="HWC")
    return x


def recoloured(names: Collection[str], number: int, io: float) -> Callable[..., list[Any]]:
    """What DALI's python_function calls on a GPU, with CuPy arrays on its stream: a batch's stain and colour.

    Args:
        names: of the inputs that it takes, of ON_ARRAYS.
        number, io: as of ``Compiled``.
    """

    def change(views: list[Any], *inputs: list[Any]) -> list[Any]:
        for name, each in zip(names, inputs, strict=True):
            stacked = stain.arrays.namespace(each[0]).stack(each)
            if name == "stain":
                views = stain.apply(views, stacked[:, number], io=io)
            else:
                views = colour_cuda.apply(views, stacked)
        return views

    return change


class Compiled:
    """What DALI's python_function calls, with the views (H, W, 3) uint8 of a batch and their inputs.

    DALI's own threads wait for it, hence as many threads as they are.

    Args:
        keys: of the view's inputs.
        number: of the view among a tile's; its stain matrix is that of the tile's (V, 3, 4).
        io: transmitted light of the stain matrices, grey levels.

    Attributes:
        names: of the inputs that it takes: those of NAMES that there are.
    """

    def __init__(self, keys: Collection[str], threads: int, number: int = 0, io: float = stain.IO) -> None:
        self.names, self._threads = [name for name in NAMES if name in keys], threads
        self._number, self._io = number, io

    def __call__(self, views: list[Pixels], *inputs: list[npt.NDArray[Any]]) -> list[Pixels]:
        found = list(views)

        def some(part: slice) -> None:
            for at in range(*part.indices(len(views))):
                given = {name: values[at] for name, values in zip(self.names, inputs, strict=True)}
                if "stain" in given:
                    matrix = given["stain"][self._number]
                    found[at] = macenko_cpu.apply(views[at][None], matrix[None], self._io)[0]
                found[at] = _changed(found[at], given)

        share_out(some, len(views), views[0].shape[0] * views[0].shape[1], self._threads)
        return found


def _changed(view: Pixels, given: dict[str, npt.NDArray[Any]]) -> Pixels:
    if "colour" in given and not np.array_equal(given["colour"], UNCHANGED):
        view = colour_cpu.apply(view, given["colour"])
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


@jit_finite  # type: ignore[untyped-decorator]
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


@jit_finite  # type: ignore[untyped-decorator]
def _mirrored(at: int, size: int) -> int:
    if size == 1:
        return 0
    while at < 0 or at >= size:
        at = -at if at < 0 else 2 * (size - 1) - at
    return at

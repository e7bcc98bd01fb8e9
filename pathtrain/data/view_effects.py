"""A view by DALI, as its GPU makes it: resized, then stain and colour by kernels of this project, blurred and
solarised by DALI's operators. On the CPU pathtrain.data.view_cutter does the same.

DALI has no operator that turns hue on the circle of HSV: its fn.hsv is linear, and a linear turn is 7 to 15
levels from torchvision's on tissue.
"""

from collections.abc import Callable
from typing import Any

from nvidia.dali import fn, types

from pathprep import stain
from pathprep.kernels import colour_cuda
from pathtrain.data.view_cutter import SOLARISE_FROM
from pathtrain.data.view_numbers import COLOUR, END, SIGMA, SOLARISE, START, TRANSPOSE
from pathtrain.data.view_params import View


def resized(tile: Any, view: View, number: int, numbers: Any) -> Any:
    """The graph's view (size, size, 3) uint8 of a tile; on CPUs and GPUs.

    Args:
        number: of the view among the tile's.
        numbers: (V, WIDTH) on the CPU, see pathtrain.data.view_numbers.
    """
    return fn.resize(
        tile,
        size=(view.size, view.size),
        roi_start=numbers[number, START],
        roi_end=numbers[number, END],
        roi_relative=True,
        interp_type=types.INTERP_CUBIC,
        antialias=True,
    )


def recoloured(xs: list[Any], numbers: Any, matrices: Any, coloured: bool, io: float) -> list[Any]:
    """Stain and colour of a tile's views, on a GPU.

    Args:
        numbers: on the CPU.
        matrices: (V, 3, 4) of the views' stain, on the CPU; None: it stays as it is.
        coloured: whether colours may change.
        io: transmitted light of the matrices, grey levels.
    """
    given = [numbers.gpu()] if coloured else []
    if matrices is not None:
        given.append(matrices.gpu())
    if not given:
        return xs
    changed = fn.python_function(
        *xs,
        *given,
        function=recolour(len(xs), coloured, io),
        num_outputs=len(xs),
        batch_processing=True,
        output_layouts=["HWC"] * len(xs),
        device="gpu",
    )
    return as_list(changed)


def recolour(count: int, coloured: bool, io: float) -> Callable[..., Any]:
    """What DALI's python_function calls on a GPU, with CuPy arrays on its stream: ``count`` views of a batch,
    the tiles' numbers if they are ``coloured``, and their stain matrices if there are any."""

    def change(*given: list[Any]) -> Any:
        views, inputs = list(given[:count]), given[count:]
        xp = stain.arrays.namespace(inputs[0][0])
        stacked = [xp.stack(each) for each in inputs]  # once: it takes a launch for every tile
        for number in range(count):
            if len(stacked) > coloured:
                views[number] = stain.apply(views[number], stacked[-1][:, number], io=io)
            if coloured:
                settings = xp.ascontiguousarray(stacked[0][:, number, COLOUR])
                views[number] = colour_cuda.apply(views[number], settings)
        return tuple(views) if count > 1 else views[0]

    return change


def finished(x: Any, view: View, number: int, numbers: Any) -> Any:
    """The rest, with DALI's conditionals: operators take only what needs the work; on CPUs and GPUs.

    Args:
        numbers: on the CPU.
    """
    if view.blur:
        if numbers[number, SIGMA] > 0:
            x = fn.gaussian_blur(x, sigma=numbers[number, SIGMA])
    if view.solarise:
        if numbers[number, SOLARISE] > 0:
            bright = fn.cast(x >= SOLARISE_FROM, dtype=types.UINT8)
            x = fn.cast(bright * (255 - x) + (1 - bright) * x, dtype=types.UINT8)
    if view.turned:
        if numbers[number, TRANSPOSE] > 0:
            x = fn.transpose(x, perm=[1, 0, 2], output_layout="HWC")
    return x


def as_list(outputs: Any) -> list[Any]:
    """What an operator gives: one node, or several."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

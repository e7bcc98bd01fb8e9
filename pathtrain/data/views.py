"""Cutting a tile's views: one DALI graph for CPU and GPU, whose random numbers come from params.py.

Before the views the whole tile's stain may be changed (pathtrain.data.stain). That is a Python callback
around pathprep.stain.apply, not DALI operators: those (log, coord_transform, exp) took 2.6 ms a tile of
256 px on two cores against 0.15, and rounded 3 % of the pixels otherwise.

All colour operations of a view are one pass, a 3x3 matrix and an offset on RGB, because each of them is
linear: brightness and contrast as torchvision's (contrast around the crop's mean luminance), saturation
as a blend with luminance, greyscale as saturation 0, hue as a rotation of the chroma plane of YIQ, which
keeps luminance and differs from the HSV rotation of torchvision by a few grey levels on stained tissue.
The order is brightness, contrast, saturation, hue, greyscale, with one rounding and clipping at the end.
Then blur and solarise, as DINO does, and last the mirror, which commutes with all of them, together with
normalisation and the change to channels first.

DALI traces the ``if`` statements below into its graph; they take only the samples that need the work.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from nvidia.dali import fn, pipeline_def, types

from pathprep import stain
from pathtrain.data.params import Drawn, Floats, View
from pathtrain.recipes.schema import Recipe

# ITU-R BT.601, which PIL, torchvision and YIQ use
LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)
SOLARISE_FROM = 128  # PIL.ImageOps.solarize's default

Inputs = list[Any]


def columns(recipe: Recipe, view: View) -> list[str]:
    """Names of the inputs that a view takes; what a recipe never does is not in its graph."""
    config = recipe.views
    names = ["start", "end", "flip"]
    if config.jitter.p or config.greyscale:
        names += ["coloured", "matrix", "offset"]
    if view.blur:
        names += ["blur", "sigma"]
    if view.solarise:
        names += ["solarise"]
    return names


def inputs(drawn: Drawn, names: list[str]) -> list[npt.NDArray[Any]]:
    """Drawn parameters as the graph takes them, one array (B, ...) per name."""
    values: dict[str, npt.NDArray[Any]] = {
        "start": drawn.start.astype(np.float32),
        "end": drawn.end.astype(np.float32),
        "flip": drawn.flip.astype(np.int32),
        "blur": drawn.blur,
        "sigma": drawn.sigma.astype(np.float32),
        "solarise": drawn.solarise,
    }
    if "matrix" in names:
        matrix, offset = colour(drawn)
        values["coloured"] = drawn.jitter | drawn.grey
        values["matrix"] = matrix.astype(np.float32)
        values["offset"] = offset.astype(np.float32)
    return [values[name] for name in names]


def colour(drawn: Drawn) -> tuple[Floats, Floats]:
    """The colour operations as one: out = matrix @ rgb + offset . mean(rgb), the same for R, G and B.

    Returns:
        matrix (B, 3, 3); offset (B, 3), to be multiplied with the crop's mean colour and summed.
    """
    brightness, contrast, saturation = (
        np.where(drawn.jitter, factor, 1.0) for factor in (drawn.brightness, drawn.contrast, drawn.saturation)
    )
    # the chroma plane turns as the hue circle does: red to yellow to green for positive shifts
    angle = -2 * np.pi * np.where(drawn.jitter, drawn.hue, 0.0)
    saturation = np.where(drawn.grey, 0.0, saturation)
    chroma = np.zeros((len(angle), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(angle)
    chroma[:, 1, 2] = -saturation * np.sin(angle)
    chroma[:, 2, 1] = saturation * np.sin(angle)
    matrix = (brightness * contrast)[:, None, None] * (_RGB @ chroma @ _YIQ)
    # an equal offset in R, G and B is luminance: saturation and hue leave it alone
    offset = (brightness * (1 - contrast))[:, None] * LUMA
    return matrix, offset


def _stained(io: float, threads: int) -> Callable[[list[Any], list[Any]], list[Any]]:
    """The stain stage: decoded tiles (H, W, 3) and a matrix (3, 3) each, numpy, or CuPy on DALI's stream.

    DALI's own threads wait for the callback, hence as many threads as they are.
    """

    def apply(tiles: list[Any], matrices: list[Any]) -> list[Any]:
        stacked = stain.arrays.namespace(matrices[0]).stack(matrices)
        found: list[Any] = stain.apply(tiles, stacked, io=io, threads=threads)
        return found

    return apply


def pipeline(
    recipe: Recipe,
    views: list[View],
    source: Callable[[int], Inputs],
    batch: int,
    threads: int,
    device_id: int | None,
    depth: int,
    io: float | None = None,
) -> Any:
    """The built pipeline; its ``run`` returns one (B, 3, size, size) float32 batch per view.

    Args:
        source: iteration -> JPEGs (a list of B uint8 arrays), with ``io`` the stain matrices (B, 3, 3)
            float64, then every view's ``inputs`` in turn.
        batch: largest B.
        threads: CPU threads of DALI.
        device_id: GPU, or None for the CPU.
        depth: batches prepared ahead.
        io: transmitted light that the stain matrices refer to, grey levels; None for no stain stage.
    """
    plan = [(view, columns(recipe, view)) for view in views]
    width = 1 + (io is not None) + sum(len(keys) for _view, keys in plan)
    device = "cpu" if device_id is None else "gpu"
    # made out here: what is called inside the graph is traced, with all that it calls
    stained = None if io is None else _stained(io, threads)
    mean = [255 * value for value in recipe.model.mean]
    std = [255 * value for value in recipe.model.std]

    @pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator]
    def graph() -> tuple[Any, ...]:
        jpeg, *fed = fn.external_source(source=source, num_outputs=width, batch=True)
        # without fancy upsampling the GPU's chroma would differ from the CPU's
        tile = fn.decoders.image(
            jpeg,
            device="cpu" if device_id is None else "mixed",
            output_type=types.RGB,
            jpeg_fancy_upsampling=True,
        )
        if stained is not None:
            matrix = fed.pop(0)
            tile = fn.python_function(
                tile,
                matrix if device == "cpu" else matrix.gpu(),
                function=stained,
                batch_processing=True,
                output_layouts="HWC",
                device=device,
            )
        out = []
        for view, keys in plan:
            given = {key: fed.pop(0) for key in keys}
            x: Any = fn.resize(
                tile,
                size=(view.size, view.size),
                roi_start=given["start"],
                roi_end=given["end"],
                roi_relative=True,
                interp_type=types.INTERP_CUBIC,
                antialias=True,
            )
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
            out.append(
                fn.crop_mirror_normalize(
                    x, mirror=given["flip"], mean=mean, std=std, output_layout="CHW", dtype=types.FLOAT
                )
            )
        return tuple(out)

    built = graph(batch_size=batch, num_threads=threads, device_id=device_id, prefetch_queue_depth=depth)
    built.build()
    return built

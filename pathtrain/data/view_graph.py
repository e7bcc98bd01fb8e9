"""Cutting a tile's views: one DALI graph for CPU and GPU, whose random numbers come from params.py.

Before the views the whole tile's stain may be changed (pathtrain.stain.stage). That is a Python callback
around pathprep.stain.apply, not DALI operators: those (log, coord_transform, exp) took 2.6 ms a tile of
256 px on two cores against 0.15, and rounded 3 % of the pixels otherwise.

All colour operations of a view are one pass, a 3x3 matrix and an offset on RGB, because each of them is
linear: brightness and contrast as torchvision's (contrast around the crop's mean luminance), saturation
as a blend with luminance, greyscale as saturation 0, hue as a rotation of the chroma plane of YIQ, which
keeps luminance and differs from the HSV rotation of torchvision by a few grey levels on stained tissue.
The order is brightness, contrast, saturation, hue, greyscale, with one rounding and clipping at the end.
Then blur and solarise, as DINO does (all of these: pathtrain.data.view_effects), and last the mirror, which
commutes with all of them, together with normalisation and the change to channels first.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nvidia.dali import fn, pipeline_def, types

from pathtrain.data import view_effects as effects
from pathtrain.data.mixed_source import Stretch
from pathtrain.data.view_params import Drawn, Floats, View
from pathtrain.stain.stage import Stage, on_batches

# ITU-R BT.601, which PIL, torchvision and YIQ use
LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)

Inputs = list[Any]


def columns(view: View) -> list[str]:
    """Names of the inputs that a view takes; what is never done to it is not in its graph."""
    names = ["start", "end", "flip"]
    if view.coloured:
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


@dataclass(frozen=True)
class Reader:
    """Tiles of mixed shards instead of JPEGs from the source.

    Attributes:
        stretch: what readers.webdataset reads.
        checked: called with a batch's JPEGs and the positions that the source gives for them; gives the JPEGs
            to decode, and the stain stage's inputs.
    """

    stretch: Stretch
    checked: Callable[[list[Any], list[Any]], tuple[list[Any], ...]]


def pipeline(
    views: list[View],
    mean: Sequence[float],
    std: Sequence[float],
    source: Callable[[int], Inputs],
    batch: int,
    threads: int,
    device_id: int | None,
    depth: int,
    stage: Stage | None = None,
    reader: Reader | None = None,
) -> Any:
    """The built pipeline; its ``run`` returns one (B, 3, size, size) float32 batch per view.

    Args:
        mean, std: per channel, of pixels in 0 to 1, that the views are normalised with.
        source: iteration -> JPEGs (a list of B uint8 arrays), the ``inputs`` of ``stage``, then every view's
            ``inputs`` in turn. With ``reader``: positions (B,) int64, then the views' inputs.
        batch: B.
        threads: CPU threads of DALI.
        device_id: GPU, or None for the CPU.
        depth: batches prepared ahead.
        stage: what is done to stain.
        reader: of mixed shards.
    """
    with tempfile.TemporaryDirectory() as folder:
        indexes = [
            Path(folder) / f"{number}.idx" for number in range(len(reader.stretch.indexes) if reader else 0)
        ]
        for path, text in zip(indexes, reader.stretch.indexes if reader else (), strict=True):
            path.write_text(text)
        graph = _graph(
            views, mean, std, source, device_id, threads, stage, reader, [str(path) for path in indexes]
        )
        built = graph(batch_size=batch, num_threads=threads, device_id=device_id, prefetch_queue_depth=depth)
        built.build()  # reads the indexes
    return built


def _graph(
    views: list[View],
    mean: Sequence[float],
    std: Sequence[float],
    source: Callable[[int], Inputs],
    device_id: int | None,
    threads: int,
    stage: Stage | None,
    reader: Reader | None,
    indexes: list[str],
) -> Any:
    plan: list[tuple[View, list[str], effects.Compiled | None]] = []
    for view in views:
        keys = columns(view)
        plan.append((view, keys, effects.Compiled(keys, threads) if device_id is None else None))
    # made out here: what is called inside the graph is traced, with all that it calls
    fed_stain = stage.width if stage else 0
    width = 1 + (0 if reader else fed_stain) + sum(len(keys) for _view, keys, _work in plan)
    change = on_batches(stage, threads) if stage else None
    tars = [str(path) for path in reader.stretch.tars] if reader else []
    mean, std = [255 * value for value in mean], [255 * value for value in std]

    @pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator]
    def graph() -> tuple[Any, ...]:
        given_first, *fed = fn.external_source(source=source, num_outputs=width, batch=True)
        if reader is not None:
            # a map of a file that a network loses would end the process
            read = fn.readers.webdataset(
                paths=tars,
                index_paths=indexes,
                ext=["jpg"],
                missing_component_behavior="error",
                dont_use_mmap=True,
            )
            jpeg, *of_stain = as_list(
                fn.python_function(
                    read,
                    given_first,
                    function=reader.checked,
                    num_outputs=1 + fed_stain,
                    batch_processing=True,
                )
            )
        else:
            jpeg = given_first
            of_stain = [fed.pop(0) for _ in range(fed_stain)]
        tile = decoded(jpeg, device_id)
        if change is not None:
            tile = stained(tile, of_stain, change, device_id)
        out = []
        for view, keys, work in plan:
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
            if work is None:
                x = effects.by_dali(x, given)
            elif work.names:
                x = fn.python_function(
                    x,
                    *(given[name] for name in work.names),
                    function=work,
                    batch_processing=True,
                    output_layouts="HWC",
                )
            out.append(
                fn.crop_mirror_normalize(
                    x, mirror=given["flip"], mean=mean, std=std, output_layout="CHW", dtype=types.FLOAT
                )
            )
        return tuple(out)

    return graph


def decoded(jpeg: Any, device_id: int | None) -> Any:
    """The graph's decoder: RGB (H, W, 3) uint8 of JPEGs."""
    # without fancy upsampling the GPU's chroma would differ from the CPU's
    return fn.decoders.image(
        jpeg,
        device="cpu" if device_id is None else "mixed",
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,
    )


def stained(tile: Any, given: list[Any], change: Callable[..., list[Any]], device_id: int | None) -> Any:
    """The graph's stain stage: decoded tiles through ``change`` (pathtrain.stain.stage.on_batches).

    Args:
        given: the stage's inputs, on the CPU.
    """
    return fn.python_function(
        tile,
        *(numbers if device_id is None else numbers.gpu() for numbers in given),
        function=change,
        batch_processing=True,
        output_layouts="HWC",
        device="cpu" if device_id is None else "gpu",
    )


def as_list(outputs: Any) -> list[Any]:
    """What an operator gives: one node, or several."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def undecodable(jpegs: list[npt.NDArray[np.uint8]], device_id: int | None) -> dict[int, str]:
    """Which of some JPEGs the graph's decoder cannot decode, and what it says of them."""
    found: dict[int, str] = {}
    start = 0
    while start < len(jpegs):
        probe = _probe(iter(jpegs[start:]), device_id)
        for at in range(start, len(jpegs)):
            start = at + 1
            try:
                probe.run()
            except RuntimeError as error:  # the pipeline is dead after it
                found[at] = said(error)
                break
    return found


def _probe(jpegs: Iterator[npt.NDArray[np.uint8]], device_id: int | None) -> Any:
    """A pipeline that decodes one by one."""

    @pipeline_def  # type: ignore[untyped-decorator]
    def graph() -> Any:
        return decoded(fn.external_source(source=lambda: [next(jpegs)], batch=True), device_id)

    # not pipelined: an error is of the JPEG that was just given
    return graph(
        batch_size=1,
        num_threads=1,
        device_id=device_id,
        exec_pipelined=False,
        exec_async=False,
        exec_dynamic=False,
    )


def said(error: RuntimeError) -> str:
    """What DALI says, on one line; it says where, then what."""
    return (str(error).partition("encountered:")[2].strip() or str(error)).splitlines()[0]

"""Cutting a tile's views: one DALI graph for CPU and GPU, whose random numbers come from params.py.

Before the views the whole tile's stain may be changed (pathtrain.stain.stage). That is a Python callback
around pathprep.stain.apply, not DALI operators: those (log, coord_transform, exp) took 2.6 ms a tile of
256 px on two cores against 0.15, and rounded 3 % of the pixels otherwise.

A view is cropped and resized, and with that mirrored: a box whose end comes before its start. Then comes what
is done to its pixels (pathtrain.data.view_effects), stain, colour, blur and solarise in this order, and last
quarter turns, which commute with all of it, normalisation and the change to channels first.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nvidia.dali import fn, pipeline_def, types

from pathprep.kernels import colour_reference as colour
from pathprep.stain import IO
from pathtrain.data import view_effects as effects
from pathtrain.data.mixed_source import Stretch
from pathtrain.data.view_params import Drawn, View
from pathtrain.stain.stage import Stage, on_batches

Inputs = list[Any]


def columns(view: View) -> list[str]:
    """Names of the inputs that a view takes; what is never done to it is not in its graph."""
    names = ["start", "end"]
    if view.turned:
        names += ["transpose"]
    if view.coloured:
        names += ["colour"]
    if view.blur:
        names += ["blur", "sigma"]
    if view.solarise:
        names += ["solarise"]
    return names


def inputs(drawn: Drawn, names: list[str]) -> list[npt.NDArray[Any]]:
    """Drawn parameters as the graph takes them, one array (B, ...) per name."""
    # a quarter turn is a mirror, then a transposition; half a turn is both mirrors
    odd, half = drawn.turn % 2 == 1, drawn.turn == 2
    mirrored = np.stack(
        [drawn.flip_vertical ^ half ^ (drawn.turn == 3), drawn.flip ^ half ^ (drawn.turn == 1)], 1
    )
    values: dict[str, npt.NDArray[Any]] = {
        "start": np.where(mirrored, drawn.end, drawn.start).astype(np.float32),
        "end": np.where(mirrored, drawn.start, drawn.end).astype(np.float32),
        "transpose": odd,
        "blur": drawn.blur,
        "sigma": drawn.sigma.astype(np.float32),
        "solarise": drawn.solarise,
    }
    if "colour" in names:
        brightness, contrast, saturation = (
            np.where(drawn.jitter, factor, 1.0)
            for factor in (drawn.brightness, drawn.contrast, drawn.saturation)
        )
        hue = np.where(drawn.jitter, drawn.hue, 0.0)
        found = colour.settings(brightness, contrast, saturation, hue, drawn.grey.astype(np.float64))
        values["colour"] = found.astype(np.float32)
    return [values[name] for name in names]


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
    of_views, io = (stage.of_views, stage.io) if stage else (False, IO)
    plan: list[tuple[View, list[str], effects.Compiled | None]] = []
    for view in views:
        keys = columns(view)
        named = ["stain", *keys] if of_views else keys
        work = effects.Compiled(named, threads, len(plan), io) if device_id is None else None
        plan.append((view, keys, work))
    # made out here: what is called inside the graph is traced, with all that it calls
    fed_stain = stage.width if stage else 0
    width = 1 + (0 if reader else fed_stain) + sum(len(keys) for _view, keys, _work in plan)
    change = on_batches(stage, threads) if stage and stage.on_tiles else None
    fed_tiles = stage.tile_width if stage else 0
    fitted = of_views and stage is not None and stage.fits_tiles
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
        matrices = of_stain[fed_tiles:]
        if change is not None:
            tile, *made = stained(tile, of_stain[:fed_tiles], change, device_id, 1 + fitted)
            matrices += made
        out = []
        for number, (view, keys, work) in enumerate(plan):
            given = {key: fed.pop(0) for key in keys}
            if of_views:
                given["stain"] = matrices[0]
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
                x = effects.by_dali(x, given, number, io)
            elif work.names:
                x = fn.python_function(
                    x,
                    *(given[name] for name in work.names),
                    function=work,
                    batch_processing=True,
                    output_layouts="HWC",
                )
            x = effects.turned_by_dali(x, given)
            out.append(
                fn.crop_mirror_normalize(x, mean=mean, std=std, output_layout="CHW", dtype=types.FLOAT)
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


def stained(
    tile: Any, given: list[Any], change: Callable[..., Any], device_id: int | None, outputs: int = 1
) -> list[Any]:
    """The graph's stain stage: decoded tiles through ``change`` (pathtrain.stain.stage.on_batches).

    Args:
        given: what the stage takes for tiles, on the CPU.
        outputs: that ``change`` gives.

    Returns:
        The tiles, and the other outputs.
    """
    return as_list(
        fn.python_function(
            tile,
            *(numbers if device_id is None else numbers.gpu() for numbers in given),
            function=change,
            num_outputs=outputs,
            batch_processing=True,
            output_layouts=["HWC", ""][:outputs],
            device="cpu" if device_id is None else "gpu",
        )
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

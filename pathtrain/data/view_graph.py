"""Cutting a tile's views: a DALI graph that reads and decodes, and on a GPU cuts the views; on the CPU
compiled kernels do, which are faster (pathtrain.data.view_cutter). What is drawn comes from view_params.

Before the views the whole tile's stain may be changed (pathtrain.stain.stage). That is a Python callback
around pathprep.stain.apply, not DALI operators: those (log, coord_transform, exp) took 2.6 ms a tile of
256 px on two cores against 0.15, and rounded 3 % of the pixels otherwise.

A view is cropped and resized, and with that mirrored: a box whose end comes before its start. Then come
stain, colour, blur and solarise in this order, quarter turns, which commute with all of it, normalisation and
the change to channels first.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.dlpack
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from pathprep.stain import IO
from pathtrain.data import view_effects as effects
from pathtrain.data.mixed_source import Stretch
from pathtrain.data.view_cutter import Cutter
from pathtrain.data.view_params import View
from pathtrain.distributed.side_stream import SideStream
from pathtrain.stain.stage import Stage, on_batches

Inputs = list[Any]
Tail = Callable[[Any, Any, Any], tuple[Any, ...]]


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


class Views:
    """A running pipeline.

    Args:
        views: of a tile, V.
        mean, std: per channel, of pixels in 0 to 1, that the views are normalised with.
        source: iteration -> JPEGs (a list of B uint8 arrays), the ``inputs`` of ``stage``, then the views'
            numbers (B, V, WIDTH) of pathtrain.data.view_numbers. With ``reader``: positions (B,) int64, then
            the numbers.
        batch: B.
        threads: CPU threads of DALI.
        device_id: GPU, or None for the CPU.
        depth: batches prepared ahead.
        stage: what is done to stain.
        reader: of mixed shards.
        decoded: the source gives tiles (H, W, 3) instead of JPEGs.
    """

    def __init__(
        self,
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
        decoded: bool = False,
    ) -> None:
        mean, std = [255 * value for value in mean], [255 * value for value in std]
        io = stage.io if stage else IO
        make: Tail
        self._cutter: Cutter | None = None
        if device_id is None:
            self._cutter = Cutter([view.size for view in views], mean, std, threads, io)
            make = partial(_cut, cutter=self._cutter)
        else:
            self._side = SideStream(torch.device("cuda", device_id))
            make = partial(_by_dali, views=views, mean=mean, std=std, io=io)
        with tempfile.TemporaryDirectory() as folder:
            texts = reader.stretch.indexes if reader else []
            indexes = [Path(folder) / f"{number}.idx" for number in range(len(texts))]
            for path, text in zip(indexes, texts, strict=True):
                path.write_text(text)
            texts = [str(path) for path in indexes]
            graph = _graph(source, device_id, threads, stage, reader, texts, make, decoded)
            self._built = graph(
                batch_size=batch, num_threads=threads, device_id=device_id, prefetch_queue_depth=depth
            )
            self._built.build()  # reads the indexes

    def run(self) -> list[Tensor]:
        """The next batch, one tensor (B, 3, size, size) float32 per view; on a GPU of the current stream.

        Raises:
            StopIteration: of the source.
            RuntimeError: of DALI, which is dead after it.
        """
        if self._cutter is None:
            return copied(self._built, self._side)
        self._built.run()
        return self._cutter.take()


def copied(pipeline: Any, side: SideStream) -> list[Tensor]:
    """A pipeline's next outputs as tensors of torch's own, for the current stream.

    DALI writes its memory again once an output is dropped, and what has been queued for the step may still be
    reading it then. A copy of 64 tiles with ten views each moves 0.3 GB (0.1 ms at 3.6 TB/s), and after it
    torch's allocator keeps tensors as long as their stream needs them.
    """
    with side.queue():
        outputs = pipeline.run(side.stream)
        views = [torch.utils.dlpack.from_dlpack(output.as_tensor()).clone() for output in outputs]
        side.wait()  # for DALI and the copy, which is there long ago as a rule; training is not waited for
    return [side.give(view) for view in views]


def _graph(
    source: Callable[[int], Inputs],
    device_id: int | None,
    threads: int,
    stage: Stage | None,
    reader: Reader | None,
    indexes: list[str],
    views: Tail,
    pixels: bool = False,
) -> Any:
    """From JPEGs, or ``pixels``, to tiles; what ``views`` makes of them comes out."""
    # made out here: what is called inside the graph is traced, with all that it calls
    fed_stain = stage.width if stage else 0
    width = 2 + (0 if reader else fed_stain)
    change = on_batches(stage, threads) if stage and stage.on_tiles else None
    fed_tiles = stage.tile_width if stage else 0
    of_views = stage is not None and stage.of_views
    fitted = of_views and stage is not None and stage.fits_tiles
    tars = [str(path) for path in reader.stretch.tars] if reader else []

    @pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator]
    def graph() -> tuple[Any, ...]:
        given_first, *of_stain, numbers = fn.external_source(source=source, num_outputs=width, batch=True)
        if reader is not None:
            # a map of a file that a network loses would end the process
            read = fn.readers.webdataset(
                paths=tars,
                index_paths=indexes,
                ext=["jpg"],
                missing_component_behavior="error",
                dont_use_mmap=True,
            )
            jpeg, *of_stain = effects.as_list(
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
        if pixels:
            tile = jpeg if device_id is None else jpeg.gpu()
        else:
            tile = decoded(jpeg, device_id)
        matrices = of_stain[fed_tiles:]
        if change is not None:
            tile, *made = stained(tile, of_stain[:fed_tiles], change, device_id, 1 + fitted)
            matrices += made
        return views(tile, numbers, matrices[0] if of_views else None)

    return graph


def _cut(tile: Any, numbers: Any, matrices: Any, cutter: Cutter) -> tuple[Any, ...]:
    """The views on the CPU: the cutter has them, DALI gives nothing but the order."""
    given = [] if matrices is None else [matrices]
    return (fn.python_function(tile, numbers, *given, function=cutter, batch_processing=True),)


def _by_dali(
    tile: Any,
    numbers: Any,
    matrices: Any,
    views: list[View],
    mean: list[float],
    std: list[float],
    io: float,
) -> tuple[Any, ...]:
    """The views on a GPU, each (3, size, size) float32."""
    xs = [effects.resized(tile, view, number, numbers) for number, view in enumerate(views)]
    xs = effects.recoloured(xs, numbers, matrices, any(view.coloured for view in views), io)
    out = []
    for number, view in enumerate(views):
        x = effects.finished(xs[number], view, number, numbers)
        out.append(fn.crop_mirror_normalize(x, mean=mean, std=std, output_layout="CHW", dtype=types.FLOAT))
    return tuple(out)


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
    return effects.as_list(
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

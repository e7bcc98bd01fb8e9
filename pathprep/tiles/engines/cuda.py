"""The steps on an NVIDIA GPU: a block goes up once, JPEGs come down, with a few numbers for each tile.

    block -> tiling.cu -> figures down -> macenko.cu -> fits down -> macenko_apply.cu -> nvImageCodec -> bytes

A thread works on a lane: a CUDA stream of its own, on which everything of a block is queued, and an encoder.
The host waits four times a block, for what it needs to go on: the figures (what is dropped), mean colours
(what is damaged), the fits (rows, and what is deferred) and the bytes. Other lanes fill the card meanwhile.

Memory of a lane: the block and up to three copies of its tiles (cut, selected, normalised), each as large
as the block where tiles are native and do not overlap: 12 MiB for 2048 px, so 48 MiB, and a few MiB in
nvJPEG. A block of one huge tile of 8192 px is 192 MiB, so 768 MiB. Freed memory stays with its lane, and
lanes outlive slides. Beside that a process has its CUDA context, several hundred MiB.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.errors import DeviceError, DeviceLost
from pathprep.kernels import tiling_cuda
from pathprep.params.stain import StainParams
from pathprep.slides.readers.base import Pixels
from pathprep.tiles.engines import base
from pathprep.tiles.qc import Figures
from pathprep.words import counted

# CuPy arrays (numpy's under test)
Array = Any


class Card:
    """What the engine asks of CuPy and of nvImageCodec, on the current card.

    Attributes:
        full: what is raised when the card's memory does not suffice.
        lost: what is raised when the card failed; CUDA then refuses everything else in this process, too.
    """

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self.full: type[Exception] = cupy.cuda.memory.OutOfMemoryError
        self.lost: tuple[type[Exception], ...] = (
            cupy.cuda.runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
        )

    def stream(self) -> Any:
        """A CUDA stream that waits for no other; as a context manager, the current one."""
        return self._cupy.cuda.Stream(non_blocking=True)

    def encoder(self) -> Any:
        """An encoder whose JPEGs the GPU makes.

        Raises:
            RuntimeError: nvImageCodec cannot make one.
        """
        from nvidia import nvimgcodec

        # Not on the CPU should that fail, nor by an encoder engine that some cards have: other bytes
        kinds = (nvimgcodec.BackendKind.GPU_ONLY, nvimgcodec.BackendKind.HYBRID_CPU_GPU)
        # lanes are what runs side by side
        return nvimgcodec.Encoder(
            max_num_cpu_threads=1, backends=[nvimgcodec.Backend(kind) for kind in kinds]
        )

    def upload(self, array: npt.NDArray[Any]) -> Array:
        """To the card, through CuPy's pool of pinned memory; queued, nothing waits."""
        return self._cupy.asarray(array)

    def download(self, array: Array) -> npt.NDArray[Any]:
        """To the host, when everything before it on the stream is done."""
        found: npt.NDArray[Any] = array.get()
        return found


class _Lane(NamedTuple):
    stream: Any
    encoder: Any


class CudaEngine:
    """See base.Engine. Tiles are CuPy arrays. JPEGs are nvJPEG's: not the bytes of the CPU's encoder."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._free: deque[_Lane] = deque()
        self._current = threading.local()

    @contextmanager
    def block(self) -> Iterator[None]:
        """See Engine. The thread takes a lane that is free, or a new one.

        Raises:
            DeviceError: the card's memory is full, or a tile could not be encoded.
            DeviceLost: the card failed; this process cannot use it any more.
        """
        try:
            try:
                lane = self._free.pop()
            except IndexError:
                lane = self._lane()
            self._current.lane = lane
            try:
                with lane.stream:
                    yield
            finally:
                self._free.append(lane)
        except self._card.full as error:
            raise DeviceError(f"the GPU's memory is full ({error}); use fewer `workers`") from None
        except self._card.lost as error:
            raise DeviceLost(f"the GPU failed: {error}") from None

    def _lane(self) -> _Lane:
        stream = self._card.stream()
        try:
            return _Lane(stream, self._card.encoder())
        except RuntimeError as error:
            raise DeviceError(f"nvImageCodec offers no JPEG encoder on the GPU ({error})") from None

    def cut(
        self, pixels: Pixels, origins: npt.NDArray[np.int32], side: int, stored: int
    ) -> tuple[Array, Figures]:
        """See Engine."""
        tiles, figures = tiling_cuda.cut(self._card.upload(pixels), origins, side, stored)
        return tiles, self._card.download(figures)

    def host(self, array: Array) -> npt.NDArray[Any]:
        """See Engine."""
        return self._card.download(array)

    def select(self, tiles: Array, which: npt.NDArray[np.bool_]) -> Array:
        """See Engine."""
        # by number: CuPy would have to wait to learn how many a mask selects
        return tiles if which.all() else tiles.take(self._card.upload(np.flatnonzero(which)), axis=0)

    def fit(self, tiles: Array, settings: StainParams) -> stain.StainFit:
        """See Engine."""
        fits = base.fit(tiles, settings)
        columns = (fits.he, fits.max_c, fits.tissue_pixels, fits.status)
        return stain.StainFit(*map(self._card.download, columns))

    def apply(self, tiles: Array, matrices: npt.NDArray[np.float64], io: float) -> Array:
        """See Engine."""
        return stain.apply(tiles, matrices, io=io)

    def encode(self, tiles: Array, quality: int, subsampling: str) -> list[bytes]:
        """See Engine.

        Raises:
            DeviceError: a tile could not be encoded.
        """
        if not len(tiles):
            return []
        from nvidia import nvimgcodec

        lane: _Lane = self._current.lane
        params = nvimgcodec.EncodeParams(
            quality_type=nvimgcodec.QualityType.QUALITY,
            quality_value=quality,
            chroma_subsampling=getattr(nvimgcodec.ChromaSubsampling, f"CSS_{subsampling}"),
        )
        images = [tiles[i] for i in range(len(tiles))]
        # their own would be pinned, which costs more to allocate than it saves to copy a JPEG
        found = [nvimgcodec.CodeStream(pin_memory=False) for _ in images]
        stream = lane.stream.ptr
        found = lane.encoder.encode(images, "jpeg", code_stream_s=found, params=params, cuda_stream=stream)
        failed = sum(image is None for image in found)
        if failed:
            lane.stream.synchronize()  # if the card failed, this says why
            raise DeviceError(
                f"nvImageCodec could not encode {failed:,} of {counted(len(images), 'tile')} of "
                f"{tiles.shape[1]} px; "
                "use fewer `workers` if the GPU's memory is full"
            )
        return [bytes(image) for image in found]

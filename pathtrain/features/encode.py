"""Tiles through networks: one or several over the same decoded images, on the CPU or a GPU.

The one definition of a tile's features, for ``embed`` and every evaluation: pathtrain.data.tile_batches'
pixels / 255, normalised with the model's mean and std, in eval mode, in float32 or under bfloat16 autocast.
In float32 a card multiplies in TF32, with 10 bits behind the point: plain float32 takes it several times as
long, and the difference is below that between decoders of JPEG.

A card is kept busy: images lie in pinned memory and are copied beside the networks' work, and what these find
is fetched some batches later.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pathprep.errors import DatasetError, UsageError
from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.distributed.side_stream import SideStream
from pathtrain.distributed.workers import cores, pick_device
from pathtrain.features.fitting import check_tiles
from pathtrain.features.gathered import Array, Gathered
from pathtrain.features.texture import COLOURS, PATTERNS, colours, patterns
from pathtrain.models.positions import AsDino
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel, finite

Features = npt.NDArray[np.float32]


def check_size(model: LoadedModel, size: int | None) -> int:
    """The side to use.

    Raises:
        UsageError: not a multiple of the model's patch size.
    """
    side = model.size if size is None else size
    if side < model.patch or side % model.patch:
        raise UsageError(
            f"`size` {side}: must be a multiple of {model.patch}, the patch size of {model.name}"
        )
    if model.fixed and side != model.size:
        raise UsageError(f"`size` {side}: {model.name} takes images of {model.size} px alone; leave it out")
    return side


def check_short(how: How, size: int) -> None:
    """Refuse a crop that is larger than what it is cut from.

    Raises:
        UsageError: it is.
    """
    if how.short is not None and how.short < size:
        raise UsageError(f"`resize` {how.short}: must be at least the crop, {size} pixels")


def preparation(model: LoadedModel, how: How) -> dict[str, int | str | None]:
    """What results say of how tiles become images: ``resize`` in pixels, and the side of the central
    ``crop``, None for whole tiles, which are resized to a square; and ``resampled``, if there is that.
    """
    size = check_size(model, how.size)
    check_short(how, size)
    first, crop = (size, None) if how.short is None else (how.short, size)
    return {"resize": first, "crop": crop, **resampled(model, size)}


def resampled(model: LoadedModel, size: int) -> dict[str, str]:
    """``positions``: how those of the model are brought to images of a size; nothing if as learnt.

    Features of one model at one size are others with another scheme.
    """
    embed = getattr(model.module, "patch_embed", None)
    grid = getattr(embed, "grid_size", None)
    if embed is None or grid == (size // model.patch, size // model.patch):
        return {}
    return {"positions": model.config.positions if isinstance(model.module, AsDino) else "timm"}


def encode(
    models: Sequence[LoadedModel],
    tiles: Tiles,
    order: Ints,
    how: How,
    advance: Callable[[int], None] = lambda count: None,
    lbp: bool = False,
    leave_out: Callable[[int, DatasetError], None] | None = None,
) -> tuple[list[Features], Features]:
    """Features of the tiles in ``order``; they are decoded once for all models.

    Args:
        models: networks with the same normalisation; tiles are resized to the first one's size.
        tiles: where from; opened with the models' target.
        order: (M,) tile numbers.
        how: size, batch, threads, device.
        advance: called with the number of tiles that were finished.
        lbp: local binary patterns as well; of 224 px they take a CPU as long as a small network.
        leave_out: told of each tile that cannot be used, which then has no row; None ends at the first.

    Returns:
        Per model (M, D) float32, of the read-out ``patches`` (M, P, D), and the tiles' colour (M, 6): mean
        and SD of red, green, blue, 0 to 1;
        with ``lbp`` (M, 34), the shares of their patterns behind it.

    Raises:
        UsageError: a size or device that cannot be.
        DatasetError: a tile is missing or damaged.
        ValueError: the tiles were opened with another target than the models'.
    """
    if any(model.target != tiles.target for model in models):
        raise ValueError("the tiles were opened with another stain target than the models'")
    size = check_size(models[0], how.size)
    check_short(how, size)
    check_tiles(models[0], tiles, how)
    features = [np.empty((len(order), *model.shape(size)), dtype=np.float32) for model in models]
    pixels_say = np.empty((len(order), COLOURS + PATTERNS * lbp), dtype=np.float32)
    done = 0
    with Passes(models, how, lbp) as passes:
        for pixels in batches(
            tiles,
            order,
            size=size,
            batch=how.batch,
            threads=how.threads or cores(),
            short=how.short,
            leave_out=leave_out,
            pinned=passes.on_card,
        ):
            part = slice(done, done + len(pixels))
            passes.add(
                pixels,
                [array[part] for array in features],
                partial(advance, len(pixels)),
                colour=pixels_say[part],
            )
            done = part.stop
    return [array[:done] for array in features], pixels_say[:done]


class Passes:
    """Batches of pixels through networks; what they find is in the arrays some batches later.

    Use as a context manager: at its end, without an error, all of it is there.

    Args:
        models: networks with the same normalisation, moved to the device. how: device and precision.
        lbp: local binary patterns as well, of what ``colour`` takes.

    Raises:
        UsageError: a device that cannot be.
    """

    def __init__(self, models: Sequence[LoadedModel], how: How, lbp: bool = False) -> None:
        device = pick_device(how.device)
        self.on_card = device.type == "cuda"
        self._device, self._lbp, self._first = device, lbp, models[0]
        self._models = [model.to(device) for model in models]
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16")
        self._side, self._gathered = SideStream(device), Gathered(device)
        self._channels = models[0].channels(device)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(torch.inference_mode())
        self._open.enter_context(tensor_cores(self._device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if error is None:
                self.finish()

    def add(
        self,
        pixels: Tensor,
        into: Sequence[Array],
        done: Callable[[], None],
        colour: Array | None = None,
    ) -> None:
        """Send a batch through the networks.

        Args:
            pixels: (B, size, size, 3) uint8 on the CPU, pinned if ``on_card``; not to be written to until
                ``done``.
            into: per model an array (B, D), or (B, P, D), float32. done: called when they are filled.
            colour: (B, 6), or (B, 34) with ``lbp``: see ``encode``.

        Raises:
            ModelError: a feature of an earlier batch is not finite.
        """
        with self._side.queue():
            sent = pixels.to(self._device, non_blocking=True)
        images = self._side.give(sent).permute(0, 3, 1, 2).float() / 255
        found: list[tuple[Tensor, Array]] = []
        if colour is not None:
            found.append((colours(images), colour[:, :COLOURS]))
            if self._lbp:
                found.append((patterns(images), colour[:, COLOURS:]))
        normalised = self._first.normalised(images, self._channels)
        for model, array in zip(self._models, into, strict=True):
            with self._autocast:
                found.append((model.features(normalised), array))

        def arrived() -> None:
            for array in into:
                finite(array)
            done()

        self._gathered.add(found, arrived)

    @property
    def busy(self) -> bool:
        """Whether the card is still at work on what was sent; the CPU never is."""
        return self._gathered.busy

    def finish(self) -> None:
        """Wait for all that was sent.

        Raises:
            ModelError: as of ``add``.
        """
        self._gathered.finish()


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """float32 products of a card in TF32; on the CPU nothing changes."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""Tiles through networks: one or several over the same decoded images, on the CPU or a GPU.

The one definition of a tile's features, for ``embed`` and every evaluation: pathtrain.data.tile_batches'
pixels / 255, normalised with the model's mean and std, in eval mode, in float32 or under bfloat16 autocast.
In float32 a card multiplies in TF32, with 10 bits behind the point: plain float32 takes it several times as
long, and the difference is below that between decoders of JPEG.

A card is kept busy: images lie in pinned memory and are copied beside the networks' work, and what these find
is fetched some batches later.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from pathprep.errors import DatasetError, UsageError
from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.distributed.side_stream import SideStream
from pathtrain.distributed.workers import cores, pick_device
from pathtrain.features.fitting import check_tiles
from pathtrain.features.gathered import Gathered
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
    size, device = check_size(models[0], how.size), pick_device(how.device)
    check_short(how, size)
    check_tiles(models[0], tiles, how)
    for model in models:
        model.to(device)
    features = [np.empty((len(order), *model.shape(size)), dtype=np.float32) for model in models]
    pixels_say = np.empty((len(order), COLOURS + PATTERNS * lbp), dtype=np.float32)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16")
    side, gathered, done = SideStream(device), Gathered(device), 0
    channels = models[0].channels(device)

    def arrived(part: slice) -> None:
        for array in features:
            finite(array[part])
        advance(part.stop - part.start)

    with torch.inference_mode(), tensor_cores(device):
        for pixels in batches(
            tiles,
            order,
            size=size,
            batch=how.batch,
            threads=how.threads or cores(),
            short=how.short,
            leave_out=leave_out,
            pinned=device.type == "cuda",
        ):
            part = slice(done, done + len(pixels))
            with side.queue():
                sent = pixels.to(device, non_blocking=True)
            images = side.give(sent).permute(0, 3, 1, 2).float() / 255
            found = [(colours(images), pixels_say[part, :COLOURS])]
            if lbp:
                found.append((patterns(images), pixels_say[part, COLOURS:]))
            normalised = models[0].normalised(images, channels)
            for model, array in zip(models, features, strict=True):
                with autocast:
                    found.append((model.features(normalised), array[part]))
            gathered.add(found, partial(arrived, part))
            done = part.stop
        gathered.finish()
    return [array[:done] for array in features], pixels_say[:done]


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

"""Tiles through networks: one or several over the same decoded images, on the CPU or a GPU.

The one definition of a tile's features, for ``embed`` and every evaluation: pathtrain.data.tile_batches'
pixels / 255, normalised with the model's mean and std, in eval mode, in float32 or under bfloat16 autocast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pathprep.errors import UsageError
from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.distributed.workers import pick_device
from pathtrain.errors import ModelError
from pathtrain.runs.model import LoadedModel

Features = npt.NDArray[np.float32]

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class How:
    """How tiles become features.

    Attributes:
        size: side that tiles are resized to, pixels; None for the model's own.
        batch: images per forward pass.
        threads: that decode and resize.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        precision: of the networks: ``float32``, or ``bfloat16`` autocast; features are float32 in any case.
        short: the shorter side is first resized to this, and the centre cropped to ``size``; None: no crop.
    """

    size: int | None = None
    batch: int = 64
    threads: int = 2
    device: str = "auto"
    precision: str = "float32"
    short: int | None = None


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
    return side


def encode(
    models: Sequence[LoadedModel],
    tiles: Tiles,
    order: Ints,
    how: How,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[list[Features], Features]:
    """Features of the tiles in ``order``; they are decoded once for all models.

    Args:
        models: networks with the same normalisation; tiles are resized to the first one's size.
        tiles: where from; opened with the models' target.
        order: (M,) tile numbers.
        how: size, batch, threads, device.
        advance: called with the number of tiles that were finished.

    Returns:
        Per model (M, D) float32, and the tiles' colour (M, 6): mean and SD of red, green, blue, 0 to 1.

    Raises:
        UsageError: a size, device or precision that cannot be.
        DatasetError: a tile is missing or damaged.
        ValueError: the tiles were opened with another target than the models'.
    """
    if any(model.target != tiles.target for model in models):
        raise ValueError("the tiles were opened with another stain target than the models'")
    size, device = check_size(models[0], how.size), pick_device(how.device)
    if how.precision not in PRECISIONS:
        raise UsageError(f"`precision` {how.precision}: give {' or '.join(PRECISIONS)}")
    mean, std = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (models[0].config.mean, models[0].config.std)
    )
    modules: list[nn.Module] = [model.module.to(device) for model in models]
    features = [np.empty((len(order), model.dim), dtype=np.float32) for model in models]
    colour = np.empty((len(order), 6), dtype=np.float32)
    done = 0
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16")
    with torch.inference_mode():
        for pixels in batches(tiles, order, size=size, batch=how.batch, threads=how.threads, short=how.short):
            part = slice(done, done + len(pixels))
            images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
            moments = torch.std_mean(images, dim=(2, 3), correction=0)
            colour[part] = torch.cat(moments[::-1], dim=1).cpu().numpy()
            normalised = ((images - mean) / std).contiguous()
            for module, array in zip(modules, features, strict=True):
                with autocast:
                    found = module(normalised)
                array[part] = found.float().cpu().numpy()
                if not np.isfinite(array[part]).all():
                    raise ModelError("the model's features are not finite: its training has diverged")
            done = part.stop
            advance(len(pixels))
    return features, colour

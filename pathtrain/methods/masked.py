"""Views of tiles with the masks of their global ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pathtrain.methods.base import slices


@dataclass(frozen=True)
class Picked:
    """The masked patches of G views of B tiles, on the device; views come one after the other.

    Attributes:
        masks: (G B, N) bool.
        patches: (M,) where they lie among all G B N.
        tiles: (M,) each one's tile, 0 to B - 1.
        weights: (M,) 1 over the masked patches of its view, and over G: a tile's sum is its mean over views.
    """

    masks: Tensor
    patches: Tensor
    tiles: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Masked:
    """A batch or a part of it.

    Attributes:
        views: (B, 3, H, W) each, globals first.
        masks: (B, G, N) bool, on the CPU: which patches of the G global views the student does not see.
    """

    views: list[Tensor]
    masks: Tensor

    def split(self, size: int) -> list["Masked"]:
        """In parts of ``size`` tiles; the last may have fewer."""
        masks = torch.split(self.masks, size)
        return [Masked(part, mask) for part, mask in zip(slices(self.views, size), masks, strict=True)]

    def picked(self, device: torch.device) -> Picked:
        """What follows from the masks: found on the CPU, so that no device is waited for."""
        rows = self.masks.transpose(0, 1).flatten(0, 1)
        crops, places = rows.nonzero(as_tuple=True)
        weights = 1 / (rows.sum(dim=1).clamp(min=1).float() * self.masks.shape[1])
        found = (rows, crops * rows.shape[1] + places, crops % len(self.masks), weights[crops])
        if device.type == "cuda":
            found = tuple(tensor.pin_memory() for tensor in found)  # type: ignore[assignment]
        return Picked(*(tensor.to(device, non_blocking=True) for tensor in found))

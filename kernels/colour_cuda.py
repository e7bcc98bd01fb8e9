"""Launching colour.cu on the views of a batch, on the caller's stream; nothing here waits for the GPU."""

from collections.abc import Sequence

import numpy as np

from pathprep.kernels.cuda import Device, module
from pathprep.kernels.macenko_cuda import Array, address

THREADS = 1024


def apply(views: Sequence[Array], settings: Array, device: Device | None = None) -> list[Array]:
    """All steps on views (H, W, 3) of one size, with their rows of settings (B, SETTINGS) float32.

    Raises:
        ValueError: the views differ in size, or in number from the settings.
    """
    if not views:
        return []
    if len({tuple(view.shape) for view in views}) > 1 or len(settings) != len(views):
        raise ValueError(f"expected {len(settings)} views of one size, got {len(views)}")
    device = device or module("colour.cu")
    xp = device.xp
    held = [xp.ascontiguousarray(view) for view in views]
    results = list(xp.empty((len(held), *held[0].shape), np.uint8))
    arguments = [
        *(xp.asarray(np.array([address(view) for view in each], np.uint64)) for each in (held, results)),
        np.int32(held[0].shape[0] * held[0].shape[1]),
        xp.ascontiguousarray(settings, np.float32),
    ]
    device.launch("colour", (len(held),), (THREADS,), arguments)
    return results

"""A source of the same batch again and again, which tells how long the loop takes between two."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Fixed:
    """A batch that lies in memory: pathtrain.methods.base.Batch."""

    views: Any
    tiles: npt.NDArray[np.int64]
    wait: float = 0.0


class FixedSource:
    """pathtrain.methods.base.BatchSource.

    Attributes:
        at: when each batch was asked for, with all that was queued on the device done, seconds.
    """

    def __init__(self, batch: Fixed, device: torch.device) -> None:
        self.batch, self.device, self.at = batch, device, list[float]()

    def __iter__(self) -> Iterator[Fixed]:
        while True:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.at.append(time.perf_counter())
            yield self.batch

    def name(self, tile: int) -> str:
        """For messages."""
        return f"tile {tile}"

    def news(self) -> list[str]:
        """Nothing is passed over."""
        return []

    def close(self) -> None:
        """Nothing is open."""

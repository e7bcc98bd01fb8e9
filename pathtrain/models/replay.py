"""What a pass depends on besides its input: when it is made a second time, it must come out as the first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Random:
    """The state of torch's generators: the CPU's, and a GPU's if one is used."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> "Random":
        """The present state."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    def replay(self, device: torch.device) -> None:
        """Go back to this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, device)


class Replay:
    """The random state, and what torch.autocast is set to, at the time this is made.

    Args:
        device: where the pass is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._random = device, Random.now(device)
        self._reduced = torch.is_autocast_enabled(device.type)
        self._dtype = torch.get_autocast_dtype(device.type)

    def cast(self) -> torch.autocast:
        """The precision of both passes."""
        # no cache: weights that were cast without a graph would be taken again with one
        return torch.autocast(self._device.type, self._dtype, self._reduced, cache_enabled=False)

    @contextmanager
    def again(self) -> Iterator[None]:
        """A second pass, with a graph; the generators then go on from where they are now."""
        after = Random.now(self._device)
        self._random.replay(self._device)
        with torch.enable_grad():
            yield
        after.replay(self._device)

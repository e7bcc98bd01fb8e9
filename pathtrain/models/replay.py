"""Passes that are made twice, forward without a graph and again going back: the second as the first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

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


class Passes(Protocol):
    """What does its own way back."""

    def forward(self) -> Tensor:
        """The result, without a graph."""

    def backward(self, grads: Tensor) -> None:
        """Add to the gradients of parameters and inputs, from that of the result."""


def join(passes: Passes, device: torch.device) -> Tensor:
    """The result of ``forward``, as part of a graph that calls ``backward``."""
    anchor = torch.zeros((), device=device, requires_grad=True)  # so that autograd comes by
    found: Tensor = _Joined.apply(anchor, passes)
    return found


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, passes: Passes) -> Tensor:
        ctx.passes = passes
        return passes.forward()

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[None, None]:
        ctx.passes.backward(grads)
        return None, None

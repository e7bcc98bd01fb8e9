"""What networks on a card have found, into arrays: fetched when it has arrived, some batches later.

So the card is not waited for after each batch, and does not run out of work while the next is prepared.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float32]
BEHIND = 3  # batches: two that are queued while one is on its way


class Gathered:
    """Results in flight; on the CPU each is taken at once.

    Args:
        device: where they are computed.
        behind: batches that may be in flight.
    """

    def __init__(self, device: torch.device, behind: int = BEHIND) -> None:
        self._device, self._card = device, device.type == "cuda"
        self._behind = behind if self._card else 0
        self._flying: deque[tuple[torch.cuda.Event | None, Callable[[], None]]] = deque()

    def add(self, parts: list[tuple[Tensor, Array]], done: Callable[[], None]) -> None:
        """Send a batch's tensors to the CPU, each into its array (a view); then ``done`` is called.

        Raises:
            Exception: what ``done`` of an earlier batch raised.
        """
        sent = [(self._sent(tensor), array) for tensor, array in parts]

        def arrived() -> None:
            for tensor, array in sent:
                array[:] = tensor.numpy()
            done()

        event = None
        if self._card:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device))  # which may not be the first card
        self._flying.append((event, arrived))
        self._take(self._behind)

    @property
    def busy(self) -> bool:
        """Whether the card is still at work on what was added; the CPU never is."""
        events = [event for event, _ in self._flying if event is not None]
        return any(not event.query() for event in events)  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """Wait for the rest."""
        self._take(0)

    def _sent(self, tensor: Tensor) -> Tensor:
        if not self._card:
            return tensor.float()
        held = torch.empty(tensor.shape, dtype=torch.float32, pin_memory=True)
        return held.copy_(tensor.float(), non_blocking=True)

    def _take(self, left: int) -> None:
        while len(self._flying) > left:
            event, arrived = self._flying.popleft()
            if event is not None:
                event.synchronize()
            arrived()

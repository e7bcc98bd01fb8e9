"""Work on a card beside the network's: a stream of its own, so that a copy does not queue behind training.

On the CPU there is no queue: everything is done at once, and the same calls do nothing.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


class SideStream:
    """A second queue of one card.

    Args:
        device: the card; on the CPU nothing is queued.

    Attributes:
        stream: torch's, for libraries that take one; None on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        # a higher priority than the network's: a copy is short, and something waits for it
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def queue(self) -> AbstractContextManager[object]:
        """What the block calls is queued here, and what it makes belongs here."""
        # torch's own, of None, asks for the current card, and so begins CUDA on one that is not to be used
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def wait(self) -> None:
        """Hold up the caller until all that was queued is done; the card goes on with other queues."""
        if self.stream is not None:
            self.stream.synchronize()

    def give(self, tensor: Tensor) -> Tensor:
        """Hand a tensor that was made here to the caller's queue, which goes on once it is ready.

        Its memory is not made anew before that queue is done with it.
        """
        if self.stream is not None:
            current = torch.cuda.current_stream(self.stream.device)
            current.wait_stream(self.stream)
            if tensor.is_cuda:
                tensor.record_stream(current)
        return tensor

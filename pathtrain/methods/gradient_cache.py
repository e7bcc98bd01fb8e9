"""Gradients through any number of tiles in the memory of a few: the graph is cut at the tiles' vectors.

    1. all tiles, chunk by chunk, without a graph              -> vectors (N, D), kept on the CPU
    2. what follows the vectors, with a graph, and back        -> the loss, and its gradient (N, D), which may
       take the vectors' place (pathtrain.models.grid_vit.region_vectors)
    3. the same chunks once more, with a graph, and back, each from its part of that gradient

The sum over the chunks is the gradient of the plain graph, by the chain rule; the price is one forward pass
more (4 where a plain step costs 3). Chunks must give the second time what they gave the first, so the random
numbers of dropout and stochastic depth are replayed, and the precision is the same.

Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup" (GradCache);
EXAONE Path 2.0 trains this way through whole slides. No collective is called in here: ranks may have
different numbers of tiles, and gradients are averaged once, after all that a step has accumulated.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from pathtrain.models.replay import Random, Replay, join

Encode = Callable[[Tensor], Tensor]
_TRIAL = 8  # tiles that the memory of a chunk is measured with
_SPARE = 0.6  # share of the free memory that a chunk may take: allocators leave gaps
_CPU_CHUNK = 32  # no gain beyond on the CPU, measured


def cached_loss(
    encode: Encode,
    pixels: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    chunk: int,
    device: torch.device,
    trained: bool = True,
) -> Tensor:
    """A loss over all tiles, whose ``backward`` adds the gradients to the parameters' ``grad``.

    What torch.autocast is set to at the call holds for both passes.

    Args:
        encode: tiles (n, ...) on ``device``, as cut from ``pixels`` -> vectors (n, D). It may be random, in
            torch's generators, but must not change before ``backward``.
        pixels: (N, ...) on any device; pinned on the CPU, its copies overlap with the work.
        loss_of: vectors (N, D), on the CPU -> the loss, a scalar with graph.
        chunk: tiles at a time.
        device: where ``encode`` works.
        trained: False leaves the encoder without gradients, and out the third part.

    Returns:
        The loss, a scalar with graph; to go back through once.
    """
    return join(_Passes(encode, pixels, loss_of, chunk, device, trained), device)


class _Passes:
    """The three parts, of which ``forward`` does two but for going back."""

    def __init__(
        self,
        encode: Encode,
        pixels: Tensor,
        loss_of: Callable[[Tensor], Tensor],
        chunk: int,
        device: torch.device,
        trained: bool,
    ) -> None:
        self._encode, self._loss_of, self._device = encode, loss_of, device
        self._parts, self._chunk, self._trained = torch.split(pixels, chunk), chunk, trained
        self._loss: Tensor | None = None

    def forward(self) -> Tensor:
        self._replay = Replay(self._device)
        self._vectors = encode_chunks(self._encode, self._parts, self._device, self._replay.cast)
        self._vectors.requires_grad_(self._trained)
        with torch.enable_grad(), self._replay.cast():
            self._loss = self._loss_of(self._vectors)
        return self._loss.detach().clone()

    def backward(self, factor: Tensor) -> None:
        assert self._loss is not None, "the graph is gone after the first time"
        with torch.enable_grad():
            self._loss.backward(factor)  # type: ignore[no-untyped-call]
        self._loss = None  # what is left of its graph would stay beside the chunks'
        if not self._trained:
            return
        assert self._vectors.grad is not None
        # the chunks draw in turn what they drew before: one state serves all
        with self._replay.again():
            for part, grad in zip(self._parts, torch.split(self._vectors.grad, self._chunk), strict=True):
                with self._replay.cast():
                    again = self._encode(part.to(self._device, non_blocking=True))
                again.backward(grad.to(self._device, non_blocking=True))  # type: ignore[no-untyped-call]


@torch.no_grad()
def encode_chunks(
    encode: Encode, parts: Sequence[Tensor], device: torch.device, cast: Callable[[], torch.autocast]
) -> Tensor:
    """Vectors (N, D) of all chunks on the CPU, pinned if ``device`` is a GPU; without a graph."""
    found: Tensor | None = None
    total, done = sum(map(len, parts)), 0
    for part in parts:
        with cast():
            out = encode(part.to(device, non_blocking=True))
        if found is None:
            pin = device.type == "cuda"
            found = torch.empty((total, *out.shape[1:]), dtype=out.dtype, pin_memory=pin)
        found[done : done + len(part)].copy_(out, non_blocking=True)
        done += len(part)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the copies to the CPU must have arrived
    assert found is not None, "no tiles"
    return found


def chunk_size(
    encode: Encode, parameters: Iterable[nn.Parameter], sample: Tensor, device: torch.device
) -> int:
    """How many tiles at a time the free memory holds, a power of two from 8 to 4096; 32 on the CPU.

    Measured: a few tiles go forward and back, gradients and random state stay as they are. The number
    belongs into the checkpoint, since what dropout draws depends on it.

    Args:
        sample: (1, ...) a tile.
    """
    if device.type != "cuda":
        return _CPU_CHUNK
    random = Random.now(device)
    wanted = [p for p in parameters if p.requires_grad]
    tiles = sample.expand(_TRIAL, *sample.shape[1:]).to(device)
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_allocated(device)
    grads = torch.autograd.grad(encode(tiles).float().sum(), wanted, allow_unused=True)
    peak = torch.cuda.max_memory_allocated(device) - start
    del grads
    torch.cuda.empty_cache()
    random.replay(device)
    free, _ = torch.cuda.mem_get_info(device)
    # the gradients count into the peak too: a little too careful
    fitting = max(8, int(_SPARE * free / (peak / _TRIAL)))
    return int(min(4096, 1 << (fitting.bit_length() - 1)))

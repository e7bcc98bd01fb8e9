"""Gradients from what computes to what is trained, averaged over ranks while the backward pass goes on.

Parameters are put in buckets, the last of the network first, as they get their gradients. When all of a
bucket have theirs, it is averaged in float32 beside the rest of the backward pass, on every rank in the same
order, as torch's DistributedDataParallel does it (Li et al. 2020, "PyTorch distributed", section 3.2.3).
Of a network that is compiled as one piece all gradients come at once, at the end; so with several ranks each
block is compiled by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pathtrain.distributed.fsdp import is_sharded
from pathtrain.distributed.ranks import Ranks

# Elements of a bucket, 32 MiB: few calls, and the last one, which nothing hides, is short
BUCKET = 8 * 2**20


class Gradients:
    """The gradients of a network over all ranks.

    Args:
        trained: parameters whose ``grad`` the optimiser takes.
        computing: some of them with others that compute in their place and get their gradients.
        ranks: all processes.
        uniform: whether on all ranks the same parameters get gradients, in one backward pass a part; else
            ranks ask each other, after the last one.
    """

    def __init__(
        self,
        trained: Iterable[nn.Parameter],
        computing: Sequence[tuple[nn.Parameter, nn.Parameter]],
        ranks: Ranks,
        uniform: bool,
    ) -> None:
        self._trained, self._ranks = list(trained), ranks
        self._copies = [(own, other) for own, other in computing if own.requires_grad]
        self._sharded = is_sharded(self._trained)  # then averaged in the backward pass already
        self._early = uniform and ranks.world > 1 and not self._sharded
        self._armed, self._next = False, 0
        self._buckets = _buckets(self._trained, dict(self._copies)) if self._early else []
        for bucket in self._buckets:
            for _, source in bucket.pairs:
                source.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    partial(self._arrived, bucket)
                )

    def clear(self) -> None:
        """Before a step."""
        for parameter in [*self._trained, *(other for _, other in self._copies)]:
            parameter.grad = None

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Round the backward pass of a part of the batch."""
        self._armed, self._next = last and self._early, 0
        for bucket in self._buckets:
            bucket.missing = len(bucket.pairs)
        yield
        if not self._armed:
            self._collect()

    def average(self) -> None:
        """After the last part: the ``grad`` of what is trained becomes the mean over all ranks."""
        if self._armed:
            for bucket in self._buckets[self._next :]:  # some of whose parameters have none
                bucket.start(self._ranks.world)
            for bucket in self._buckets:
                bucket.finish()
            self._armed = False
        elif not self._sharded:
            self._ranks.average_gradients(self._trained)

    def _arrived(self, bucket: "_Bucket", _: Tensor) -> None:
        if not self._armed:
            return
        bucket.missing -= 1
        while self._next < len(self._buckets) and not self._buckets[self._next].missing:
            self._buckets[self._next].start(self._ranks.world)
            self._next += 1

    @torch.no_grad()
    def _collect(self) -> None:
        """Add what copies have got to what is trained."""
        there = [(own, other.grad) for own, other in self._copies if other.grad is not None]
        first = [(own, grad) for own, grad in there if own.grad is None]
        more = [(own.grad, grad.to(own.grad)) for own, grad in there if own.grad is not None]
        if first:
            made = [torch.empty_like(own) for own, _ in first]
            torch._foreach_copy_(made, [grad for _, grad in first])
            for (own, _), grad in zip(first, made, strict=True):
                own.grad = grad
        if more:
            torch._foreach_add_([grad for grad, _ in more], [grad for _, grad in more])
        for _, other in self._copies:
            other.grad = None


class _Bucket:
    """Some parameters, and those that compute in their place (or they again)."""

    def __init__(self) -> None:
        self.pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.size, self.missing = 0, 0
        self._work: dist.Work | None = None

    @torch.no_grad()
    def start(self, world: int) -> None:
        """Begin to average what they have; one that has none counts as zero."""
        first = self.pairs[0][0]
        self._flat = torch.zeros(self.size, dtype=first.dtype, device=first.device)
        sizes = [own.numel() for own, _ in self.pairs]
        self._parts = [
            part.view_as(own)
            for part, (own, _) in zip(torch.split(self._flat, sizes), self.pairs, strict=True)
        ]
        for sum_, grads in (
            (False, [source.grad for _, source in self.pairs]),
            (True, [None if own is source else own.grad for own, source in self.pairs]),  # of earlier parts
        ):
            found = [(part, grad) for part, grad in zip(self._parts, grads, strict=True) if grad is not None]
            if found:
                into, given = (list(side) for side in zip(*found, strict=True))
                torch._foreach_add_(into, given) if sum_ else torch._foreach_copy_(into, given)
        self._work = dist.all_reduce(self._flat.div_(world), async_op=True)

    def finish(self) -> None:
        """Wait, and give what is trained its gradients; who had none has none."""
        assert self._work is not None, "not started"
        self._work.wait()
        for (own, source), part in zip(self.pairs, self._parts, strict=True):
            if own.grad is not None or source.grad is not None:
                source.grad = None
                own.grad = part
        del self._flat, self._parts  # they live as long as the gradients


def _buckets(trained: list[nn.Parameter], copies: dict[nn.Parameter, nn.Parameter]) -> list[_Bucket]:
    """In the order in which a backward pass comes by."""
    buckets: list[_Bucket] = []
    for own in reversed([parameter for parameter in trained if parameter.requires_grad]):
        full = buckets and buckets[-1].size and buckets[-1].size + own.numel() > BUCKET
        if not buckets or full or buckets[-1].pairs[0][0].dtype != own.dtype:
            buckets.append(_Bucket())
        buckets[-1].pairs.append((own, copies.get(own, own)))
        buckets[-1].size += own.numel()
    return buckets

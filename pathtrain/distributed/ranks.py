"""Data parallelism: one process per device, started by torchrun; NCCL on GPUs, gloo on CPUs.

    torchrun --nproc-per-node 8 -m pathtrain pretrain ...

Every rank takes batch / ranks tiles of each step. Losses, gradients and what a method remembers are means
over the whole batch, so the number of ranks changes them by rounding only; what is random in a network
(stochastic depth) is drawn per rank, and does change. Rank 0 alone writes, logs and creates files.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pathprep.errors import PathprepError, UsageError
from pathtrain.errors import PeerError

log = logging.getLogger(__name__)
T = TypeVar("T")
CPU = torch.device("cpu")
BUCKET = 32 * 2**20  # elements of one all-reduce: few calls, and little memory beside the gradients
# What ranks wait for each other at most where one of them reads, scores or decides: rank 0 alone measures
# probes and holds out slides, and slides that are scored differ in size. By gloo, which holds no card. A rank
# that dies ends the others earlier: gloo notices its closed connection, and torchrun ends a group of which
# one has failed.
PATIENCE = timedelta(hours=2)
USUAL = timedelta(minutes=30)  # for each other's gradients, where no recipe says it


@dataclass(frozen=True)
class Ranks:
    """This process's place among all; without torchrun the only one.

    Attributes:
        rank, world: its number, and how many there are.
        device: what it computes on.
        talk: the group by which ranks tell each other what is not of a step.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    talk: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    @property
    def device_id(self) -> int | None:
        """The GPU's number; None on the CPU."""
        return self.device.index or 0 if self.device.type == "cuda" else None

    @property
    def threads(self) -> int:
        """CPU threads for the loader: this rank's part of the cores that it may use. Torch's number is not
        asked: OMP_NUM_THREADS sets it, which torchrun and many clusters set to 1."""
        return max(1, len(os.sched_getaffinity(0)) // _number("LOCAL_WORLD_SIZE", self.world))

    def say(self, log: logging.Logger, text: str, *values: object) -> None:
        """Log what all ranks would say alike, once."""
        if self.first:
            log.info(text, *values)

    def share(self, batch: int) -> int:
        """Tiles of a step that each rank takes.

        Raises:
            UsageError: they cannot be divided evenly.
        """
        if batch % self.world:
            down = batch // self.world * self.world
            near = f"{down} or {down + self.world}" if down else f"{self.world}"
            raise UsageError(
                f"batch {batch} cannot be divided among {self.world} ranks; batch={near} can, "
                "or start another number of processes"
            )
        return batch // self.world

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Largest over ranks, element by element, in place."""
        if self.world > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def stacked(self, tensor: Tensor) -> Tensor:
        """(W, ...) of all W ranks, which have the same shape; without graph."""
        if self.world == 1:
            return tensor.detach()[None]
        found = tensor.new_empty((self.world * len(tensor), *tensor.shape[1:]))
        dist.all_gather_into_tensor(found, tensor.detach().contiguous())
        return found.view(self.world, *tensor.shape)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over ranks.

        A rank without a gradient that another one has counts as zero; what no rank has stays without, so
        that the optimiser leaves it alone.
        """
        if self.world == 1:
            return
        parameters = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        for parameter, count in zip(parameters, self.sum(there).tolist(), strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        buckets: list[list[Tensor]] = [[]]
        for grad in (p.grad for p in parameters if p.grad is not None):
            if sum(g.numel() for g in buckets[-1]) + grad.numel() > BUCKET and buckets[-1]:
                buckets.append([])
            buckets[-1].append(grad)
        started = []
        for grads in buckets:
            if grads:
                flat = torch.cat([grad.flatten() for grad in grads]).div_(self.world)
                started.append((grads, flat, dist.all_reduce(flat, async_op=True)))
        for grads, flat, work in started:
            work.wait()
            parts = torch.split(flat, [grad.numel() for grad in grads])
            torch._foreach_copy_(grads, [p.view_as(g) for p, g in zip(parts, grads, strict=True)])

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in order, on all ranks; values that can be pickled."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.talk)
        return found

    def decide(self, work: Callable[[], T]) -> T:
        """Let rank 0 do something and give its result to all.

        Raises:
            Exception: what ``work`` raised, on rank 0.
            PeerError: the same, on the others.
        """
        if self.world == 1:
            return work()
        answer: list[Any] = [None, None]
        error: Exception | None = None
        if self.first:
            try:
                answer[0] = work()
            except (PathprepError, OSError) as caught:
                error, answer[1] = caught, str(caught)
        dist.broadcast_object_list(answer, src=0, group=self.talk)
        if error is not None:
            raise error
        if answer[1] is not None:
            raise PeerError(f"rank {self.rank}: stopped, as rank 0 did")
        return answer[0]  # type: ignore[no-any-return]


ALONE = Ranks()  # one process, on the CPU


@contextmanager
def ranks(timeout: timedelta = USUAL) -> Iterator[Ranks]:
    """This process's place, from the variables that torchrun sets; the group is left at the end.

    Args:
        timeout: what ranks wait for each other's gradients at most.

    Raises:
        UsageError: the variables are incomplete, or there are more processes than GPUs on this machine.
        PeerError: another rank stopped while this one waited for it.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    rank, here = _number("RANK"), _number("LOCAL_RANK")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if here >= torch.cuda.device_count():
            raise UsageError(
                f"local rank {here}, but this machine has {torch.cuda.device_count()} GPUs: start a process "
                "per GPU (torchrun --nproc-per-node), or set CUDA_VISIBLE_DEVICES= to run on the CPU"
            )
        device = torch.device("cuda", here)
        torch.cuda.set_device(device)
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=timeout)
        talk = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError, dist.DistError) as error:
        line = str(error).strip().splitlines()[0]
        raise UsageError(f"rank {rank} of {world} cannot join the others: {line}") from None
    try:
        yield Ranks(rank, world, device, talk)
    except RuntimeError as error:
        if not isinstance(error, dist.DistBackendError) and "gloo" not in str(error):
            raise
        log.error("rank %d: %s", rank, str(error).strip().splitlines()[0])
        raise PeerError(f"rank {rank}: stopped, as another rank is gone; see its own message") from None
    dist.destroy_process_group()  # after an error it might wait for ranks that will not come


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(
            f"the environment variable {name} is {'not set' if text is None else repr(text)}: start several "
            "processes with torchrun, which sets RANK, LOCAL_RANK, WORLD_SIZE and MASTER_ADDR"
        ) from None

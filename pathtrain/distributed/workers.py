"""Processes that share work but no gradients, each with a card of its own: torchrun starts them.

torchrun --nproc-per-node 8 -m pathtrain embed ...
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pathprep.errors import UsageError
from pathtrain.errors import PeerError

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # for the slowest of several processes


@dataclass(frozen=True)
class Place:
    """This process among those that share the work, as torchrun tells it; alone without torchrun.

    Attributes:
        rank: 0 to world - 1.
        world: number of processes.
        card: number of the GPU that this process uses, if it uses one.
    """

    rank: int = 0
    world: int = 1
    card: int = 0

    @classmethod
    def of_environment(cls) -> "Place":
        """From RANK, WORLD_SIZE and LOCAL_RANK.

        Raises:
            UsageError: they are not whole numbers that fit each other.
        """
        names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
        try:
            rank, world, card = (int(os.environ.get(name, usual)) for name, usual in names.items())
        except ValueError:
            rank, world, card = -1, 0, 0
        together = world == 1 or "MASTER_ADDR" in os.environ
        if not (0 <= rank < world and card >= 0 and together):
            shown = ", ".join(f"{name}={os.environ.get(name)}" for name in (*names, "MASTER_ADDR"))
            raise UsageError(f"{shown}: not what torchrun sets; start with torchrun, or unset them")
        return cls(rank, world, card)

    def gather(self, value: T) -> list[T]:
        """Every process's value, in their order, on all of them; waits for the slowest. ``leave`` follows.

        Raises:
            PeerError: another process stopped.
        """
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        try:
            # by the CPU: what waits for hours should hold no card; begun only now, for the same reason
            dist.init_process_group("gloo", rank=self.rank, world_size=self.world, timeout=PATIENCE)
            dist.all_gather_object(found, value)
        except (ValueError, RuntimeError, dist.DistError) as error:
            line = str(error).strip().splitlines()[0]
            raise PeerError(f"process {self.rank} of {self.world}: lost the others ({line})") from None
        return found

    def leave(self) -> None:
        """Wait until all processes have come here, and may end.

        When one ends with an error, torchrun sends SIGTERM to the others, which have nothing left to do.
        """
        if self.world > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with suppress(RuntimeError):  # another one is gone
                dist.barrier()
            dist.destroy_process_group()


@contextmanager
def by_itself() -> Iterator[None]:
    """Have what would share its work with the other processes do all of it here, on this process's card."""
    before = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
    os.environ.update(RANK="0", WORLD_SIZE="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cores() -> int:
    """CPU cores for this process: its part of those of the machine, under torchrun."""
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, len(os.sched_getaffinity(0)) // (int(here) if here.isdecimal() and int(here) else 1))


def pick_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu`` or ``cuda``; under torchrun, each process of a machine has a card.

    Raises:
        UsageError: another name, or ``cuda`` without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"`device` {name}: give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("`device` cuda: there is no usable GPU; use cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    card, cards = Place.of_environment().card, torch.cuda.device_count()
    if card >= cards:
        raise UsageError(
            f"process {card} of this machine has no GPU, it has {cards}: start so many processes"
        )
    return torch.device("cuda", card)

"""Tiles through networks: one or several over the same decoded images, on the CPU or a GPU.

The one definition of a tile's features, for ``embed`` and every evaluation: pathtrain.data.whole_tiles'
pixels / 255, normalised with the model's mean and std, in eval mode, in float32 or under bfloat16 autocast.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from pathprep.errors import UsageError
from pathtrain.data.whole_tiles import Ints, Tiles, batches
from pathtrain.errors import PeerError
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel, finite

Features = npt.NDArray[np.float32]
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


def pick_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu`` or ``cuda``; under torchrun, each process of a machine has a card.

    Raises:
        UsageError: another name, or ``cuda`` without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name}: give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: there is no usable GPU; use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    card, cards = Place.of_environment().card, torch.cuda.device_count()
    if card >= cards:
        raise UsageError(
            f"process {card} of this machine has no GPU, it has {cards}: start so many processes"
        )
    return torch.device("cuda", card)


def check_size(model: LoadedModel, size: int | None) -> int:
    """The side to use.

    Raises:
        UsageError: not a multiple of the model's patch size.
    """
    side = model.size if size is None else size
    if side < model.patch or side % model.patch:
        raise UsageError(
            f"`size` {side}: must be a multiple of {model.patch}, the patch size of {model.name}"
        )
    return side


def encode(
    models: Sequence[LoadedModel],
    tiles: Tiles,
    order: Ints,
    how: How,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[list[Features], Features]:
    """Features of the tiles in ``order``; they are decoded once for all models.

    Args:
        models: networks with the same normalisation; tiles are resized to the first one's size.
        tiles: where from; opened with the models' target.
        order: (M,) tile numbers.
        how: size, batch, threads, device.
        advance: called with the number of tiles that were finished.

    Returns:
        Per model (M, D) float32, and the tiles' colour (M, 6): mean and SD of red, green, blue, 0 to 1.

    Raises:
        UsageError: a size or device that cannot be.
        DatasetError: a tile is missing or damaged.
        ValueError: the tiles were opened with another target than the models'.
    """
    if any(model.target != tiles.target for model in models):
        raise ValueError("the tiles were opened with another stain target than the models'")
    size, device = check_size(models[0], how.size), pick_device(how.device)
    modules: list[nn.Module] = [model.module.to(device) for model in models]
    features = [np.empty((len(order), model.dim), dtype=np.float32) for model in models]
    colour = np.empty((len(order), 6), dtype=np.float32)
    done = 0
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16")
    with torch.inference_mode():
        for pixels in batches(tiles, order, size=size, batch=how.batch, threads=how.threads, short=how.short):
            part = slice(done, done + len(pixels))
            images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
            moments = torch.std_mean(images, dim=(2, 3), correction=0)
            colour[part] = torch.cat(moments[::-1], dim=1).cpu().numpy()
            normalised = models[0].normalised(images)
            for module, array in zip(modules, features, strict=True):
                with autocast:
                    found = module(normalised)
                array[part] = finite(found.float().cpu().numpy())
            done = part.stop
            advance(len(pixels))
    return features, colour


class TileProgress:
    """A bar with tiles/s on a terminal, plain lines elsewhere; on stderr, so that output can be piped."""

    def __init__(self, total: int, title: str) -> None:
        self._console = Console(stderr=True)
        self._title, self._done, self._start = title, 0, time.perf_counter()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tiles  {task.fields[rate]:.0f} tiles/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, rate=0.0)

    def __enter__(self) -> "TileProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        """Count finished tiles."""
        self._done += count
        self._bar.update(self._task, advance=count, rate=self.rate)

    @property
    def rate(self) -> float:
        """Tiles a second since the start."""
        return self._done / max(time.perf_counter() - self._start, 1e-9)

    def note(self, text: str) -> None:
        """Say something that matters in any case; an empty text is not said."""
        if text:
            self._console.print(f"{self._title}: {text}", soft_wrap=True, highlight=False, markup=False)

    def line(self, text: str) -> None:
        """Say that something is finished, where there is no bar."""
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {text}, {self.rate:.0f} tiles/s", soft_wrap=True)

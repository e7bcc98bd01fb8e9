"""What the training loop needs from a training method; DINO is one.

A method owns its networks and whatever else its loss remembers. The loop owns data, optimiser, ranks,
checkpoints and logs. A step is: every rank's batch is split into parts; of each part the ``loss`` is taken
and sent backward; gradients and ``Outcome.means`` are averaged over parts and ranks; the optimiser steps;
``update`` follows. So a method never asks how many ranks or parts there are, and gives the same with any
number of them if its loss is a mean over samples and ``loss`` changes nothing that the next part reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Outcome:
    """The loss of one part of a batch.

    Attributes:
        loss: scalar, with graph: the mean over the part's samples.
        each: (B,) every sample's own loss, without graph; it tells which samples were not finite.
        means: without graph, float32: means over the part's samples that ``update`` needs of the whole
            batch, or that are logged (those of one element, under their name).
    """

    loss: Tensor
    each: Tensor
    means: dict[str, Tensor] = field(default_factory=dict)


class Batch(Protocol):
    """One step's samples on one rank; what ``views`` is lies between source and method."""

    @property
    def views(self) -> Any:
        """What ``Method.split`` takes."""

    @property
    def tiles(self) -> npt.NDArray[np.int64]:
        """(B,) sample numbers, for ``BatchSource.name``."""

    @property
    def wait(self) -> float:
        """Seconds that the loop was held up for it."""


class BatchSource(Protocol):
    """Batches from some step on, for ever; pathtrain.data.loader.Loader is one."""

    def __iter__(self) -> Iterator[Batch]: ...

    def name(self, tile: int) -> str:
        """A sample's name, for messages."""

    def news(self) -> list[str]:
        """What is to be told since the last call: samples that were passed over, and why."""

    def close(self) -> None:
        """Release files and threads."""


class Method(Protocol):
    """A training method.

    Attributes:
        student: the network whose parameters are trained.
    """

    @property
    def student(self) -> nn.Module:
        """See above."""

    def networks(self) -> list[nn.Module]:
        """Every network with a forward pass of its own, the student included, to compile or shard."""

    def split(self, views: Any, size: int) -> list[Any]:
        """A batch's views in parts of ``size`` samples; the last may have fewer."""

    def loss(self, part: Any, step: int) -> Outcome:
        """Loss of a part; changes nothing but the state of torch's random generator."""

    def update(self, means: Mapping[str, Tensor], step: int) -> None:
        """After the optimiser's step; ``means`` are the whole batch's, over all ranks."""

    def frozen(self, step: int) -> list[nn.Parameter]:
        """Parameters that take no optimiser step at ``step``."""

    def schedule(self, step: int) -> dict[str, float]:
        """This method's own scheduled values at a step, for the log."""

    def encoder(self) -> nn.Module:
        """What the run is made for: the backbone that is exported, embedded with and evaluated."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint: tensors, numbers, strings and dicts and lists of them."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; every name and shape must fit."""


def slices(views: list[Tensor], size: int) -> list[list[Tensor]]:
    """Views (B, ...) each in parts of ``size`` samples; no copies."""
    return [list(part) for part in zip(*(torch.split(view, size) for view in views), strict=True)]

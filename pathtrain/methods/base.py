"""What training needs from a method; DINO is one.

A ``Setup`` is the method on one run's data: it says what it needs beside them, and makes the two things that
the loop works with, a ``Method`` and a ``BatchSource``.

A method owns its networks and whatever else its loss remembers. The loop owns data, optimiser, ranks,
checkpoints and logs. A step is: every rank's batch is split into parts; ``prepare`` sees them all, for what
couples the samples of a batch; of each part the ``loss`` is taken and sent backward; gradients and
``Outcome.means`` are averaged over parts and ranks; the optimiser steps; ``update`` follows. So a method
gives the same with any number of ranks and parts if its loss is a mean over samples, but for what ``prepare``
has found of the whole batch, and ``loss`` changes nothing that the next part reads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pathprep.errors import UsageError
from pathprep.stain import Target
from pathtrain.data.order import Ints
from pathtrain.data.trained_on import TrainingData
from pathtrain.distributed.ranks import Ranks
from pathtrain.recipes.recipe import Recipe


@dataclass(frozen=True)
class Outcome:
    """The loss of one part of a batch.

    Attributes:
        loss: scalar, with graph: the mean over the part's samples.
        each: (B,) every sample's own loss, without graph; it tells which samples were not finite.
        means: without graph: means over the part's samples that ``update`` or ``figures`` need of the whole
            batch, or that are logged: those of one element, under their name, and the effective rank of
            those whose name ends in pathtrain.losses.spread.MOMENT.
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

    @property
    def uniform(self) -> bool:
        """Whether on every rank a step is one loss a part, which gives the same parameters gradients."""

    def networks(self) -> list[nn.Module]:
        """Every network with a forward pass of its own, to shard."""

    def compile(self, backend: Any = "inductor", blocks: bool = False) -> None:
        """torch.compile of what has the same shapes in every step, with one of its backends.

        Args:
            blocks: of what is trained each block by itself, so that gradients come one after another.
        """

    def computing(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Trained parameters with others that compute in their place, and these, which get the gradients."""

    def refresh(self) -> None:
        """Before a step's first loss: bring what follows from the trained parameters up to date."""

    def split(self, views: Any, size: int) -> list[Any]:
        """A batch's views in parts of ``size`` samples; the last may have fewer."""

    def prepare(self, parts: list[Any], step: int, ranks: Ranks) -> list[Any]:
        """The parts as ``loss`` takes them, with what is to be known of the batch over all ranks.

        All ranks call it, with as many parts. It changes nothing but the state of torch's random generators.
        """

    def loss(self, part: Any, step: int) -> Outcome:
        """Loss of a part; changes nothing but the state of torch's random generators.

        So that the same part gives the same again, and ``state`` stays as it is.
        """

    def update(self, means: Mapping[str, Tensor], step: int, taken: Tensor | None = None) -> None:
        """After the optimiser's step; ``means`` are the whole batch's, over all ranks.

        Args:
            taken: bool scalar on the device: whether weights have moved. Where they have not, for loss or
                gradient are not finite, ``means`` are not to be remembered; the run ends soon.
        """

    def figures(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars for the log that follow from the whole batch's means, over all ranks."""

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


class Setup(ABC):
    """A method on the data of one run.

    Args:
        recipe: of the method.
        data: that is trained on.
        labels: a file with labels of slides.

    Raises:
        UsageError: ``labels`` are given to a method that has no use for them, or are missing or wrong; the
            method cannot train on such data.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, labels: Path | None) -> None:
        self.recipe, self.data = recipe, data
        self.read_labels(labels)

    def read_labels(self, path: Path | None) -> None:
        """Take the labels; a method without a use for them refuses them."""
        if path is not None:
            raise UsageError(
                f"`labels` {path}: the method {self.recipe.method} learns without labels; leave it out"
            )

    def labelled(self) -> Sequence[str]:
        """Slides that training needs, so that they are not held out of it."""
        return ()

    def account(self) -> Sequence[str]:
        """Lines on what is trained beside the tiles, for people."""
        return ()

    def identity(self) -> dict[str, Any]:
        """What a resume must find unchanged, beside recipe and data."""
        return {}

    @abstractmethod
    def method(self, total: int, device: torch.device, fresh: bool) -> Method:
        """New networks.

        Args:
            total: steps of the run.
            device: where everything lives.
            fresh: whether to fetch initial weights; False where a checkpoint follows.

        Raises:
            ModelError: they cannot be made or initialised.
        """

    @abstractmethod
    def source(self, start: int, ranks: Ranks, target: Target | None, held_out: Ints) -> BatchSource:
        """This rank's batches.

        Args:
            start: the first step.
            target: what the stain of tiles is normalised to.
            held_out: numbers of tiles (H,), rising, that do not come.
        """

    def validation(
        self, method: Method, ranks: Ranks, target: Target | None
    ) -> Callable[[int], dict[str, float]] | None:
        """What to call after each step with the number of finished ones, on all ranks; None for nothing.

        It returns what rank 0's log shows: of most steps, nothing.
        """
        return None

"""What a bag model is asked for a task of any kind: its outputs, its loss, and what they say.

classes      C outputs, cross-entropy; with eva's protocol two classes are one output and its binary loss
ordinal      one score and C - 1 thresholds (CORAL)
regression   one output, in standard deviations of the training bags
survival     one log hazard; Cox's partial likelihood with Efron's ties, over the bags of a step
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.losses.precision import wide
from pathtrain.losses.survival import cox_loss
from pathtrain.losses.tasks import class_loss, number_loss, ordinal_loss, rank_probabilities
from pathtrain.models.bag_models import Network, Ordered, bag_model
from pathtrain.models.mil import MilConfig
from pathtrain.params.slide_level import RegressionLoss
from pathtrain.params.tasks import Kind

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """A task as training sees it.

    Attributes:
        kind: of the task.
        classes: C; 0 of numbers and survival.
        labels: (n,) classes, ranks, or events 0 and 1.
        numbers: (n,) numbers or times; None of classes and ranks.
        mean, sd: of the training bags' numbers.
        binary: whether two classes are one output.
        regression_loss: ``mse`` or ``huber``.
    """

    kind: Kind
    classes: int
    labels: Ints
    numbers: Floats | None = None
    mean: float = 0.0
    sd: float = 1.0
    binary: bool = False
    regression_loss: RegressionLoss = "mse"

    @classmethod
    def of(
        cls, task: Task, train: Ints, *, binary: bool = False, regression_loss: RegressionLoss = "mse"
    ) -> "Objective":
        """Of a task, its numbers standardised on some rows."""
        mean, sd = 0.0, 1.0
        if task.kind == "regression":
            assert task.numbers is not None
            mean, sd = float(task.numbers[train].mean()), float(task.numbers[train].std()) or 1.0
        count = len(task.classes)
        return cls(
            task.kind, count, task.labels, task.numbers, mean, sd, binary and count == 2, regression_loss
        )

    def model(self, network: Network, dim: int, mil: MilConfig) -> nn.Module:
        """A new BagModel with the outputs that this needs."""
        if self.kind == "classes":
            return bag_model(network, dim, 1 if self.binary else self.classes, mil)
        found = bag_model(network, dim, 1, mil)
        return Ordered(found, self.classes) if self.kind == "ordinal" else found

    def answer(self, row: int) -> int:
        """What ``loss`` takes of a row: the class, which CLAM's instances need too; else the row."""
        return int(self.labels[row]) if self.kind in ("classes", "ordinal") else int(row)

    def loss(self, outputs: Tensor, answer: int) -> Tensor:
        """Of one bag; not of survival."""
        if self.binary:
            wanted = torch.full_like(wide(outputs), float(answer))
            return functional.binary_cross_entropy_with_logits(wide(outputs), wanted)
        if self.kind == "classes":
            return class_loss(outputs, answer)
        if self.kind == "ordinal":
            return ordinal_loss(outputs, answer)
        assert self.numbers is not None
        return number_loss(outputs, (float(self.numbers[answer]) - self.mean) / self.sd, self.regression_loss)

    def joint(self, scores: Tensor, rows: Ints) -> Tensor:
        """Of survival: Cox's loss of some bags (n,)."""
        assert self.numbers is not None
        times = torch.from_numpy(self.numbers[rows]).to(scores.device)
        events = torch.from_numpy(self.labels[rows] == 1).to(scores.device)
        return cox_loss(scores, times, events)

    def told(self, outputs: Tensor) -> Floats:
        """(n, O) -> (n, C) probabilities, (n, 1) numbers as the table has them, or (n, 1) log hazards."""
        values = outputs.double()
        if self.binary:
            values = torch.cat([-values, values], dim=1).sigmoid()
        elif self.kind == "classes":
            values = values.softmax(dim=1)
        elif self.kind == "ordinal":
            values = rank_probabilities(values)
        elif self.kind == "regression":
            values = values * self.sd + self.mean
        return np.asarray(values.cpu().numpy(), dtype=np.float64)

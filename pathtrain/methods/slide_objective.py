"""What a slide's scores cost: a term for each task that it knows, whatever its kind.

Survival needs several slides at once, and a step holds few. So the scores of all training slides are
remembered as they were last seen, and a slide's term is Cox's likelihood of it among those; see
pathtrain.losses.survival.cox_of_one. The memory is the same on all ranks, and part of the checkpoint.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.data.work import Slide
from pathtrain.losses.survival import cox_of_one
from pathtrain.losses.tasks import RegressionLoss, class_loss, number_loss, ordinal_loss
from pathtrain.models.ordinal import ordinal_head


def head(task: LabelTask, dim: int) -> nn.Module:
    """(D,) -> (C,), of ordered classes (C - 1,), of numbers and survival (1,)."""
    if task.kind == "ordinal":
        return ordinal_head(dim, len(task.classes))
    return nn.Linear(dim, len(task.classes) if task.kind == "classes" else 1)


class SlideObjective:
    """The loss of slides.

    Args:
        labels: of the training slides.
        device: where scores are.

    Attributes:
        memory: (T, S) float64, the scores of survival as they were last seen, NaN where never; None without
            such tasks.
    """

    def __init__(self, labels: SlideLabels, device: torch.device) -> None:
        self._labels, self._device = labels, device
        self._weights: dict[bool, list[Tensor]] = {}
        self.memory: Tensor | None = None
        if any(task.kind == "survival" for task in labels.tasks):
            shape = len(labels.tasks), len(labels.slides)
            self.memory = torch.full(shape, torch.nan, dtype=torch.float64, device=device)

    def loss(
        self, scores: Sequence[Tensor], slide: Slide, balanced: bool, numbers: RegressionLoss = "mse"
    ) -> Tensor:
        """Mean over the tasks that the slide knows.

        Args:
            scores: per task, as of ``head``.
            slide: with at least one label.
            balanced: whether classes are weighed by the inverse of their frequency.
            numbers: the loss of regression.

        Returns:
            Scalar. A slide that knows only survival, of an event that is alone so far, costs 0.
        """
        terms = []
        for place, (task, score) in enumerate(zip(self._labels.tasks, scores, strict=True)):
            label = int(slide.labels[place])
            if label < 0:
                continue
            if task.kind == "classes":
                terms.append(class_loss(score, label, self._class_weights(balanced)[place]))
            elif task.kind == "ordinal":
                terms.append(ordinal_loss(score, label))
            elif task.kind == "regression":
                terms.append(
                    number_loss(score, (self._number(slide.row, place) - task.mean) / task.sd, numbers)
                )
            else:
                terms.append(self._cox(score, place, slide.row))
        return torch.stack(terms).mean()

    def seen(self, scores: Sequence[Tensor], slide: Slide) -> Tensor:
        """(2, T, S): the slide's scores of survival and a 1 for each, to be averaged over a step's slides."""
        assert self.memory is not None
        found = torch.zeros((2, *self.memory.shape), dtype=torch.float64, device=self._device)
        for place, (task, score) in enumerate(zip(self._labels.tasks, scores, strict=True)):
            if task.kind == "survival" and int(slide.labels[place]) >= 0:
                found[0, place, slide.row] = score.detach().double().reshape(())
                found[1, place, slide.row] = 1
        return found

    def remember(self, mean: Tensor, taken: Tensor | None) -> None:
        """Take the scores of a step's slides into the memory.

        Args:
            mean: (2, T, S) of ``seen``, averaged.
            taken: whether the step was; None: it was.
        """
        assert self.memory is not None
        sums, counts = mean.to(self.memory)
        fresh = counts > 0
        if taken is not None:
            fresh = fresh & taken
        self.memory = torch.where(fresh, sums / counts.clamp(min=torch.finfo(counts.dtype).tiny), self.memory)

    def _cox(self, score: Tensor, place: int, row: int) -> Tensor:
        assert self.memory is not None
        assert self._labels.numbers is not None
        events = torch.from_numpy(self._labels.values[:, place] == 1).to(self._device)
        times = torch.from_numpy(self._labels.numbers[:, place]).to(self._device)
        return cox_of_one(score.reshape(()), self.memory[place], times, events, row)

    def _number(self, row: int, place: int) -> float:
        assert self._labels.numbers is not None
        return float(self._labels.numbers[row, place])

    def _class_weights(self, balanced: bool) -> list[Tensor]:
        if balanced not in self._weights:
            found = self._labels.class_weights(balanced)
            self._weights[balanced] = [
                torch.tensor(w, dtype=torch.float32, device=self._device) for w in found
            ]
        return self._weights[balanced]

"""Slides through the heads that a hierarchical method has learnt: while it trains, and afterwards."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from pathtrain.data import slide_labels
from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.distributed.ranks import ALONE, Ranks
from pathtrain.losses.tasks import rank_probabilities
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.metrics import Ints, figures_of
from pathtrain.recipes.hierarchical import SlideTasks
from pathtrain.stain.stage import Stage


class TaskScorer:
    """Scores slides of a dataset with a method's heads.

    Args:
        method: its student is used, without dropout.
        index: of the dataset.
        labels: of its slides; tasks in the order of the heads.
        stage: what is done to the stain; its random part must be off.
        device_id: GPU to decode on, or None.
        threads: DALI's CPU threads.
    """

    def __init__(
        self,
        method: Hierarchical,
        index: SlideIndex,
        labels: SlideLabels,
        stage: Stage | None,
        device_id: int | None = None,
        threads: int = 2,
    ) -> None:
        self.method, self.index, self.labels, self.stage = method, index, labels, stage
        self.device_id, self.threads = device_id, threads
        self.config = next(
            (p.slide for p in reversed(method.recipe.hierarchy.phases) if p.slide is not None), None
        )

    def score(self, rows: Ints, ranks: Ranks = ALONE) -> dict[str, dict[str, Any]]:
        """Per task its figures (pathtrain.metrics.figures_of; None where undefined), and ``slides``.

        Args:
            rows: of the labels, (S,), at least one; slides whose label of a task is unknown do not count
                for it.
            ranks: every one scores its share of the slides, and all return the figures of all slides.
        """
        shares = ranks.gather(list(self.probabilities(rows[ranks.rank :: ranks.world])))
        slides = [shares[place % ranks.world][place // ranks.world] for place in range(len(rows))]
        results = {}
        for number, (task, scores) in enumerate(
            zip(self.labels.tasks, zip(*slides, strict=True), strict=True)
        ):
            outputs, labels = np.stack(scores), self.labels.values[rows, number]
            known = labels != slide_labels.UNKNOWN
            told = None if self.labels.numbers is None else self.labels.numbers[rows[known], number]
            figures = figures_of(task.kind, outputs[known], labels[known], told)
            results[task.name] = {**figures, "slides": int(known.sum())}
        return results

    def probabilities(self, rows: Ints) -> Iterator[list[Any]]:
        """Per slide: per task float64: (C,) of classes and ranks, (1,) of numbers and log hazards."""
        config = self.config or SlideTasks(weight=1, batch=1, side=2, class_weights="none")
        names = [self.labels.slides[row] for row in rows]
        layouts = [self.index.slide(name, config.side) for name in names]
        zero = np.zeros(1, np.int64)

        def requests() -> Iterator[Request]:
            for layout in layouts:
                yield Request.of([layout], zero)

        size = self.method.recipe.hierarchy.tile
        stream = TileStream(self.index, requests, size, self.stage, self.device_id, threads=self.threads)
        learnt = {task["name"]: LabelTask.of(task) for task in self.method.tasks}
        heads = list(learnt)
        for layout, pixels in zip(layouts, stream, strict=True):
            scores = dict(zip(heads, self.method.stages.scores(pixels, layout, config), strict=True))
            yield [
                _told(learnt[task.name], scores[task.name].double()).cpu().numpy()
                for task in self.labels.tasks
            ]


def _told(task: LabelTask, scores: Tensor) -> Tensor:
    """A head's output as people read it."""
    if task.kind == "classes":
        return scores.softmax(dim=0)
    if task.kind == "ordinal":
        return rank_probabilities(scores)
    return scores * task.sd + task.mean if task.kind == "regression" else scores

"""What the hierarchical method needs of a run beside its tiles: labels of slides, and scoring them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathprep.errors import UsageError
from pathprep.stain import Target
from pathtrain.data import slide_labels
from pathtrain.data.curriculum import Curriculum
from pathtrain.data.order import Ints
from pathtrain.data.slide_labels import SlideLabels
from pathtrain.data.slide_stream import SlideIndex
from pathtrain.data.trained_on import TrainingData
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Method, Setup
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.stain.stage import stage


class HierarchicalSetup(Setup):
    """Three stages on a dataset of slides, and their labels if a phase trains on them.

    Attributes:
        labels: None if no phase has slides.
    """

    recipe: HierarchicalRecipe

    def __init__(self, recipe: HierarchicalRecipe, data: TrainingData, labels: Path | None) -> None:
        self.dataset = data.one("the method hierarchical")
        self.labels: SlideLabels | None = None
        super().__init__(recipe, data, labels)

    def read_labels(self, path: Path | None) -> None:
        """Take the labels that the recipe's phases need.

        Raises:
            UsageError: they are needed and not given, or given and not needed, or wrong.
        """
        needed = [phase.name for phase in self.recipe.hierarchy.phases if phase.slide is not None]
        if path is None:
            if needed:
                raise UsageError(
                    f"phase {needed[0]} trains on slide labels: give `labels`, a CSV or Parquet file with "
                    "the columns slide_id and one per task"
                )
            return
        if not needed:
            raise UsageError(f"`labels` {path}: no phase of the recipe trains on slides; leave it out")
        known = self.dataset.slide_names(name for name, count in self.dataset.tile_counts().items() if count)
        self.labels = slide_labels.read(path, known, self.recipe.hierarchy.tasks)
        if not len(self.labels.of("train")):
            raise UsageError(f"{path}: no training slide has a label")

    def labelled(self) -> Sequence[str]:
        """Those that are trained on."""
        return [] if self.labels is None else [self.labels.slides[row] for row in self.labels.of("train")]

    def account(self) -> Sequence[str]:
        """On the table of labels: its columns, the tasks and their classes."""
        return () if self.labels is None else self.labels.account

    def identity(self) -> dict[str, Any]:
        """The labels' digest."""
        return {} if self.labels is None else {"labels": self.labels.digest()}

    def method(self, total: int, device: torch.device, fresh: bool) -> Hierarchical:
        """New networks."""
        return Hierarchical(self.recipe, total, device, fresh, self.labels)

    def source(self, start: int, ranks: Ranks, target: Target | None, held_out: Ints) -> Curriculum:
        """What the phases train on."""
        return Curriculum(self.dataset, self.recipe, self.labels, start, ranks, target, held_out)

    def validation(
        self, method: Method, ranks: Ranks, target: Target | None
    ) -> Callable[[int], dict[str, float]] | None:
        """Where a phase validates, the ranks divide the validation slides among them."""
        assert isinstance(method, Hierarchical)
        labels = self.labels
        rows = np.empty(0, np.int64) if labels is None else labels.of("val")
        if labels is None or not len(rows):
            return None
        scorer: list[TaskScorer] = []

        def after(done: int) -> dict[str, float]:
            if not self._validates(done):
                return {}
            if not scorer:
                config, index = self.recipe.stain, SlideIndex(self.dataset)
                quiet = stage(
                    [self.dataset], config, self.recipe.seed, index.source.fits, target, jitter=False
                )
                scorer.append(TaskScorer(method, index, labels, quiet, ranks.device_id, ranks.threads))
            return _logged(scorer[0].score(rows, ranks))

        return after

    def _validates(self, done: int) -> bool:
        number, at = self.recipe.place(done - 1)
        phase = self.recipe.hierarchy.phases[number]
        every = phase.validate_every
        ended = at + 1 == phase.steps
        return phase.slide is not None and bool(ended or (every and (at + 1) % every == 0))


def _logged(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """As a log has them: ``val_organ_auroc`` and so on; undefined ones are left out."""
    return {
        f"val_{task}_{name}": float(value)
        for task, values in results.items()
        for name, value in values.items()
        if name != "slides" and value is not None
    }

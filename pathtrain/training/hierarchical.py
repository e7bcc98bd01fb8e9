"""What training needs of the hierarchical method beyond DINO: labels, their identity, batches, validation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.stain import Target
from pathtrain.data import slide_labels
from pathtrain.data.curriculum import Curriculum
from pathtrain.data.order import Ints
from pathtrain.data.slide_labels import SlideLabels
from pathtrain.data.slide_stream import SlideIndex
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.runs.hierarchical import quiet_stage
from pathtrain.runs.identity import digest


def read_labels(recipe: HierarchicalRecipe, path: Path | None, dataset: Dataset) -> SlideLabels | None:
    """The labels that the recipe's phases need; None if no phase has slides.

    Raises:
        UsageError: they are needed and not given, or given and not needed, or wrong.
    """
    needed = [phase.name for phase in recipe.hierarchy.phases if phase.slide is not None]
    if path is None:
        if needed:
            raise UsageError(
                f"phase {needed[0]} trains on slide labels: give --labels, a CSV or Parquet file with the "
                "columns slide_id and one per task"
            )
        return None
    if not needed:
        raise UsageError(f"--labels {path}: no phase of the recipe trains on slides; leave it out")
    known = {name for name, count in dataset.tile_counts().items() if count}
    found = slide_labels.read(path, known, recipe.hierarchy.tasks)
    if not len(found.of("train")):
        raise UsageError(f"{path}: no training slide has a label")
    return found


def identity(labels: SlideLabels | None) -> dict[str, Any]:
    """What a resume must find unchanged of them."""
    if labels is None:
        return {}
    rows = sorted(zip(labels.slides, labels.splits, labels.values.tolist(), strict=True))
    return {"labels": digest([labels.describe(), rows])[:16]}


def source(
    dataset: Dataset,
    recipe: HierarchicalRecipe,
    labels: SlideLabels | None,
    start: int,
    ranks: Ranks,
    target: Target | None,
    held_out: Ints,
) -> Curriculum:
    """This rank's batches from a step on."""
    return Curriculum(
        dataset,
        recipe,
        labels,
        start,
        ranks,
        target=target,
        held_out=held_out,
    )


def validation(
    method: Hierarchical, dataset: Dataset, labels: SlideLabels | None, run: Path, ranks: Ranks
) -> Callable[[int], dict[str, float]]:
    """What to call after each step, with the number of finished ones.

    Where the phase validates, rank 0 scores the validation slides; the result is what the log shows, empty
    for all other steps and ranks. Whole slides go through one card without a graph, which is quick beside
    training on them, so that the other ranks wait.
    """
    rows = labels.of("val") if labels is not None else np.empty(0, np.int64)
    scorer: list[TaskScorer] = []

    def after(done: int) -> dict[str, float]:
        number, at = method.recipe.place(done - 1)
        phase = method.recipe.hierarchy.phases[number]
        every = phase.validate_every
        ended = at + 1 == phase.steps
        if phase.slide is None or not len(rows) or not (ended or (every and (at + 1) % every == 0)):
            return {}
        results: dict[str, float] = {}
        if ranks.first:
            assert labels is not None
            if not scorer:
                stage = quiet_stage(dataset, method.recipe, run)
                index = SlideIndex(dataset)
                scorer.append(TaskScorer(method, index, labels, stage, ranks.device_id, ranks.threads))
            results = _rows_of(scorer[0].score(rows), "val")
        return results

    return after


def _rows_of(results: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """As a log has them: ``val_organ_auroc`` and so on; undefined ones are left out."""
    return {
        f"{prefix}_{task}_{name}": float(value)
        for task, values in results.items()
        for name, value in values.items()
        if name != "slides" and value is not None
    }

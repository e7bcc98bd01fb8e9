"""The heads that a hierarchical run has learnt, on slides: while it trains, and afterwards on any dataset."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.folders import open_dataset
from pathtrain.data import slide_labels
from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.errors import CheckpointError
from pathtrain.evaluate.slide_level.metrics import Ints, auroc, balanced_accuracy
from pathtrain.features.encode import pick_device
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.recipes.hierarchical import HierarchicalRecipe, SlideTasks
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs import checkpoint
from pathtrain.stain import stage as stain
from pathtrain.stain.stored_fits import stored_fits
from pathtrain.stain.target import of_run


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
        stage: stain.Stage | None,
        device_id: int | None = None,
        threads: int = 2,
    ) -> None:
        self.method, self.index, self.labels, self.stage = method, index, labels, stage
        self.device_id, self.threads = device_id, threads
        self.config = next(
            (p.slide for p in reversed(method.recipe.hierarchy.phases) if p.slide is not None), None
        )

    def score(self, rows: Ints) -> dict[str, dict[str, Any]]:
        """Per task: ``auroc``, ``balanced_accuracy`` (None where undefined) and ``slides``.

        Args:
            rows: of the labels; slides whose label of a task is unknown do not count for it.
        """
        found = [np.stack(p) if p else np.empty((0, 2)) for p in zip(*self.probabilities(rows), strict=True)]
        results = {}
        for number, (task, probabilities) in enumerate(zip(self.labels.tasks, found, strict=True)):
            labels = self.labels.values[rows, number]
            known = labels != slide_labels.UNKNOWN
            results[task.name] = {
                "auroc": auroc(probabilities[known], labels[known]),
                "balanced_accuracy": balanced_accuracy(probabilities[known], labels[known]),
                "slides": int(known.sum()),
            }
        return results

    def probabilities(self, rows: Ints) -> Iterator[list[Any]]:
        """Per slide: per task (C,) float64."""
        config = self.config or SlideTasks(weight=1, batch=1, side=2, class_weights="none")
        names = [self.labels.slides[row] for row in rows]
        layouts = [self.index.slide(name, config.side) for name in names]
        zero = np.zeros(1, np.int64)

        def requests() -> Iterator[Request]:
            for layout in layouts:
                yield Request.of([layout], zero)

        size = self.method.recipe.hierarchy.tile
        stream = TileStream(self.index, requests, size, self.stage, self.device_id, threads=self.threads)
        heads = [task["name"] for task in self.method.tasks]
        for layout, pixels in zip(layouts, stream, strict=True):
            scores = dict(zip(heads, self.method.scores(pixels, layout, config), strict=True))
            yield [
                functional.softmax(scores[task.name].double(), dim=0).cpu().numpy()
                for task in self.labels.tasks
            ]


def open_run(run: Path, device: torch.device) -> tuple[Hierarchical, HierarchicalRecipe]:
    """The newest intact checkpoint of a hierarchical run.

    Raises:
        UsageError: the run is of another method.
        CheckpointError: it has no intact checkpoint, or one that does not fit.
    """
    if not (run / "recipe.yaml").is_file():
        raise UsageError(f"{run}: no run there (recipe.yaml and checkpoints/, from `pathtrain pretrain`)")
    recipe = load_recipe(run / "recipe.yaml")
    if not isinstance(recipe, HierarchicalRecipe):
        raise UsageError(
            f"{run}: its method is {recipe.method}, which has no regions and no slide-level heads"
        )
    state = checkpoint.load(run)
    tasks = tuple(LabelTask(entry["name"], tuple(entry["classes"])) for entry in state.get("tasks", ()))
    empty = np.empty((0, len(tasks)), np.int64)
    labels = SlideLabels(run, tasks, (), empty, ()) if tasks else None
    method = Hierarchical(recipe, recipe.total_steps(0), device, fresh=False, labels=labels)
    try:
        method.load_state(state)
    except (KeyError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{run}: its checkpoint does not fit recipe.yaml ({line})") from None
    return method, recipe


def evaluate(
    run: Path, dataset: Path, labels: Path, device: str = "auto", threads: int = 2
) -> dict[str, Any]:
    """Score a run's heads on a dataset; every labelled slide counts, whatever its split.

    Raises:
        UsageError: the run has no heads; the labels do not fit run or dataset.
        CheckpointError, DatasetError: run or dataset cannot be read.
    """
    where = pick_device(device)
    method, recipe = open_run(run, where)
    if not method.tasks:
        raise UsageError(f"{run}: has no slide-level heads: none of its phases trains on slides")
    data = open_dataset(dataset)
    known = {name for name, count in data.tile_counts().items() if count}
    tasks = tuple(LabelTask(entry["name"], tuple(entry["classes"])) for entry in method.tasks)
    found = slide_labels.read_for(labels, known, tasks)
    rows = np.flatnonzero((found.values != slide_labels.UNKNOWN).any(axis=1))
    if not len(rows):
        raise UsageError(f"{labels}: no slide has a label of the run's tasks")
    device_id = where.index or 0 if where.type == "cuda" else None
    stage = quiet_stage(data, recipe, run)
    return TaskScorer(method, SlideIndex(data), found, stage, device_id, threads).score(rows)


def quiet_stage(data: Dataset, recipe: HierarchicalRecipe, run: Path) -> stain.Stage | None:
    """The recipe's stain stage without its jitter: normalising to the run's target, or nothing."""
    if recipe.stain.mode != "normalize":
        return None
    config = recipe.stain.model_copy(update={"concentration": 0.0, "angle": 0.0})
    target = of_run(run, recipe)
    assert target is not None
    return stain.stage(data, config, recipe.seed, partial(stored_fits, data), target.target)


def rows_of(results: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """As a log has them: ``val_organ_auroc`` and so on; undefined ones are left out."""
    return {
        f"{prefix}_{task}_{name}": float(value)
        for task, values in results.items()
        for name, value in values.items()
        if name != "slides" and value is not None
    }

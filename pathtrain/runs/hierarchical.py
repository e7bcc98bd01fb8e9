"""Opening a run of the hierarchical method with all of its networks, and its stain stage for inference."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.errors import CheckpointError
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.runs import checkpoint
from pathtrain.runs.described import recipe_of
from pathtrain.stain.stage import Stage, stage
from pathtrain.stain.stored_fits import stored_fits
from pathtrain.stain.target import of_run


def open_run(run: Path, device: torch.device) -> tuple[Hierarchical, HierarchicalRecipe]:
    """The newest intact checkpoint of a hierarchical run.

    Raises:
        UsageError: the run is of another method.
        CheckpointError: it has no intact checkpoint, or one that does not fit.
    """
    if not (run / "recipe.yaml").is_file():
        raise UsageError(f"{run}: no run there (recipe.yaml and checkpoints/, from `pathtrain pretrain`)")
    recipe = recipe_of(run)
    if not isinstance(recipe, HierarchicalRecipe):
        raise UsageError(
            f"{run}: its method is {recipe.method}, which has no regions and no slide-level heads"
        )
    state = checkpoint.load(run)
    tasks = tuple(LabelTask.of(entry) for entry in state.get("tasks", ()))
    empty = np.empty((0, len(tasks)), np.int64)
    labels = SlideLabels(run, tasks, (), empty, ()) if tasks else None
    method = Hierarchical(recipe, recipe.total_steps(0), device, fresh=False, labels=labels)
    try:
        method.load_state(state)
    except (KeyError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{run}: its checkpoint does not fit recipe.yaml ({line})") from None
    return method, recipe


def quiet_stage(data: Dataset, recipe: HierarchicalRecipe, run: Path) -> Stage | None:
    """The recipe's stain stage without its jitter: normalising to the run's target, or nothing."""
    if recipe.stain.mode != "normalize":
        return None
    target = of_run(run, recipe)
    assert target is not None
    stored = partial(stored_fits, data)
    return stage([data], recipe.stain, recipe.seed, stored, target.target, jitter=False)

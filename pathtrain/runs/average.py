"""The mean of a run's last encoders: of the checkpoints and milestones that it has kept.

Weights along a run's end lie round a point that is better than each (Izmailov et al. 2018, "Averaging weights
leads to wider optima"). The teacher is a moving average already, of a few hundred steps; this one is of
encoders that lie further apart.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pathprep.words import counted
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.runs import checkpoint, milestones
from pathtrain.runs.checkpoint import Entry
from pathtrain.runs.described import recipe_of
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load
from pathtrain.runs.trained import of_weights
from pathtrain.stain.target import of_run

State = dict[str, Tensor]


def average(run: Path, count: int) -> LoadedModel:
    """The mean of a run's last ``count`` encoders, made in float64; the model says of which steps.

    Of a step that has both a checkpoint and a milestone, which are the same, one counts.

    Raises:
        ModelError: the run has kept fewer, or a milestone is damaged.
        CheckpointError: a checkpoint is damaged.
    """
    kept: dict[int, Callable[[], State]] = {
        step: partial(_of_milestone, path) for step, path in milestones.entries(run)
    }
    kept |= {entry.step: partial(_of_checkpoint, run, entry) for entry in checkpoint.entries(run)}
    steps = sorted(kept)[-count:]
    if count < 2:
        raise ModelError(f"`average` {count}: give 2 or more encoders, or leave it out for the newest")
    if len(steps) < count:
        there = ", ".join(map(str, steps)) or "none"
        raise ModelError(
            f"{run}: `average` {count}: it has {counted(len(steps), 'encoder')}, of {there}; give a smaller "
            "number, or train with a larger checkpoint.keep or with checkpoint.milestones"
        )
    weights = _mean([kept[step] for step in steps])
    recipe = recipe_of(run)
    name, target = run.resolve().name, of_run(run, recipe)
    try:
        model = of_weights(recipe.model, weights, name, target, run, steps[-1])
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{run}: its checkpoints do not fit recipe.yaml ({said})") from None
    return replace(model, averaged=tuple(steps))


def _mean(encoders: list[Callable[[], State]]) -> State:
    """One encoder is held at a time, beside the sum."""
    total: State = {}
    newest: State = {}
    for read in encoders:
        newest = read()
        for name, value in newest.items():
            wide = value.to(torch.float64)
            total[name] = total[name] + wide if name in total else wide
    return {name: (total[name] / len(encoders)).to(value.dtype) for name, value in newest.items()}


def _of_checkpoint(run: Path, entry: Entry) -> State:
    found: State = checkpoint.read(run, entry)["teacher"]["backbone"]
    return found


def _of_milestone(path: Path) -> State:
    return dict(load(path).module.state_dict())

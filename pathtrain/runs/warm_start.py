"""A run that starts from another one: its networks, heads and centre, under a new schedule.

    model.init: run:runs/first           its newest checkpoint
    model.init: run:runs/first@12000     that of a step

Student and teacher both go on as they were; optimiser and schedules begin anew. Of two methods, what both
have is taken: a hierarchical run takes backbone, head and centre of a DINO run, and the other way round.
What one has and the other has not begins as ever, and is said. What both have in different shapes is
refused: half a start would look like one; but positions, which are resampled to another img_size.

The other run may train on. Which checkpoint was taken, and its SHA-256, is part of the new run's identity.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pathprep.words import command
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.methods.base import Method
from pathtrain.models import backbone
from pathtrain.models.first_weights import Colours
from pathtrain.models.positions import OFFSET, along, resampled
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.model import RUN, ModelConfig
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint
from pathtrain.runs.checkpoint import Entry
from pathtrain.runs.described import SHA_KEY, STEP_KEY, recipe_of

# What says how large a part is
KEYS = {"head": "dino.head", "patch_head": "ibot.head", "region_head": "hierarchy.region_head"}


@dataclass(frozen=True)
class WarmStart:
    """A checkpoint of another run to start from.

    Attributes:
        run: the other run's folder.
        step: its finished steps.
        sha256: of the checkpoint's bytes.
    """

    run: Path
    step: int
    sha256: str

    def identity(self) -> dict[str, Any]:
        """What a resume must find unchanged."""
        return {STEP_KEY: self.step, SHA_KEY: self.sha256}

    def state(self) -> dict[str, Any]:
        """The checkpoint's content, on the CPU.

        Raises:
            CheckpointError: it is gone, damaged, or another one by now.
        """
        entry = _entries(self.run).get(self.step)
        if entry is None or entry.sha256 != self.sha256:
            raise CheckpointError(f"{self.run}: its checkpoint of step {self.step} is gone; start again")
        return checkpoint.read(self.run, entry)

    def colours(self) -> Colours:
        """The mean and SD that the other run learnt with."""
        model = recipe_of(self.run).model
        return Colours(model.mean, model.std)


def find(model: ModelConfig, run: Path | None, before: Mapping[str, Any] | None) -> WarmStart | None:
    """The checkpoint that a run starts from; None where ``init`` names no run.

    Args:
        run: the folder of the new run; None if it has none.
        before: the identity that it was begun with; None for one that begins. One that goes on keeps its
            start: the other run's checkpoint may be gone by then, but not be another one.

    Raises:
        ModelError: there is no such run, or it is the run itself.
        CheckpointError: it has no such checkpoint, or only damaged ones; or what lies there is not what
            the run was begun from.
    """
    if not model.init.startswith(RUN):
        return None
    match = re.fullmatch(r"(.+?)(?:@(\d+))?", model.init.removeprefix(RUN))
    if match is None:
        raise ModelError(f"model.init: {model.init} names no folder; give {RUN}FOLDER or {RUN}FOLDER@STEP")
    other = Path(match[1])
    if before is not None and before.get("model.init") == model.init and SHA_KEY in before:
        return _as_before(WarmStart(other, before[STEP_KEY], before[SHA_KEY]))
    if not (other / "recipe.yaml").is_file():
        raise ModelError(
            f"model.init: {other} is no run (recipe.yaml and checkpoints/, from `pathtrain pretrain`)"
        )
    if run is not None and other.resolve() == run.resolve():
        raise ModelError(f"model.init: {other} is this run's own folder; give another `out`")
    entry = checkpoint.latest(other) if match[2] is None else _entries(other).get(int(match[2]))
    if entry is None:
        there = ", ".join(map(str, _entries(other))) or "none"
        raise CheckpointError(f"model.init: {model.init}: no such checkpoint; there are steps {there}")
    return WarmStart(other, entry.step, entry.sha256)


def at_step(init: str, step: int) -> str:
    """``model.init`` that names another run, with the step of its checkpoint."""
    return f"{re.sub(r'@[0-9]+$', '', init)}@{step}"


def adopt(method: Method, recipe: Recipe, start: WarmStart) -> str:
    """Put a method's networks and centres in the place of another run's.

    Args:
        method: new, whole (not divided among ranks).

    Returns:
        What was taken, what begins anew and what was left, for people.

    Raises:
        ModelError: architecture, stages or heads are others.
        CheckpointError: the checkpoint is gone or damaged.
    """
    _check_sizes(recipe, recipe_of(start.run), start)
    given, own = start.state(), method.state()
    taken: dict[str, None] = {}  # in their order, once
    fresh: dict[str, None] = {}
    for network in ("student", "teacher"):
        for part in own[network]:
            if part == "tasks":
                own[network][part] = _heads(own, given, taken, fresh)
            elif part in given[network]:
                weights = given[network][part]
                if part == "backbone":
                    weights = _on_grid(own[network][part], weights, start)
                _check_shapes(part, _named(own[network][part]), _named(weights), start)
                own[network][part] = weights
                taken[part] = None
            else:
                fresh[part] = None
    for name in own["loss"].keys() & given["loss"].keys():
        own["loss"][name] = given["loss"][name]
        taken[name] = None
    method.load_state(own)
    left = [part for part in given["student"] if part not in own["student"]]
    said = f"starts from {start.run}, step {start.step}: {', '.join(taken).replace('_', ' ')}"
    for what, names in (("new", list(fresh)), ("not taken", left)):
        said += f"; {what}: {', '.join(names).replace('_', ' ')}" if names else ""
    return said


def encoder(model: ModelConfig, start: WarmStart | None) -> nn.Module:
    """The backbone as a run began with it: what its training must beat.

    Args:
        model: of the run's recipe.
        start: what ``find`` gives.

    Raises:
        ModelError, CheckpointError: its weights cannot be had or do not fit.
    """
    if start is None:
        return backbone.create(model)
    made = backbone.build(model)
    weights = _on_grid(made.state_dict(), start.state()["teacher"]["backbone"], start)
    _check_shapes("backbone", made.state_dict(), weights, start)
    made.load_state_dict(weights)
    return made


def _entries(run: Path) -> dict[int, Entry]:
    return {entry.step: entry for entry in checkpoint.entries(run)}


def _as_before(start: WarmStart) -> WarmStart:
    entry = _entries(start.run).get(start.step)
    if entry is not None and entry.sha256 != start.sha256:
        raise CheckpointError(
            f"{start.run}: its checkpoint of step {start.step} is not that which this run was begun from "
            f"(its SHA-256 was {start.sha256[:12]}, is {entry.sha256[:12]}); move that folder, or `fresh` "
            "starts over"
        )
    return start


def _named(part: Any) -> Mapping[str, Tensor]:
    """A part's weights by their names; a mask token may be one tensor alone."""
    return {"it": part} if isinstance(part, Tensor) else part


def _on_grid(own: Mapping[str, Tensor], given: Mapping[str, Tensor], start: WarmStart) -> dict[str, Tensor]:
    """A backbone's weights with positions for another ``img_size``, resampled as in the other run."""
    name, found = "pos_embed", dict(given)
    if name not in own or name not in given or own[name].shape == given[name].shape:
        return found
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        before: Any = backbone.build(recipe_of(start.run).model).patch_embed
    prefix = given[name].shape[1] - math.prod(before.grid_size)
    there, here = tuple(before.grid_size), math.isqrt(max(own[name].shape[1] - prefix, 0))
    if prefix >= 0 and here * here + prefix == own[name].shape[1]:
        scheme = recipe_of(start.run).model.positions
        offset = 0.0 if scheme == "transformers" else OFFSET
        matrices = [along(old, here, scheme == "registers", offset).to(given[name]) for old in there]
        found[name] = torch.cat(
            [given[name][:, :prefix], resampled(given[name][:, prefix:], *matrices)], dim=1
        )
    return found


def _check_sizes(recipe: Recipe, other: Recipe, start: WarmStart) -> None:
    """What shapes alone do not tell: a transformer's heads and pooling."""
    kwargs = [{k: v for k, v in r.model.kwargs.items() if k != "img_size"} for r in (recipe, other)]
    pairs: list[tuple[str, Any, Any]] = [
        ("model.name", recipe.model.name, other.model.name),
        ("model.kwargs", kwargs[0], kwargs[1]),  # but img_size: positions are resampled
    ]
    if isinstance(recipe, HierarchicalRecipe) and isinstance(other, HierarchicalRecipe):
        for name in ("stage2", "stage3"):
            stages = getattr(recipe.hierarchy, name), getattr(other.hierarchy, name)
            pairs += [
                (f"hierarchy.{name}.{key}", *(getattr(stage, key) for stage in stages))
                for key in ("dim", "depth", "heads", "pool")
            ]
    for key, now, there in pairs:
        if now != there:
            raise ModelError(
                f"model.init: {start.run} has {key}={there}, the recipe {now}; make them equal, "
                f"{_way_out(start)}"
            )


def _check_shapes(
    part: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor], start: WarmStart
) -> None:
    for name in sorted(own.keys() | given.keys()):
        shapes = [tuple(state[name].shape) if name in state else "none" for state in (own, given)]
        if shapes[0] != shapes[1]:
            key = KEYS.get(part, "its sizes")
            raise ModelError(
                f"model.init: {part} of {start.run} is another one ({name} is {shapes[1]}, here "
                f"{shapes[0]}); set {key} as there, {_way_out(start)}"
            )


def _way_out(start: WarmStart) -> str:
    return (
        "or take its encoder alone: "
        f"{command('pathtrain export', start.run, '--out', 'FOLDER')}, then model.init=FOLDER"
    )


def _heads(
    own: Mapping[str, Any], given: Mapping[str, Any], taken: dict[str, None], fresh: dict[str, None]
) -> dict[str, Tensor]:
    """Heads of the slide-level tasks: of the same name and classes the other run's, else new ones."""
    heads: dict[str, Tensor] = dict(own["student"]["tasks"])
    there = given.get("tasks", [])
    for number, task in enumerate(own["tasks"]):
        name = f"task {task['name']}"
        if task not in there:
            fresh[name] = None
            continue
        for kind in ("weight", "bias"):
            heads[f"{number}.{kind}"] = given["student"]["tasks"][f"{there.index(task)}.{kind}"]
        taken[name] = None
    return heads

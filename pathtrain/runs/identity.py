"""What makes two runs the same run: a resume must find all of it unchanged.

Kept flat in RUN/run.json, so that a difference is named by its recipe key.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import timm
import torch

from pathprep.stain import Target
from pathtrain.data.groups import Grouped
from pathtrain.data.trained_on import TrainingData
from pathtrain.errors import CheckpointError
from pathtrain.recipes.older import SINCE
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint
from pathtrain.runs.described import info_of

# What a resume may change: it touches the weights by rounding at most, but that stochastic depth is drawn
# for each micro-batch, and on a card by compiled networks otherwise than by plain ones.
FREE = {
    "checkpoint",
    "log_every",
    "loader",
    "online",  # of a survey, which counts what matters itself
    "probes",
    "warn_after",
    "micro_batch",
    "compile",
    "sharding",
    "rank_timeout",
}
FREE_OF_MODEL = {"checkpoint"}
# What it may change if it is asked to: what helps a run past a loss that is not finite. Not the optimiser's
# groups, which its state lies in.
CHANGEABLE = re.compile(
    r"precision$|optim\.(?!(layer_decay|patch_embed_scale)$)|hierarchy\.phases\.\d+\.((tile|region|slide)\.lr|lr|warmup_steps)$"
)

# Counts up when the same recipe on the same data takes other steps than before (CHANGELOG says which): a run
# is not finished by steps that it was not begun with
TRAINING, VERSION_KEY = 3, "training version"

log = logging.getLogger(__name__)

Changes = dict[str, list[Any]]


def identity(
    recipe: Recipe,
    data: TrainingData,
    tiles: int,
    target: Target | None,
    held_out: Collection[str] = (),
    groups: Grouped | None = None,
) -> dict[str, Any]:
    """Everything that a resume must find unchanged: recipe keys, and which tiles there are.

    The target counts by its values, wherever its file lies.

    Args:
        tiles: that are trained on.
        held_out: slides of the data that are not.
        groups: that tiles are drawn by.
    """
    values = {k: v for k, v in recipe.model_dump(mode="json").items() if k not in FREE}
    values["model"] = {k: v for k, v in values["model"].items() if k not in FREE_OF_MODEL}
    values["stain"]["target"] = None if target is None else target.as_params()
    there = dict(data.identity())
    build, slides = there.pop("dataset build id"), there.pop("dataset slides")
    del values["sampling"]["table"]  # what it holds counts, wherever it lies: ``groups``
    return {
        VERSION_KEY: TRAINING,
        **flat(values),
        **there,
        "dataset build id": build,
        "dataset tiles": tiles,
        "dataset slides": digest(slides)[:16],
        **({"held-out slides": sorted(held_out)} if held_out else {}),
        **({"sampling groups": groups.digest()} if groups is not None else {}),
    }


def tiles_in_words(identity: dict[str, Any]) -> str:
    """How many tiles a run is trained on, of its run.json: 1,200, about 206 of a survey, or unknown."""
    tiles = identity.get("dataset tiles")
    about = "about " if "online weights" in identity else ""
    return f"{about}{tiles:,}" if tiles else "unknown"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as one, such as ``optim.lr``; entries of lists of keys by their number from 0."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            value = {str(number): part for number, part in enumerate(value)}
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def begun(run: Path) -> dict[str, Any] | None:
    """The identity that a run was begun with; None if it has not begun."""
    if not checkpoint.entries(run):
        return None
    try:
        found: dict[str, Any] | None = info_of(run).get("identity")
    except CheckpointError:
        return None  # ``check`` says more
    return found


def held_out(run: Path) -> list[str] | None:
    """The slides that a run has held out so far; None if it has not begun."""
    before = begun(run)
    return None if before is None else before.get("held-out slides", [])


def fixed(identity: dict[str, Any]) -> str:
    """Digest of what a resume can never change; a checkpoint carries it."""
    # a new key that changes nothing is none, for runs of before it
    known = {key: value for key, value in identity.items() if key not in SINCE or value != SINCE[key]}
    return digest({key: value for key, value in known.items() if not CHANGEABLE.match(key)})


def check(run: Path, identity: dict[str, Any], change: bool = False) -> Changes:
    """Compare with what the run was started with, or last changed to.

    Args:
        change: whether what is CHANGEABLE may differ.

    Returns:
        What differs: key to value before and now.

    Raises:
        CheckpointError: it differs and must not, cannot be read, or is of another version.
    """
    info = info_of(run)
    if not checkpoint.entries(run):
        return {}  # it never took its first steps, or none that were kept
    if not info:
        raise CheckpointError(f"{run}: has checkpoints but no run.json; `fresh` starts over")
    before = {**SINCE, **info.get("identity", {})}
    if before.get(VERSION_KEY) != TRAINING:
        raise CheckpointError(
            f"{run}: was begun by another version of pathtrain, whose steps differ (see CHANGELOG); finish "
            "it with that version, or `fresh` starts over. Its checkpoints can be evaluated, embedded with "
            "and exported as they are"
        )
    changed = {
        key: [before.get(key), identity.get(key)]
        for key in {**info.get("identity", {}), **identity}
        if before.get(key) != identity.get(key)
    }
    allowed = all(CHANGEABLE.match(key) for key in changed)
    if changed and not (allowed and change):
        shown = "; ".join(f"{key} was {was}, is {now}" for key, (was, now) in list(changed.items())[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        what = "`change` goes on with it, " if allowed else ""
        raise CheckpointError(
            f"{run} was started otherwise: {shown}{more}; {what}`fresh` starts over, another `out` keeps both"
        )
    return changed


def changes(run: Path, step: int, changed: Changes) -> list[dict[str, Any]]:
    """What a run has changed on its way, ``{step, changed}`` each, and what it changes now."""
    before: list[dict[str, Any]] = info_of(run).get("changes", [])
    return before + ([{"step": step, "changed": changed}] if changed else [])


def set_aside(run: Path, keep: str | None = None) -> None:
    """Rename an old run to RUN.old-1, RUN.old-2, ...; a copy of its folder ``keep`` stays."""
    run, number = run.absolute(), 1
    while (old := run.with_name(f"{run.name}.old-{number}")).exists():
        number += 1
    run.rename(old)
    if keep is not None and (old / keep).is_dir():
        shutil.copytree(old / keep, run / keep)
    log.info("the old run is now %s", old)


def versions() -> dict[str, str]:
    """What a run's numbers depend on beside its identity."""
    return {"torch": torch.__version__, "timm": timm.__version__, "device": _device_name()}


def _device_name() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads"
    )

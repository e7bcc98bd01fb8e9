"""Encoders that a run keeps for ever beside its newest checkpoints, to see afterwards how it learnt.

    RUN/encoders/step-NNNNNNN/    the teacher's backbone after so many steps, as `pathtrain export` writes it

Each is a model for every command that takes one. A folder with a config.json is complete: it is written under
another name and renamed, before the checkpoint of its step. So what lies beyond the checkpoint that a run
goes on from is made again, and is removed first: the new steps may be others. Files in it that are not ours
stay.
"""

import re
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from pathprep.storage.whole_folder import recover
from pathtrain.models.folder import CONFIG_FILE, FILES
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.model_folder import write
from pathtrain.runs.trained import of_weights
from pathtrain.stain.target import of_run

NAME = re.compile(r"step-(\d{7,})$")


def folder(run: Path) -> Path:
    """Where a run keeps them."""
    return run / "encoders"


def entries(run: Path) -> list[tuple[int, Path]]:
    """Steps and folders of all, rising."""
    # without a config.json it is what was left of one, or what a user keeps there
    return [(number, path) for number, path in _folders(run) if (path / CONFIG_FILE).is_file()]


def _folders(run: Path) -> list[tuple[int, Path]]:
    found = [(NAME.match(path.name), path) for path in folder(run).glob("step-*")]
    return sorted((int(match[1]), path) for match, path in found if match is not None)


def save(run: Path, recipe: Recipe, weights: dict[str, Tensor], step: int) -> LoadedModel:
    """Write that of a step; run.json and the target are there already.

    Args:
        weights: of the teacher's backbone.
    """
    out = folder(run) / f"step-{step:07d}"
    model = of_weights(recipe.model, weights, out.name, of_run(run, recipe), run, step)
    write(model, run, out)
    return model


def forget(run: Path, step: int) -> None:
    """Remove those of later steps, and what a kill left unfinished; before a run goes on from ``step``."""
    for number, path in _folders(run):
        if number > step:
            for name in FILES:  # config.json first: without it, it is none
                (path / name).unlink(missing_ok=True)
            with suppress(OSError):  # not empty: a user's own files
                path.rmdir()
    if folder(run).is_dir():
        recover(folder(run), FILES)

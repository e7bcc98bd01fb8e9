"""Stain stages of tiny recipes, and the stored fits of a dataset read another way than the loader does."""

from functools import partial
from typing import Any

import numpy as np

from helpers.toys import TINY
from pathprep.dataset.reader import Dataset
from pathprep.stain import StainFit, Status
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.stain.stage import Stage, stage
from pathtrain.stain.stored_fits import stored_fits

JITTERED = ["stain.concentration=0.2", "stain.angle=5", "stain.shift=0.1"]


def recipe(*overrides: str) -> Recipe:
    return load("smoke", [*TINY, "batch=6", *overrides])


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Every tile's row in the index, in the order of tile numbers."""
    index = dataset.tiles(["x"])
    return [{"slide": name, **row} for name in index.slides for row in dataset.table(name).to_pylist()]


def fits(found: list[dict[str, Any]]) -> StainFit:
    """As they are in the index, read another way than the loader does."""
    he = [np.reshape(row["he"], (3, 2)) if row["he"] else np.zeros((3, 2)) for row in found]
    max_c = [row["max_c"] or (0, 0) for row in found]
    status = [Status.FITTED if row["he"] else Status.UNFITTED for row in found]
    count = np.zeros(len(found), np.int64)
    return StainFit(np.array(he, float), np.array(max_c, float), count, np.array(status, np.uint8))


def stage_of(data: Dataset, recipe: Recipe) -> Stage | None:
    return stage([data], recipe.stain, recipe.seed, partial(stored_fits, data))

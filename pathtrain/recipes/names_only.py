"""Recipes that are passed on: they name the files and folders of a machine, and not where they lay."""

from pathlib import Path
from typing import Any

from pathtrain.recipes.model import RUN, is_public
from pathtrain.recipes.recipe import Recipe


def without_paths(recipe: Recipe) -> Recipe:
    """The same recipe with the last name of every path in it."""
    values = _shortened(recipe.model_dump())
    values["model"]["init"] = short_init(recipe.model.init)
    return type(recipe).model_validate(values)


def short_init(init: str) -> str:
    """A recipe's ``model.init`` with the last name of a run, file or folder."""
    if is_public(init):
        return init
    return f"{RUN}{short(init.removeprefix(RUN))}" if init.startswith(RUN) else short(init)


def short(place: str) -> str:
    """The last name of a path or URL."""
    return Path(place.rstrip("/")).name or place


def short_all(places: str | list[str]) -> str:
    """The last names of a path or URL, or of several."""
    return ", ".join(short(str(place)) for place in ([places] if isinstance(places, str) else places))


def _shortened(value: Any) -> Any:
    if isinstance(value, Path):
        return Path(value.name)
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    return [_shortened(part) for part in value] if isinstance(value, list | tuple) else value

"""Reading recipes: a name or a file, overrides, and errors of one line each."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pathprep.storage.place import local_folder
from pathprep.storage.regular import open_regular
from pathtrain.errors import RecipeError
from pathtrain.recipes.dino import DinoRecipe
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.older import GONE, renewed
from pathtrain.recipes.recipe import Recipe
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed

# method -> what its recipes may say
RECIPES: dict[str, type[Recipe]] = {
    "dino": DinoRecipe,
    "dinov2": Dinov2Recipe,
    "hierarchical": HierarchicalRecipe,
}


def names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("pathtrain.recipes")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def run_folder(recipe: Recipe | str | Path, out: str | Path | None = None) -> Path:
    """Where a run goes: ``out``, or runs/ and the recipe's name."""
    if out is not None:
        return local_folder(out)
    return Path("runs") / (recipe.method if isinstance(recipe, Recipe) else Path(recipe).stem)


def load(name: str | Path, settings: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        name: a packaged recipe, or a path ending in .yaml or .yml.
        settings: ``{"a.b": value}``, or ``a.b=value`` each, the value as YAML; applied in order. ``steps``
            and ``epochs`` replace each other: setting one to a number clears the other.

    Raises:
        RecipeError: a line per wrong key: ``recipe smoke: optim.lr: Input should be greater than 0``.
    """
    label, text = _read(name)
    try:
        values = parsed(text)
    except ValueError as error:
        raise RecipeError(f"recipe {label}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {label}: expected keys and values, found {type(values).__name__}")
    values = renewed(values)
    known = _known(values)
    pairs = settings.items() if isinstance(settings, Mapping) else map(_parse, settings)
    for key, value in pairs:
        _apply(values, key, value)
    method = values.get("method")
    if not isinstance(method, str) or method not in RECIPES:
        raise RecipeError(
            f"recipe {label}: method: there is none called {method}; there are {', '.join(RECIPES)}"
        )
    try:
        return RECIPES[method].model_validate(values)
    except ValidationError as error:
        lines = [
            f"recipe {label}: {_where(e['loc'])}{_message(e['type'], e['msg'], _place(e['loc']), known)}"
            for e in error.errors()
        ]
        raise RecipeError("\n".join(lines)) from None


def dump(recipe: Recipe) -> str:
    """A recipe as YAML, the method's own keys after ``views``; ``load`` of it gives the same recipe."""
    values = recipe.model_dump(mode="json")
    shared = list(Recipe.model_fields)
    at = shared.index("views") + 1
    own = [key for key in values if key not in shared]
    ordered = {key: values[key] for key in [*shared[:at], *own, *shared[at:]]}
    return yaml.safe_dump(ordered, sort_keys=False)


def _read(name: str | Path) -> tuple[str, str]:
    if Path(name).suffix in (".yaml", ".yml"):
        try:
            with open_regular(Path(name)) as file:
                return Path(name).name, decoded(file.read(LARGEST_TEXT + 1))
        except OSError as error:
            raise RecipeError(f"recipe {name}: {error.strerror}") from None
        except ValueError as error:
            raise RecipeError(f"recipe {name}: {error}") from None
    if name not in names():
        raise RecipeError(
            f"recipe {name}: no such recipe; there are {', '.join(names())}, or give a .yaml file"
        )
    return str(name), (resources.files("pathtrain.recipes") / f"{name}.yaml").read_text()


def _parse(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RecipeError(f"`settings` {setting}: expected key=value, such as optim.lr=0.001")
    try:
        return key, parsed(text)
    except ValueError as error:
        raise RecipeError(f"`settings` {setting[:200]}: {error}") from None


def _apply(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    if (first := key.partition(".")[0]) in GONE:
        raise RecipeError(f"`settings` {key}: there is no {first} any more, it is {GONE[first]}")
    node: Any = values
    part: Any
    for number, part in enumerate([*parents, last]):
        if isinstance(node, list):  # of phases or probes, by their number from 0
            if number == len(parents) and part == str(len(node)) and isinstance(value, dict):
                node.append(None)  # one more
            if not part.isdecimal() or int(part) >= len(node):
                there = f"has 0 to {len(node) - 1}" if node else "is empty"
                raise RecipeError(f"`settings` {key}: {parents[number - 1]} {there}, not {part}")
            part = int(part)
        elif not isinstance(node, dict):
            raise RecipeError(f"`settings` {key}: {parents[number - 1]} holds a value, not keys")
        if number == len(parents):
            node[part] = value
        else:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    other = {"steps": "epochs", "epochs": "steps"}.get(key)
    if other and value is not None:
        values.pop(other, None)


def _place(location: tuple[int | str, ...]) -> str:
    if location[:1] == ("probes",):
        location = (*location[:2], *location[3:])  # without the kind, which is no key
    return ".".join(str(part) for part in location)


def _where(location: tuple[int | str, ...]) -> str:
    return f"{_place(location)}: " if location else ""


def _message(kind: str, text: str, key: str, known: Collection[str]) -> str:
    """What is wrong with a key, by the kind of pydantic's error; in its words where they say it."""
    if kind == "extra_forbidden":
        return _unknown(key, known)
    if kind == "model_type":
        parts = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == key]
        return "expected keys and values" + (f": {', '.join(parts)}" if parts else "")
    if kind == "tuple_type":
        return "expected a list, such as [a, b]"
    return text.removeprefix("Value error, ")


def _known(values: dict[str, Any]) -> list[str]:
    """The keys of a recipe, with those that it leaves at their defaults."""
    try:
        return _keys(RECIPES[values["method"]].model_validate(values).model_dump())
    except (KeyError, TypeError, ValidationError):
        return _keys(values)  # the file itself is wrong, which is said later


def _keys(values: Any, prefix: str = "") -> list[str]:
    """All keys of a recipe's values, such as ``optim`` and ``optim.lr``."""
    pairs = values.items() if isinstance(values, dict) else ()
    return [key for name, value in pairs for key in (f"{prefix}{name}", *_keys(value, f"{prefix}{name}."))]


def _unknown(key: str, known: Collection[str]) -> str:
    """What to say of a key that there is not: who has its last word, else who is spelt like it."""
    word = key.rpartition(".")[2]
    others = [other for other in known if other != key]
    near = [other for other in others if other.rpartition(".")[2] == word]
    near = near or get_close_matches(key, others, cutoff=0.75)
    asked = f"; did you mean {' or '.join(near[:3])}?" if near else ""
    return f"no such key{asked}"

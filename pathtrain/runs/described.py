"""What a run's folder says of itself: RUN/run.json and RUN/recipe.yaml, as they were written or not at all.

run.json is sealed since version 2, and recipe.yaml ends with a seal then, a comment, ``# seal:`` and the
SHA-256 of the lines above. Runs before have neither and are read as they are. A recipe that is edited
elsewhere may keep the line: only that of a run is compared.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pathprep.storage import atomic, regular
from pathprep.storage.seals import is_whole, write_sealed
from pathtrain.errors import CheckpointError, RecipeError
from pathtrain.recipes.load import dump, load
from pathtrain.recipes.recipe import Recipe

INFO_FILE, RECIPE_FILE = "run.json", "recipe.yaml"
VERSION, SEALED_SINCE = 2, 2
# In the identity of a run that began with another's encoder: which step of it, and its checkpoint's hash
STEP_KEY, SHA_KEY = "model.init step", "model.init sha256"
_LINE = re.compile(rb"# seal: ([0-9a-f]{64})\n\Z")


def write(run: Path, recipe: Recipe, info: dict[str, Any]) -> None:
    """Write both; the recipe first, since run.json says whether it has a seal."""
    text = dump(recipe).encode()
    seal = f"# seal: {hashlib.sha256(text).hexdigest()}\n".encode()
    atomic.write_bytes(run / RECIPE_FILE, text + seal)
    write_sealed(run / INFO_FILE, {**info, "version": VERSION})


def mend(run: Path, recipe: Recipe) -> None:
    """Write a finished run's recipe again if it is damaged; run.json has been found to be of this recipe."""
    try:
        recipe_of(run)
    except RecipeError:
        write(run, recipe, info_of(run))


def info_of(run: Path) -> dict[str, Any]:
    """What run.json holds; nothing if there is none.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
    """
    path = run / INFO_FILE
    try:
        found = json.loads(regular.read(path))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        found = None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(found, dict) or not is_whole(found, SEALED_SINCE):
        raise CheckpointError(f"{path} is damaged; bring it back from a copy, or `fresh` starts over")
    for key, right in _TYPES.items():
        if key in found and not right(found[key]):
            raise CheckpointError(
                f"{path} is damaged ({key}); bring it back from a copy, or `fresh` starts over"
            )
    return found


def joined(value: Any) -> str:
    """A build id, or those of several datasets, in words."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**63)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_identity(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_is_count(value.get(key)) for key in ("dataset tiles", STEP_KEY))
        and isinstance(value.get(SHA_KEY), str | None)
        and _is_names(value.get("held-out slides", []))
    )


# What readers count with and look for must have its type, whoever sealed it
_TYPES: dict[str, Callable[[Any], bool]] = {
    "identity": _is_identity,
    "versions": lambda value: isinstance(value, dict),
    "changes": lambda value: isinstance(value, list),
    "dataset": lambda value: isinstance(value, str) or _is_names(value),
    "drawn": _is_names,
    "slides": _is_count,
    "groups": _is_count,
}


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was trained with.

    Raises:
        RecipeError: it cannot be read, or is not as the run wrote it.
        CheckpointError: run.json is damaged.
    """
    path = run / RECIPE_FILE
    try:
        text = regular.read(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    found = _LINE.search(text)
    if found is not None and hashlib.sha256(text[: found.start()]).hexdigest().encode() != found[1]:
        raise _changed(path, "its seal differs")
    if found is None and info_of(run).get("version", 1) >= SEALED_SINCE:
        raise _changed(path, "its seal is gone")
    return load(path)


def _changed(path: Path, why: str) -> RecipeError:
    return RecipeError(
        f"{path}: changed since the run wrote it ({why}), so the model in it may be another one; the same "
        "`pathtrain pretrain` command writes it again, or bring it back from a copy"
    )

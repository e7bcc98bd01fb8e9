"""The stains of the tiles that a run was trained on, kept in its folder: files and datasets may move.

    RUN/target.json    what `pathprep target` writes, and the options of fits, for images that have none;
                       it is there if the recipe's stain.mode is normalize, and if the tiles were normalised
                       when they were stored (`pathprep shard --stain bake`)

An exported model carries the same in its config.json. So a model sees at inference what it was trained
on, whatever it is given: plain pictures, plain datasets, or ones that were normalised to something else.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from pathprep.errors import StainError
from pathprep.stain import ALPHA, BETA, IO, Target
from pathprep.stain.target import SEALED_SINCE, VERSION
from pathprep.storage import regular
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import is_whole, write_sealed
from pathtrain.errors import ModelError, RecipeError
from pathtrain.recipes.recipe import Recipe, StainConfig
from pathtrain.recipes.strict import Positive, Strict
from pathtrain.stain.suits import Stained

TARGET_FILE = "target.json"
FIT_OPTIONS = ("keep", "alpha", "beta", "io")

Row = tuple[float, float]


class ModelTarget(Strict):
    """A target, and how tiles without a stored fit are fitted: as those of the training data were.

    Attributes:
        name: for people.
        he, max_c: as in pathprep.stain.Target.
        keep, alpha, beta, io: as in pathprep.stain.fit.
    """

    format: Literal["pathprep-target"] = "pathprep-target"
    name: str
    he: tuple[Row, Row, Row]
    max_c: tuple[Positive, Positive]
    keep: Literal["all", "any"] = "all"
    alpha: Annotated[float, Field(ge=0, lt=50)] = ALPHA
    beta: Annotated[float, Field(ge=0)] = BETA
    io: Annotated[float, Field(ge=1, le=256)] = IO

    @classmethod
    def of(cls, target: Target, dataset: Stained) -> Self:
        """A target with the options that a dataset's tiles were fitted with."""
        stain = dataset.params["stain"]
        options = {key: stain[key] for key in FIT_OPTIONS if key in stain}
        return cls.model_validate({"name": target.name, **target.as_params(), **options})

    @classmethod
    def of_training(cls, target: Target | None, dataset: Stained) -> Self | None:
        """What the tiles of a run are normalised to; None if they are not.

        Args:
            target: that the recipe normalises to, if it does.
            dataset: that the run is trained on; tiles that were baked are at their own target.
        """
        made = dataset.params["stain"]
        if target is None and made["mode"] == "bake":
            goal = made["target"]
            target = Target(np.array(goal["he"]), np.array(goal["max_c"]), "the dataset's target")
        return None if target is None else cls.of(target, dataset)

    @property
    def target(self) -> Target:
        """As pathprep.stain takes it."""
        return Target(np.array(self.he), np.array(self.max_c), self.name)

    def as_dict(self) -> dict[str, Any]:
        """As it is written; ``ModelTarget.model_validate`` reads it."""
        return self.model_dump(mode="json")

    def changes(self) -> dict[str, Any]:
        """What of it changes features: all but the name and the format."""
        return {key: value for key, value in self.as_dict().items() if key not in ("format", "name")}

    def save(self, run: Path) -> None:
        """Write it to a run's folder."""
        write_sealed(run / TARGET_FILE, {**self.as_dict(), "version": VERSION})


def of_run(run: Path, recipe: Recipe) -> ModelTarget | None:
    """What a run's tiles were normalised to, by its recipe or when they were stored; None if they were not.

    Raises:
        ModelError: its target.json is gone or damaged.
    """
    path = run / TARGET_FILE
    needed = recipe.stain.mode == "normalize" or (read_json(run / "run.json") or {}).get("normalised")
    if not needed and not path.exists():
        return None
    try:
        values = json.loads(regular.read(path))
        if not isinstance(values, dict) or not is_whole(values, SEALED_SINCE):
            raise ValueError
        return ModelTarget.model_validate({key: values[key] for key in values.keys() - {"seal", "version"}})
    except (OSError, ValueError, RecursionError):  # pydantic's own is a ValueError
        raise ModelError(
            f"{path}: gone or damaged, and the run's tiles were normalised to the target in it; "
            "bring it back, or train again with `fresh`"
        ) from None


def settle(config: StainConfig, run: Path | None = None) -> Target | None:
    """The target that a recipe names; None if it does not normalise.

    Args:
        config: of the recipe.
        run: of a run that may have begun: if the file is gone since, its own copy serves.

    Raises:
        RecipeError: the recipe's file cannot be read, and there is no copy.
    """
    if config.mode != "normalize":
        return None
    if config.target is None:
        return Target.default()
    path = config.target
    if run is not None and not path.exists() and (run / TARGET_FILE).exists():
        path = run / TARGET_FILE
    try:
        return Target.load(path)
    except StainError as error:
        raise RecipeError(f"stain.target: {error}") from None

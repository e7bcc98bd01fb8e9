"""A survey as what a run is trained on.

It has no tiles of its own: they are counted as those that would cover its tissue, slide after slide, so that
an epoch and what is held out have a number.
"""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from pathprep.surveys.folder import Survey
from pathtrain.data.groups import Grouped
from pathtrain.data.online.choice import choice
from pathtrain.data.online.dropped import FOLDER
from pathtrain.data.online.probe_tiles import DrawnTiles
from pathtrain.data.online.source import OnlineSource
from pathtrain.data.order import Ints, hashed
from pathtrain.data.source import NO_TILES
from pathtrain.data.trained_on import TrainingData
from pathtrain.recipes.recipe import Recipe
from pathtrain.recipes.sampling import SamplingConfig

_SPREAD = 0x737072656164  # keeps these hashes apart from others


class SurveyStain:
    """What a survey says of its tiles' stain: nothing was done to it (pathtrain.stain.suits.Stained)."""

    online = True

    def __init__(self, root: PurePath) -> None:
        self.root = root
        self.params: dict[str, Any] = {"stain": {"mode": "none"}}


class SurveyData(TrainingData):
    """Tiles that are drawn from the slides of a survey.

    Args:
        recipe: its ``online`` and ``sampling`` say which tiles there are.
        run: the run's folder, where what it drops is kept; None keeps nothing.

    Raises:
        UsageError: the survey cannot be drawn from so.
        DatasetError: it is damaged or empty.
    """

    unmeasured = "a survey has no tiles on disk"
    estimated = True

    def __init__(self, root: PurePath | str, recipe: Recipe, run: Path | None = None) -> None:
        self.survey = Survey(root)
        self.recipe, self.record = recipe, None if run is None else run / FOLDER
        self.roots, self.stained = [self.survey.root], [SurveyStain(self.survey.root)]
        self.choice, self._left = choice(self.survey, recipe.sampling, recipe.online)
        self._starts = np.concatenate([[0], np.cumsum(self.choice.tiles)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def groups(self, sampling: SamplingConfig, held_out: Ints) -> Grouped | None:
        return None

    def source(self, sampling: SamplingConfig, held_out: Ints = NO_TILES) -> OnlineSource:
        drawn = self.choice.without(self._slides_of(held_out))
        return OnlineSource(self.survey, drawn, self.recipe.online, self.record)

    def tiles_of(self, slides: Collection[str]) -> Ints:
        parts = [
            np.arange(*self._starts[number : number + 2])
            for number, name in enumerate(self.choice.slides)
            if name in slides
        ]
        return np.concatenate([NO_TILES, *parts])

    def _slides_of(self, tiles: Ints) -> list[str]:
        held = np.isin(self._starts[:-1], tiles)
        return [name for name, out in zip(self.choice.slides, held.tolist(), strict=True) if out]

    def trained(self, place: PurePath, slides: Collection[str]) -> set[str]:
        return set(slides) & set(self.choice.slides)

    def places(self) -> set[str]:
        return {str(self.survey.root.absolute())}

    def identity(self) -> dict[str, Any]:
        online = self.recipe.online.model_dump(mode="json")
        free = ("readers", "timeout", "max_bad_slides")
        return {
            "dataset build id": self.survey.info["build_id"],
            "dataset slides": self.survey.contents,
            "online weights": self.choice.digest(),
            **{f"online.{key}": value for key, value in online.items() if key not in free},
        }

    def counts(self, held_out: Collection[str]) -> dict[str, int | None]:
        return {"slides": len(self.choice.slides) - len(held_out), "groups": None}

    def account(self, groups: Grouped | None, held_out: Ints) -> list[str]:
        return [*self._left, self.choice.without(self._slides_of(held_out)).said()]

    def holdable(self) -> dict[str, int]:
        """Tiles of each slide that can be held out."""
        return dict(zip(self.choice.slides, self.choice.tiles.tolist(), strict=True))

    def drawn(self, slides: Sequence[str], count: int, seed: int, readers: int) -> DrawnTiles:
        """``count`` tiles of each of some slides, for a probe."""
        listed = [name for name in slides for _ in range(count)]
        return DrawnTiles(self.survey, self.choice, self.recipe.online, listed, seed, readers)

    def spread(self, held_out: Collection[str], count: int, seed: int, readers: int) -> DrawnTiles:
        """``count`` tiles as training draws them, for a probe, without slides that are held out."""
        left = self.choice.without(list(held_out))
        numbers, _ = left.draw(np.arange(count), np.zeros(count, np.int64), int(hashed(seed, _SPREAD)[0]))
        listed = [left.slides[number] for number in numbers.tolist()]
        return DrawnTiles(self.survey, self.choice, self.recipe.online, listed, seed, readers)

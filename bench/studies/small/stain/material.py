"""The tiles of the study of stain: what encoders are trained on, and three tests on other tissue.

    training    training groups of EBHI and LC25000 composed to slides of one cast each, and mitoses as their
                five scanners have them, enlarged; with each tile's Macenko fit, so that one dataset serves
                all arms
    shortcut    two classes of which each tile has one of two casts (to fit the probe), or both (to test it)
    scanners    mitoses as they are, both sides
    slides      test groups of LC25000 composed to slides of casts that training has not; and as they are

Each test is there plain, and normalised by Macenko's method.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from pathprep.dataset.schema import STATUSES
from pathprep.folders import open_dataset
from pathtrain.recipes.strict import Strict
from small.core.config import Study
from small.core.pool import SIDE, imported
from small.core.tiles import folder
from small.stain.composed import (
    CASTS,
    Floats,
    Tile,
    account,
    assigned,
    cast,
    dealt,
    drawn,
    listed,
    normalised,
    opposite,
    recoloured,
    stains_of,
)

Share = Annotated[float, Field(ge=0, le=1)]
PLAIN, NORMALISED, UNCAST = "plain", "normalised", "no cast"
MAKES_TILES = {"classes", "agreement", "cast", "turn", "train_slides", "test_slides", "tiles", "seed"}
COMPOSED, SCANNED = ("ebhi", "lc25000"), "mitoses"


class Settings(Strict):
    """The study of stain.

    Attributes:
        steps: of each training.
        changes: of the recipe, ``key=value``, in all arms.
        classes: two of LC25000, which the shortcut is between.
        agreement: share of the probe's training tiles whose cast is that of their class.
        rates: the same in the tests, the first to the last is the fall.
        cast, turn: how far casts go: amounts of both stains times 1 +- cast, their directions up to so many
            degrees away.
        jitter, jitter_turn, jitter_shift: stain.concentration, angle and shift of the arms with jitter.
        train_slides, test_slides: composed of a set's tiles.
        tiles: at most of a group are used, in all sets; null: all.
        k: neighbours on composed slides.
        seed: of all that is drawn but first weights.
    """

    steps: Annotated[int, Field(gt=0)] = 200
    changes: tuple[str, ...] = ()
    classes: tuple[str, str] = ("lung_aca", "lung_scc")
    agreement: Share = 0.9
    rates: tuple[Share, ...] = (0.9, 0.5, 0.1)
    cast: Annotated[float, Field(gt=0, lt=1)] = 0.4
    turn: Annotated[float, Field(ge=0, le=30)] = 12.0
    jitter: Share = 0.3
    jitter_turn: Annotated[float, Field(ge=0, le=45)] = 6.0
    jitter_shift: Share = 0.05
    train_slides: Annotated[int, Field(ge=2)] = 24
    test_slides: Annotated[int, Field(ge=2)] = 12
    tiles: Annotated[int, Field(gt=0)] | None = None
    k: Annotated[int, Field(gt=0)] = 20
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def tiles_key(self) -> str:
        """A hash of all that the tiles follow from: others are made in a folder of their own."""
        text = self.model_dump_json(include=MAKES_TILES)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @model_validator(mode="after")
    def _two_rates(self) -> "Settings":
        if len(self.rates) < 2:
            raise ValueError("rates must be two or more: the fall is from the first to the last")
        if len(set(self.classes)) < 2:
            raise ValueError("classes must be two")
        return self


@dataclass(frozen=True)
class Material:
    """Where the tiles are.

    Attributes:
        training: the dataset.
        fit, test: of each test, its folders by how they are seen: PLAIN, NORMALISED, UNCAST; ``fit`` of those
            that fit a probe.
    """

    training: Path
    fit: dict[str, dict[str, Path]]
    test: dict[str, dict[str, Path]]

    def fits(self) -> dict[str, dict[str, int]]:
        """Tiles by where Macenko's fit came from: fitted, slide_fit (pooled), unfitted (left as they are)."""
        column = open_dataset(self.training).tiles(["stain_status"]).columns["stain_status"]
        found = {"training": {name: int(np.sum(column == at)) for at, name in enumerate(STATUSES)}}
        for side, many in (("fit", self.fit), ("test", self.test)):
            found |= {f"{name}, {side}": account(each[NORMALISED]) for name, each in many.items()}
        return found


def made(study: Study, settings: Settings) -> Material:
    """All of it; what is there is not made again.

    Raises:
        TestGroups: before the choice is made.
        UsageError: a class that LC25000 lacks, or too few groups for the slides.
    """
    where = study.work / "stain" / settings.tiles_key
    tests = {name: _tiles(study, name, "test", settings) for name in ("lc25000", SCANNED)}
    training = _training(study, where, settings)
    fit, test = {}, {}
    shortcut = _shortcut(study, where, settings, tests["lc25000"])
    fit["shortcut"], test["shortcut"] = (_both(where, one, lambda tile: "") for one in shortcut)
    for side, into in (("train", fit), ("test", test)):
        tiles = tests[SCANNED] if side == "test" else _tiles(study, SCANNED, "train", settings)
        plain = recoloured([(tile, None) for tile in tiles], where / f"scanners-{side}")
        into["scanners"] = _both(where, plain, lambda tile: tile.group)
    plain = _composed(tests["lc25000"], settings, where / "slides")
    test["slides"] = _both(where, plain, lambda tile: tile.slide)
    same = [(tile._replace(path=source.path), None) for tile, source in zip(
        listed(plain), tests["lc25000"], strict=True)]  # fmt: skip
    test["slides"][UNCAST] = recoloured(same, where / "slides-uncast")
    return Material(training, fit, test)


def _tiles(study: Study, name: str, side: Literal["train", "test"], settings: Settings) -> list[Tile]:
    found: list[Tile] = []
    seen: dict[str, int] = {}
    for tile in listed(folder(study, name, side)):
        seen[tile.group] = seen.get(tile.group, 0) + 1
        if settings.tiles is None or seen[tile.group] <= settings.tiles:
            found.append(tile)
    return found


def _both(where: Path, plain: Path, by: Callable[[Tile], str]) -> dict[str, Path]:
    return {PLAIN: plain, NORMALISED: normalised(plain, where / f"{plain.name}-normalised", by)}


def _training(study: Study, where: Path, settings: Settings) -> Path:
    images = where / "training"
    if not images.exists():
        rows: list[tuple[Tile, Floats | None]] = []
        for number, name in enumerate(COMPOSED):
            tiles = _tiles(study, name, "train", settings)
            slide = dealt(tiles, settings.train_slides, settings.seed, complete=False)
            own = stains_of(tiles)
            stains = drawn(settings.train_slides, settings.cast, settings.turn, settings.seed + 1 + number)
            for tile, at in zip(tiles, slide.tolist(), strict=True):
                named = f"{name}-{at}"  # of training, a group is what Macenko's fits are pooled over
                rows.append(
                    (
                        tile._replace(label=f"{name}-{tile.label}", group=named, slide=named),
                        cast(stains[at], own),
                    )
                )
        for tile in _tiles(study, SCANNED, "train", settings):
            rows.append((tile._replace(label=SCANNED, group=f"{SCANNED}-{tile.group}"), None))
        recoloured(rows, images, SIDE)
    return imported(images, where / f"training-{where.name}", "--stain", "fit")


def _shortcut(study: Study, where: Path, settings: Settings, test: list[Tile]) -> tuple[Path, Path]:
    first = min(settings.classes)
    known = [tile for tile in _tiles(study, "lc25000", "train", settings) if tile.label in settings.classes]
    own, stains = stains_of(known), opposite(settings.cast, settings.turn)
    casts = {name: cast(each, own) for name, each in zip(CASTS, stains, strict=True)}
    given = assigned([tile.label for tile in known], first, settings.agreement, settings.seed)
    fit = [(tile._replace(cast=name), casts[name]) for tile, name in zip(known, given, strict=True)]
    both = [
        (tile._replace(cast=name), matrix)
        for tile in test
        if tile.label in settings.classes
        for name, matrix in casts.items()
    ]
    return recoloured(fit, where / "shortcut-fit"), recoloured(both, where / "shortcut-test")


def _composed(tiles: list[Tile], settings: Settings, out: Path) -> Path:
    slide = dealt(tiles, settings.test_slides, settings.seed, complete=True).tolist()
    # the seed is none of the training's: other casts
    own = stains_of(tiles)
    stains = drawn(settings.test_slides, settings.cast, settings.turn, settings.seed + 100)
    casts = [cast(each, own) for each in stains]
    return recoloured(
        [(tile._replace(slide=f"{at:02d}"), casts[at]) for tile, at in zip(tiles, slide, strict=True)], out
    )

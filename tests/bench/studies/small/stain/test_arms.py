"""The arms, as recipes."""

from pathlib import Path
from typing import Any

import pytest
from small.core.config import HERE, Common, Study
from small.stain.arms import ARMS, PAIRS, jobs
from small.stain.material import Settings

from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import StainConfig

BASE = HERE / "base.yaml"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One whose recipe has jitter of its own."""
    (tmp_path / "encoder.yaml").write_text(BASE.read_text())
    return Study(tmp_path, tmp_path, tmp_path / "study.yaml", Common(seeds=2), {})


def test_arms_differ_in_stain_and_in_nothing_else(study: Study, tmp_path: Path) -> None:
    """Two seeds of five arms; each recipe can be loaded, and says all of its stain."""
    found = jobs(study, Settings(steps=70, changes=("views.greyscale=0.0",)), tmp_path)
    assert tuple(found) == ARMS
    stains: dict[str, StainConfig] = {}
    rest: list[dict[str, Any]] = []
    for arm, many in found.items():
        assert [job.name for job in many] == [
            f"stain-{arm.lower().replace(' ', '-')}-{seed}" for seed in (0, 1)
        ]
        recipe = load(study.recipe, many[1].settings)
        assert (recipe.seed, recipe.steps, recipe.checkpoint.every) == (1, 70, 70)
        assert recipe.views.greyscale == 0
        stains[arm] = recipe.stain
        rest.append(recipe.model_dump(exclude={"stain"}))
    assert all(one == rest[0] for one in rest)
    assert [stains[arm].mode for arm in ARMS] == ["none", "normalize", "jitter", "jitter", "normalize"]
    assert [stains[arm].jitters for arm in ARMS] == [False, False, True, True, True]
    assert stains["jitter per tile"] == stains["jitter per view"].model_copy(update={"per": "tile"})
    assert {one.basis for one in stains.values()} == {"fit"}


def test_every_arm_is_compared_with_none() -> None:
    assert {first for first, second in PAIRS if second == "none"} >= set(ARMS[1:])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rates": (0.9,)}, "rates must be two or more"), ({"classes": ("a", "a")}, "classes must be two")],
)
def test_settings_that_measure_nothing_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**wrong)


def test_tiles_of_other_settings_are_others() -> None:
    """What is trained and measured changes no tile; what they are made by does."""
    key = Settings().tiles_key
    assert Settings(steps=7, k=3, jitter=0.1, rates=(0.8, 0.2)).tiles_key == key
    others = [Settings(cast=0.2), Settings(tiles=1), Settings(seed=1), Settings(test_slides=6)]
    assert len({key, *(one.tiles_key for one in others)}) == 5

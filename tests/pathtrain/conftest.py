"""Datasets with stain, made by the real sharding, and runs that normalise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from helpers.toys import TINY, write_run

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides.find import SlideSource
from pathtrain.recipes.load import dump, load
from pathtrain.stain.target import ModelTarget

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def target() -> stain.Target:
    """A target that differs from the field's reference."""
    he = np.array([[0.65, 0.10], [0.70, 0.95], [0.29, 0.30]])
    return stain.Target(he / np.linalg.norm(he, axis=0), np.array([1.2, 0.8]), "other")


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two stainings of 64 px tiles, one with an area of a single colour; 128 px tiles; no stain at all.

    None is smaller than the smallest piece of tissue that is kept.
    """
    folder = tmp_path_factory.mktemp("stained")
    mixed = tissue(256, 256, seed=1)
    mixed[:64, :128] = (205, 120, 180)
    darker = (255 * (tissue(256, 256, seed=2) / 255.0) ** 1.7).astype(np.uint8)
    made = {"dark": (darker, 0.5), "fine": (tissue(512, 512, seed=3), 0.25), "mixed": (mixed, 0.5)}
    made["flat"] = (np.full((256, 256, 3), (205, 120, 180), np.uint8), 0.5)
    return {
        name: write_tiff(folder / f"{name}.tif", pixels, mpp=mpp, tile=64)
        for name, (pixels, mpp) in made.items()
    }


@pytest.fixture(scope="session")
def stained(slides: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Called with mode and target: a dataset of those slides; the same one for the same arguments."""
    made: dict[tuple[str, str], Path] = {}

    def make(mode: str, target: stain.Target | None = None) -> Path:
        goal = target or stain.Target.default()
        key = mode, goal.name
        if key not in made:
            root = made[key] = tmp_path_factory.mktemp("stained") / mode
            settings = StainParams(mode, target=goal)  # type: ignore[arg-type]
            params = ShardParams(tile=64, region=256, quality=95, stain=settings)
            build = prepare(root, params, rebuild=False)
            for name, path in slides.items():
                pipeline.process(ShardTask(root, SlideSource(path, name=name), params, build))
        return made[key]

    return make


@pytest.fixture
def normalising(stained: Make, tmp_path: Path) -> Make:
    """Called with a target and overrides: a run of a tiny network that normalises stain to it."""
    count = 0

    def make(target: stain.Target | None = None, *more: str) -> Path:
        nonlocal count
        count += 1
        dataset = stained("fit")
        path = write_run(tmp_path / f"run{count}", dataset)
        recipe = load("smoke", [*TINY, "steps=20", "stain.mode=normalize", *more])
        (path / "recipe.yaml").write_text(dump(recipe))
        ModelTarget.of(target or stain.Target.default(), Dataset(dataset)).save(path)
        return path

    return make

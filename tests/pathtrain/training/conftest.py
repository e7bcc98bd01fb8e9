"""A dataset of two slides, and an undisturbed run on it."""

from pathlib import Path

import pytest
from helpers.toys import noise, write_dataset
from helpers.training import train


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 48, (90, 60, 140), seed=2)}
    return write_dataset(tmp_path_factory.mktemp("training") / "dataset", slides)


@pytest.fixture(scope="session")
def straight(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("training") / "straight"
    train(dataset, run)
    return run

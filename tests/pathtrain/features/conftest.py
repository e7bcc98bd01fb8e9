"""A dataset of two tile sizes, and a run of a tiny network on it."""

from pathlib import Path

import pytest
from helpers.toys import noise, write_dataset, write_run


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {"a": noise(13, seed=1), "b": noise(5, side=64, seed=2), "empty": []}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)

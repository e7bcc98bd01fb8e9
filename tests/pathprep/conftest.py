"""A dataset that was drawn and sharded, and a mix of it."""

from pathlib import Path

import pytest

import pathprep
from pathprep.testing import small_dataset


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides of 64 px tiles, stored plain with their fits."""
    return small_dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_mix(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tiles in mixed shards of 50."""
    root = tmp_path_factory.mktemp("mix")
    pathprep.mix([small], root, tiles_per_shard=50)
    return root

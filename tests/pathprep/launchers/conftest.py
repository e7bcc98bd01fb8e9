"""Slides to share out, and what an undisturbed run makes of them."""

from pathlib import Path
from typing import Any

import pytest
from helpers.runs import contents
from helpers.slides import tissue, write_tiff

from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.slides import find

PARAMS = ShardParams(tile=64, region=16 * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(6):
        write_tiff(folder / f"s{number}.tif", tissue(600 + 100 * number, 900, seed=number, margin=100))
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("undisturbed")
    run.shard(find.find([folder]), root, PARAMS)
    return contents(root)

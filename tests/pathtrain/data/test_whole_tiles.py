"""Tiles of a dataset for inference: which belong together."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff

from pathprep.errors import UsageError
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import run
from pathprep.slides import find
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles


def test_a_slide_at_several_resolutions_is_one_group(tmp_path: Path) -> None:
    for number in range(2):
        write_tiff(tmp_path / f"s{number}.tif", tissue(600, 700, seed=number, margin=100))
    params = ShardParams(
        tile=64, mpp=1.0, more_mpps=(0.5,), mode="resize", region=1024, stain=StainParams("none")
    )
    summary = run.shard(find.find([tmp_path]), tmp_path / "d", params)
    assert not summary.failures
    tiles = DatasetTiles(tmp_path / "d")
    assert tiles.slides == ["s0_mpp0-5", "s0_mpp1", "s1_mpp0-5", "s1_mpp1"]
    assert tiles.groups == ["s0", "s1"]
    counts = np.bincount(tiles.slide)
    assert np.bincount(tiles.group).tolist() == [counts[:2].sum(), counts[2:].sum()]


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png"])
def test_a_table_cannot_name_files_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"file,label\na.png,x\n{name},y\n")
    with pytest.raises(UsageError, match=r"labels\.csv, line 3: .* is outside .* link to its folder"):
        FolderTiles(tmp_path)

"""The mapped index of a large dataset: equal to the tables, fresh, safe to kill, share, damage and delete."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.indexed import EVERY, assert_right, dataset, expected, files, write

from pathprep.dataset import columns, index_cache, listing
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.storage import atomic
from pathprep.storage.seals import sealed


def test_every_column_equals_the_tables(tmp_path: Path, either: str) -> None:
    root = dataset(tmp_path, b=30, a=7, none=0, c=1)
    index = Dataset(root).tiles(EVERY)
    assert index.slides == ["a", "b", "c"]
    assert_right(root, index)
    assert Dataset(root).tile_counts() == {"a": 7, "b": 30, "c": 1, "none": 0}
    assert (root / "tiles").exists() == (either == "mapped")
    if either == "mapped":
        assert_right(root, Dataset(root).tiles(EVERY))  # read back, not as built
        assert not any(array.flags.writeable for array in index.columns.values())


def test_a_tile_a_slide_a_region_and_a_cell_are_found(tmp_path: Path, either: str) -> None:
    root = dataset(tmp_path, a=250, b=3, c=90)
    index = Dataset(root).tiles(["region", "column", "row"])
    names, values = expected(root)
    slide_of = [name for name in names for _ in index.tiles_of(name)]
    assert [index.locate(tile)[0] for tile in range(len(index))] == slide_of
    for name in names:
        tiles = index.tiles_of(name)
        assert [index.locate(tile) for tile in tiles] == [(name, row) for row in range(len(tiles))]
        regions = [values["region"][tile] for tile in tiles]
        assert index.region_ids(name).tolist() == sorted(set(regions))
        for region in range(-1, max(regions) + 2):
            found = [tile for tile in tiles if values["region"][tile] == region]
            assert index.region(name, region).tolist() == found
        cells = {(values["column"][tile], values["row"][tile]): tile for tile in tiles}
        for column in range(-1, 21):
            for line in range(16):
                assert index.at(name, column, line) == cells.get((column, line))
    for wrong in (-1, len(index)):
        with pytest.raises(IndexError):
            index.locate(wrong)
    with pytest.raises(KeyError):
        index.tiles_of("absent")


@pytest.mark.parametrize("tiles", [{}, {"a": 0, "b": 0}])
def test_no_tiles(tmp_path: Path, either: str, tiles: dict[str, int]) -> None:
    write(tmp_path, "gone", 1)
    (tmp_path / "slides" / "gone.json").unlink()
    index = Dataset(dataset(tmp_path, **tiles)).tiles(EVERY)
    assert (len(index), index.slides, index.starts.tolist()) == (0, [], [0])
    assert all(len(array) == 0 for array in index.columns.values())
    assert Dataset(tmp_path).tile_counts() == tiles


def test_opening_again_reads_no_marker_and_no_table(
    tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path, a=5, b=6)
    Dataset(root).tiles(["x", "region"])
    before = files(root)
    monkeypatch.setattr(listing, "sealed_in", lambda *_: 1 / 0)
    assert len(Dataset(root).tiles(["x", "region"])) == 11
    assert Dataset(root).tile_counts() == {"a": 5, "b": 6}
    assert files(root) == before


def test_a_column_is_made_when_it_is_first_asked_for(tmp_path: Path, mapped: None) -> None:
    root = dataset(tmp_path, a=5, b=6)
    Dataset(root).tiles(["x"])
    before = files(root)
    assert not [name for name in before if name.endswith("he.npy")]
    assert_right(root, Dataset(root).tiles(["x", "he"]))
    x = next(name for name in before if name.endswith("x.npy"))
    assert files(root)[x] == before[x]


@pytest.mark.parametrize("change", ["add", "again", "remove", "empty", "other build"])
def test_a_changed_slide_makes_another_index(tmp_path: Path, mapped: None, change: str) -> None:
    root = dataset(tmp_path, a=5, b=6)
    old = Dataset(root).tiles(EVERY)
    first = old.columns["offset"].copy()
    if change == "add":
        write(root, "ab", 4)
    elif change == "again":
        write(root, "a", 5, seed=1)  # as many tiles, of other places
    elif change == "remove":
        (root / "slides/a.json").unlink()
    elif change == "empty":
        write(root, "a", 0)
    else:
        values = json.loads((root / "slides/a.json").read_text())
        atomic.write_json(root / "slides/a.json", sealed({**values, "build_id": "another"}))
    assert_right(root, Dataset(root).tiles(EVERY))
    assert len([path for path in (root / "tiles").iterdir() if path.is_dir()]) == 1
    assert np.array_equal(old.columns["offset"], first)  # a process that has it mapped keeps it


def test_a_slide_replaced_within_the_clocks_resolution_is_seen(tmp_path: Path, mapped: None) -> None:
    write(tmp_path, "a", 5)  # not settled: just written
    old = (tmp_path / "slides/a.json").stat()
    Dataset(tmp_path).tiles(EVERY)
    write(tmp_path, "a", 5, seed=1)
    os.utime(tmp_path / "slides/a.json", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (tmp_path / "slides/a.json").stat().st_size == old.st_size
    assert_right(tmp_path, Dataset(tmp_path).tiles(EVERY))


def test_touched_markers_cost_a_look_and_no_new_index(
    tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path, a=5, b=6)
    Dataset(root).tiles(["x"])
    before = files(root)
    os.utime(root / "slides/a.json", (0, 0))
    monkeypatch.setattr(index_cache, "tables", lambda *_: 1 / 0)
    assert len(Dataset(root).tiles(["x"])) == 11
    array = [name for name in before if name.endswith("x.npy")]
    assert [files(root)[name] for name in array] == [before[name] for name in array]
    monkeypatch.setattr(listing, "sealed_in", lambda *_: 1 / 0)
    assert len(Dataset(root).tiles(["x"])) == 11  # the new listing is remembered


def test_what_others_put_there_stays(tmp_path: Path, mapped: None) -> None:
    root = dataset(tmp_path, a=5)
    for name in ("mine", "0123456789abcdef"):
        (root / "tiles" / name).mkdir(parents=True)
        (root / "tiles" / name / "tile.png").touch()
    Dataset(root).tiles(["x"])
    write(root, "b", 3)
    Dataset(root).tiles(["x"])
    assert (root / "tiles/mine/tile.png").exists()
    assert (root / "tiles/0123456789abcdef/tile.png").exists()
    assert len(list(root.glob("tiles/*/x.npy"))) == 1


def test_a_full_disk_is_said(tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path, a=5)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(columns, "write", full)
    with pytest.raises(
        DatasetError, match="tiles: .* cannot be written .No space left on device.; make room"
    ):
        Dataset(root).tiles(["x"])


def test_few_slides_make_no_index(tmp_path: Path) -> None:
    root = dataset(tmp_path, a=20, b=30)
    assert_right(root, Dataset(root).tiles(EVERY))
    assert not (root / "tiles").exists()
    assert len(Dataset(root).slides) < index_cache.MAPPED_FROM

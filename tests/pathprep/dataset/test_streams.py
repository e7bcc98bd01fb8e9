"""Tiles for a plain PyTorch loop: webdataset pipelines and map-style datasets."""

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import pathprep
from pathprep import stain
from pathprep.dataset.maps import Restain
from pathprep.dataset.stored import StoredTiles
from pathprep.errors import DatasetError, UsageError
from pathprep.stain import Jitter, Target


@pytest.fixture(params=["dataset", "mix"])
def data(request: pytest.FixtureRequest, small: Path, small_mix: Path) -> Iterator[StoredTiles]:
    found = pathprep.open(small if request.param == "dataset" else small_mix)
    yield found
    found.close()


def keys(samples: Any) -> list[str]:
    return [sample["__key__"] for sample in samples]


def to_float(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def test_a_stream_gives_what_the_index_says(data: StoredTiles) -> None:
    samples = list(data.webdataset(shuffle=0))
    for sample, tile in zip(samples, data, strict=True):
        assert (sample["slide"], sample["x"], sample["y"]) == (tile.slide, tile.x, tile.y)
        np.testing.assert_array_equal(sample["jpg"], tile.pixels)
        assert "label" not in sample
    assert len(set(keys(samples))) == len(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_tile_comes_once_over_nodes_and_workers(
    data: StoredTiles, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Counter[str] = Counter()
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        pipeline = data.webdataset(transform=to_float).batched(16)
        for batch in DataLoader(pipeline, batch_size=None, num_workers=workers):
            assert batch["jpg"].shape[1:] == (3, 64, 64)
            found.update(batch["__key__"])
    assert len(found) == len(data)
    assert set(found.values()) == {1}


def test_the_order_is_the_seeds(data: StoredTiles) -> None:
    plain = keys(data.webdataset(shuffle=0))
    pipeline = data.webdataset(seed=3)
    first, second = keys(pipeline), keys(pipeline)
    assert first == keys(data.webdataset(seed=3))
    assert second == keys(data.webdataset(seed=4))  # the next epoch
    assert len({tuple(order) for order in (plain, first, second)}) == 3
    assert sorted(plain) == sorted(first) == sorted(second)


@pytest.mark.parametrize("fit", ["stored", "load"])
def test_normalising(data: StoredTiles, fit: Any) -> None:
    target = Target(np.array([[0.65, 0.1], [0.7, 0.95], [0.29, 0.3]]), np.array([1.2, 0.8]), "other")
    sets = (
        data.webdataset(shuffle=0, stain=Restain(target, fit=fit)),
        data.torch(stain=Restain(target, fit=fit)),
    )
    for tile, *samples in zip(data, *sets, strict=True):
        own = tile.fit if fit == "stored" else stain.fit([tile.pixels])
        expected = tile.pixels if own is None else stain.normalize([tile.pixels], own, target)[0]
        for sample in samples:
            np.testing.assert_array_equal(sample["jpg"], expected)


def test_jitter_changes_each_tile_by_a_little_and_anew(data: StoredTiles) -> None:
    how = Restain(jitter=Jitter(0.1))
    one, same, other = (data.torch(stain=how, seed=seed)[5]["jpg"].astype(int) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    for changed in (one, other):
        assert 0 < np.abs(changed - data[5].pixels).max() < 60
    assert (one != other).any()
    again = data.torch(stain=how, seed=1)
    assert (again[5]["jpg"] != again[5]["jpg"]).any()


def test_map_style_in_workers(data: StoredTiles) -> None:
    tiles = data.torch(transform=to_float)
    assert isinstance(tiles, torch.utils.data.Dataset)
    assert len(tiles) == len(data)
    found = []
    for batch in DataLoader(tiles, batch_size=50, shuffle=True, num_workers=2):
        assert batch["jpg"].dtype == torch.float32
        found += batch["__key__"]
    assert sorted(found) == sorted(keys(tiles))
    other = pickle.loads(pickle.dumps(tiles))
    assert torch.equal(other[-1]["jpg"], tiles[len(tiles) - 1]["jpg"])
    with pytest.raises(IndexError, match=f"no tile {len(data)} of {len(data)}"):
        tiles[len(data)]


def test_slides_and_their_labels(data: StoredTiles) -> None:
    labels = {"synth-000": 0, "synth-001": 1}
    expected = {tile.x: 1 for tile in data.slide("synth-001")}
    for samples in (
        data.webdataset(slides=["synth-001"], labels=labels),
        data.torch(slides=["synth-001"], labels=labels),
    ):
        found = list(samples)
        assert {sample["x"]: sample["label"] for sample in found} == expected
        assert len(found) == len(data.slide("synth-001"))
    for make in (data.webdataset, data.torch):
        with pytest.raises(UsageError, match="no slide 'synth-1'; the nearest name is 'synth-"):
            make(slides=["synth-1"])
        with pytest.raises(UsageError, match="`labels` has none for 1 slide of .*: synth-001;"):
            make(labels={"synth-000": 0})


def test_damage_is_noticed(data: StoredTiles, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data.root, tmp_path / "copy"))
    tar = root / "shards" / f"{data.tars()[0]}.tar"
    at = tar.read_bytes().index(data[3].jpeg)
    fix = f"run `pathprep verify {root}`"
    with tar.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff\x00\xff", at + 100)
    with pytest.raises(DatasetError, match=f"{tar}: tile .*is damaged .*CRC32.*; {fix}"):
        list(pathprep.open(root).webdataset())
    with pytest.raises(DatasetError, match=f"{tar}: tile .*is damaged .*CRC32.*; {fix}"):
        pathprep.open(root).torch()[3]
    for size in (at + 100, at - 512):  # within a tile; and where one ends
        os.truncate(tar, size)
        with pytest.raises(DatasetError, match=f"{tar}: .*; {fix}"):
            list(pathprep.open(root).webdataset())
    tar.unlink()
    with pytest.raises(DatasetError, match=f"{tar}: No such file or directory; {fix}"):
        list(pathprep.open(root).webdataset())


def test_stain_that_cannot_be_done(small: Path) -> None:
    with pytest.raises(UsageError, match="give a `target` to normalise to, or `jitter`"):
        Restain()
    with pytest.raises(UsageError, match="`fit` is 'often'; expected 'stored' or 'load'"):
        Restain(Target.default(), fit="often")  # type: ignore[arg-type]
    for mode, fits, says in (("bake", True, "already normalised"), ("none", False, "`fit` 'load'")):
        with pytest.raises(UsageError, match=f"here: .*{says}"):
            Restain(Target.default()).check("here", {"mode": mode}, fits)

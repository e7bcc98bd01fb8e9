"""Training on mixed shards: the order is the shards', and all else is as on the datasets that were mixed."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.toys import TINY, noise, write_dataset

import pathprep
from pathprep import permutation
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.mixed.make import mix
from pathprep.mixed.reader import MixedDataset
from pathprep.storage.seals import write_sealed
from pathtrain.data import mixed_source as mixed
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.data.mixed_source import MixedSource
from pathtrain.data.source import DatasetSource
from pathtrain.data.training_data import of
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import TrainError
from pathtrain.recipes.load import load

COUNT = 22  # in shards of 5, 6, 5 and 6
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 tiles of two native sizes on two slides."""
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 96, (90, 60, 140), seed=2)}
    return write_dataset(tmp_path_factory.mktemp("mixed") / "dataset", slides)


@pytest.fixture(scope="module")
def shuffled(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed") / "mixed"
    mix([plain], root, tiles_per_shard=6, seed=5)
    return root


@pytest.fixture
def copy(shuffled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shuffled, tmp_path / "mixed"))


def options(batch: int = 6, *more: str) -> BatchOptions:
    return BatchOptions.of(load("smoke", [*TINY, f"batch={batch}", *more]))


def rows(root: Path) -> list[dict[str, Any]]:
    """Of all shards, one after the other."""
    return [row for path in sorted(root.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()]


def expected(root: Path, positions: np.ndarray, seed: int = 0) -> list[int]:
    """Evaluated one by one: the shards of an epoch in their permuted order, each from its beginning on."""
    sizes = [len(pq.read_table(path)) for path in sorted(root.glob("index/*.parquet"))]
    found = []
    for position in positions.tolist():
        epoch, place = divmod(position, sum(sizes))
        every = []
        for at in range(len(sizes)):
            shard = int(permutation.permuted(epoch * len(sizes) + at, len(sizes), seed)[0])
            every += range(sum(sizes[:shard]), sum(sizes[: shard + 1]))
        found.append(every[place])
    return found


def same(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.tiles, other.tiles) and all(map(torch.equal, one.views, other.views))


def take(count: int, root: Path, *args: Any, **kwargs: Any) -> list[Batch]:
    return list(islice(Loader(of(pathprep.open(root)), *args, **kwargs), count))


def test_the_order_is_that_of_the_shards(shuffled: Path) -> None:
    batches = take(9, shuffled, options())
    for step, batch in enumerate(batches):
        assert batch.tiles.tolist() == expected(shuffled, np.arange(6 * step, 6 * step + 6))
    seen = np.concatenate([batch.tiles for batch in batches])
    for epoch in (0, 1):
        assert sorted(seen[COUNT * epoch : COUNT * (epoch + 1)].tolist()) == list(range(COUNT))
    assert not np.array_equal(seen[:COUNT], seen[COUNT : 2 * COUNT])


def test_seeds_differ(shuffled: Path) -> None:
    source, positions = MixedSource(MixedDataset(shuffled)), np.arange(40)
    orders = {tuple(source.order(positions, seed).tolist()) for seed in range(12)}
    assert len(orders) > 6  # of 24 * 24
    assert orders == {tuple(expected(shuffled, positions, seed)) for seed in range(12)}


def test_pixels_are_those_of_the_dataset(plain: Path, shuffled: Path) -> None:
    """Same tile, same position: the same views, bit by bit, though the bytes went another way."""
    places = DatasetSource(Dataset(plain))
    numbers = {places.name(tile): tile for tile in range(COUNT)}
    number = np.array(
        [numbers[f"slide {row['slide']}, tile {row['x']}_{row['y']}"] for row in rows(shuffled)]
    )
    other = Loader(of(Dataset(plain)), options())
    order = MixedSource(MixedDataset(shuffled)).order
    other.source.order = lambda positions, seed: number[order(positions, seed)]  # type: ignore[method-assign]
    for mine, theirs in zip(take(9, shuffled, options()), islice(other, 9), strict=True):
        assert np.array_equal(number[mine.tiles], theirs.tiles)
        assert all(map(torch.equal, mine.views, theirs.views))


@pytest.mark.parametrize("segments", [2, 64])
def test_a_restart_at_any_step_gives_the_same(
    shuffled: Path, monkeypatch: pytest.MonkeyPatch, segments: int
) -> None:
    """Also when DALI's reader is opened again at the end of each stretch, here after every step."""
    straight = take(9, shuffled, options())
    monkeypatch.setattr(mixed, "SEGMENTS", segments)
    assert MixedSource(MixedDataset(shuffled)).steps(6) == (1 if segments == 2 else 52)
    for start in (0, 3, 5):
        again = take(9 - start, shuffled, options(), start=start, threads=1)
        assert all(map(same, straight[start:], again))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_take_disjoint_parts_of_the_same_steps(shuffled: Path, world: int) -> None:
    straight = take(6, shuffled, options(7))
    for rank in range(world):
        for step, batch in enumerate(take(3, shuffled, options(7), 3, Ranks(rank, world)), 3):
            assert np.array_equal(batch.tiles, straight[step].tiles[rank::world])
            views = [view[rank::world] for view in straight[step].views]
            assert all(map(torch.equal, batch.views, views))


def test_what_the_reader_reads_are_the_tars_bytes(shuffled: Path) -> None:
    source = MixedSource(MixedDataset(shuffled))
    for tile, row in enumerate(rows(shuffled)):
        place = source.place(tile)
        assert (shuffled / place.tar).read_bytes()[
            row["offset"] : row["offset"] + row["length"]
        ] == source.read(tile)
        assert zlib.crc32(source.read(tile)) == row["crc32"]
        assert source.name(tile).startswith(f"slide {row['slide']}, tile {row['x']}_{row['y']} in mixed-")


def record(root: Path, path: Path) -> None:
    """Have mixed.json vouch for an index as it is now."""
    info = json.loads((root / "mixed.json").read_text())
    (shard,) = (each for each in info["shards"] if each["shard"] == path.stem)
    data = path.read_bytes()
    shard["files"][f"index/{path.name}"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_sealed(root / "mixed.json", info)


def spoil(root: Path, tile: int, how: str) -> str:
    """Damage a tile; what is said of it."""
    source = MixedSource(MixedDataset(root))
    place = source.place(tile)
    if how == "short":
        os.truncate(root / place.tar, place.offset + place.length - 1)
        return "its tar ends too early"
    with (root / place.tar).open("r+b") as tar:
        tar.seek(place.offset + (200 if how == "CRC" else 0))
        tar.write(b"x" * (4 if how == "CRC" else place.length))
    if how == "CRC":
        return "its CRC32 differs"
    path = root / "index" / f"{Path(place.tar).stem}.parquet"
    table = pq.read_table(path)
    changed = [
        {**row, "crc32": zlib.crc32(b"x" * place.length)} if row["offset"] == place.offset else row
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(changed, table.schema), path)
    record(root, path)
    return "cannot be decoded (Could not determine subsampling level of JPEG image)"


@pytest.mark.parametrize("how", ["CRC", "short", "JPEG"])
@pytest.mark.parametrize("stain", [[], ["stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.2"]])
def test_damaged_tiles_are_replaced(copy: Path, how: str, stain: list[str]) -> None:
    last = 4  # of the first shard, so that no other is cut off with it
    said = spoil(copy, last, how)
    loader = Loader(of(pathprep.open(copy)), options(6, *stain))
    batches = list(islice(loader, 5))
    assert [found.tile for found in loader.damaged] == [last]
    assert loader.damaged[0].reason.startswith(said.partition("(")[0])
    for step, batch in enumerate(batches):
        wanted = []
        for position in range(6 * step, 6 * step + 6):
            (tile,) = expected(copy, np.array([position]))
            wanted += expected(copy, np.array([position + 1])) if tile == last else [tile]
        assert batch.tiles.tolist() == wanted
    for start in (2, 4):
        again = take(5 - start, copy, options(6, *stain), start=start)
        assert all(map(same, batches[start:], again))
    half = take(5, copy, options(6, *stain), ranks=Ranks(1, 2))
    for one, whole in zip(half, batches, strict=True):
        assert all(torch.equal(a, b[1::2]) for a, b in zip(one.views, whole.views, strict=True))
    with pytest.raises(TrainError, match=r"1 tile is damaged, more than loader.max_damaged=0: slide ., tile"):
        take(5, copy, options(6, *stain, "loader.max_damaged=0"))


def test_a_tar_that_is_gone(copy: Path) -> None:
    (copy / "shards" / "mixed-000001.tar").unlink()
    with pytest.raises(DatasetError, match=r"mixed-000001.tar: No such file .*; run `pathprep verify"):
        take(5, copy, options())


def test_an_index_that_does_not_fit(copy: Path) -> None:
    path = copy / "index" / "mixed-000000.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DatasetError, match=r"mixed-000000.parquet: .*vouches for \(SHA-256\).*; run"):
        take(1, copy, options())
    record(copy, path)
    with pytest.raises(DatasetError, match=r"mixed-000000.parquet: .*4 rows, mixed.json says 5.*; run"):
        take(1, copy, options())
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"mixed-000000.parquet: .*; run `pathprep verify"):
        take(1, copy, options())


@pytest.mark.parametrize("fit", ["stored", "load"])
def test_stain_is_that_of_the_dataset(stained: Make, tmp_path: Path, fit: str) -> None:
    """With the fits of the dataset, and with fits that are made on loading."""
    plain = stained("fit")
    mix([plain], tmp_path / "mixed", tiles_per_shard=10)
    wanted = options(9, "stain.mode=normalize", "stain.concentration=0.2", f"stain.fit={fit}")
    mine = Loader(of(pathprep.open(tmp_path / "mixed")), wanted)
    places = DatasetSource(Dataset(plain))
    numbers = {places.name(tile): tile for tile in range(len(places))}
    keys = [f"slide {row['slide']}, tile {row['x']}_{row['y']}" for row in rows(tmp_path / "mixed")]
    number = np.array([numbers[key] for key in keys])
    other, order = Loader(of(Dataset(plain)), wanted), mine.source.order
    other.source.order = lambda positions, seed: number[order(positions, seed)]  # type: ignore[method-assign]
    for one, two in zip(islice(mine, 4), islice(other, 4), strict=True):
        assert np.array_equal(number[one.tiles], two.tiles)
        assert all(map(torch.equal, one.views, two.views))
    if fit == "stored":
        every = np.arange(len(places))
        for name in ("he", "max_c", "status"):
            found, stored = mine.source.fits().take(every), places.fits().take(number)
            assert np.array_equal(getattr(found, name), getattr(stored, name))
    else:
        assert sum(mine.unfitted) >= 36


def test_baked_mixes_hold_no_fits(stained: Make, tmp_path: Path) -> None:
    mix([stained("bake")], tmp_path / "mixed")
    with pytest.raises(
        TrainError, match=r"holds no stain fits, which stain.mode=jitter needs; use stain.fit=load"
    ):
        Loader(
            of(pathprep.open(tmp_path / "mixed")), options(6, "stain.mode=jitter", "stain.concentration=0.2")
        )


def test_which_folder_is_what(plain: Path, shuffled: Path, copy: Path, tmp_path: Path) -> None:
    assert isinstance(pathprep.open(plain), Dataset)
    data = pathprep.open(shuffled)
    assert isinstance(data, MixedDataset)
    assert data.info["build_id"] == json.loads((shuffled / "mixed.json").read_text())["mix_id"]
    assert list(data.tile_counts().values()) == [5, 6, 5, 6]
    with pytest.raises(DatasetError, match="not a dataset"):
        pathprep.open(tmp_path / "nowhere")
    (copy / "unfinished").mkdir(exist_ok=True)
    (copy / "unfinished" / "plan.json").write_text("{}")
    (copy / "mixed.json").unlink()
    with pytest.raises(DatasetError, match="not finished; run the same `pathprep mix` again"):
        pathprep.open(copy)

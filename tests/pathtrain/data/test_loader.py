"""Batches: the same from any step, rank or batch cut; mixed sizes; damaged and missing tiles are named."""

import errno
import json
import os
import re
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import TINY, noise, rewrite, spoil, write_dataset

from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.storage.local import LocalStorage
from pathtrain.data import order, view_graph
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.data.source import DatasetSource
from pathtrain.data.training_data import of
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import TrainError
from pathtrain.recipes.load import load


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 tiles of two native sizes on two slides, and a slide without a tile."""
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 96, (90, 60, 140), seed=2), "empty": []}
    return write_dataset(tmp_path_factory.mktemp("loader") / "dataset", slides)


def options(batch: int = 6, *more: str) -> BatchOptions:
    return BatchOptions.of(load("smoke", [*TINY, f"batch={batch}", *more]))


def take(count: int, data: Dataset, *args: object, **kwargs: object) -> list[Batch]:
    return list(islice(Loader(of(data), *args, **kwargs), count))  # type: ignore[arg-type]


def test_views_have_the_recipes_shapes_and_every_tile_comes_once_an_epoch(dataset: Path) -> None:
    batches = take(4, Dataset(dataset), options())
    for batch in batches:
        assert [tuple(view.shape) for view in batch.views] == [(6, 3, 32, 32)] * 2 + [(6, 3, 16, 16)] * 4
        assert all(view.dtype == torch.float32 for view in batch.views)
    seen = np.concatenate([batch.tiles for batch in batches])
    assert np.array_equal(np.sort(seen[:22]), np.arange(22))


def test_a_tile_of_one_colour_comes_from_the_slide_that_has_it(dataset: Path) -> None:
    """Tile numbers and pixels belong together: slide a is bright, slide b dark."""
    plain = ["views.jitter.p=0", "views.greyscale=0", "views.globals.solarise=[0]"]
    (batch,) = take(1, Dataset(dataset), options(22, *plain))
    brightness = batch.views[0].mean(dim=(1, 2, 3)).numpy()
    assert np.array_equal(brightness > 0.1, batch.tiles < 15)


def test_views_stay_as_they_were_given(dataset: Path) -> None:
    """They are DALI's own memory, not copies: later batches must not overwrite them."""
    batches = iter(Loader(of(Dataset(dataset)), options()))
    first = next(batches)
    before = [view.clone() for view in first.views]
    for _ in range(5):
        next(batches)
    assert all(torch.equal(view, copy) for view, copy in zip(first.views, before, strict=True))


def test_starting_later_gives_the_same_batches(dataset: Path) -> None:
    straight = take(5, Dataset(dataset), options())
    later = take(2, Dataset(dataset), options(), start=3, threads=1)
    for one, other in zip(straight[3:], later, strict=True):
        assert np.array_equal(one.tiles, other.tiles)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_a_mapped_index_gives_the_same_batches(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = take(2, Dataset(dataset), options())
    monkeypatch.setattr(index_cache, "MAPPED_FROM", 1)
    mapped = take(2, Dataset(dataset), options())
    assert list(dataset.glob("tiles/*/crc32.npy"))
    for one, other in zip(held, mapped, strict=True):
        assert np.array_equal(one.tiles, other.tiles)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def same(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.tiles, other.tiles) and all(map(torch.equal, one.views, other.views))


@pytest.mark.parametrize("world", [2, 3])
def test_any_rank_may_start_anywhere(dataset: Path, world: int) -> None:
    """Also where ranks have steps of differing sizes: 7 tiles."""
    straight = take(6, Dataset(dataset), options(7))
    for rank, start in ((0, 4), (world - 1, 3)):
        for step, batch in enumerate(take(2, Dataset(dataset), options(7), start, Ranks(rank, world)), start):
            assert np.array_equal(batch.tiles, order.permuted(order.positions(step, 7, rank, world), 22, 0))
            assert all(map(torch.equal, batch.views, [view[rank::world] for view in straight[step].views]))


def test_ranks_and_batch_size_cut_the_same_sequence(dataset: Path) -> None:
    whole = take(2, Dataset(dataset), options(6))
    small = take(4, Dataset(dataset), options(3))
    ranks = [take(2, Dataset(dataset), options(6), ranks=Ranks(rank, 4)) for rank in range(4)]
    for number in range(6):
        expected = torch.cat([batch.views[number] for batch in whole])
        assert torch.equal(torch.cat([batch.views[number] for batch in small]), expected)
        for rank in range(4):
            mine = torch.cat([batch.views[number] for batch in ranks[rank]])
            theirs = torch.cat([batch.views[number][rank::4] for batch in whole])
            assert torch.equal(mine, theirs)


def test_fewer_tiles_than_a_batch(dataset: Path) -> None:
    (batch,) = take(1, Dataset(dataset), options(50))
    assert len(batch.views[0]) == 50
    assert np.array_equal(np.sort(batch.tiles[:22]), np.arange(22))


def test_a_dataset_without_tiles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no tiles to train on"):
        Loader(of(Dataset(write_dataset(tmp_path / "dataset", {"empty": []}))), options())


ROOM = "loader.max_damaged=3"


@pytest.fixture(params=["CRC", "short", "JPEG", "header"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[int], str]:
    """22 tiles of two sizes, some of them damaged in one way: the folder, their numbers, what is said."""
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 96, (90, 60, 140), seed=2)}
    root = write_dataset(tmp_path / "dataset", slides)
    if request.param == "CRC":
        spoil(root, "a", 3, b"\0\1\2\3")
        spoil(root, "b", 0, b"\0\1\2\3")
        return root, [3, 15], "its CRC32 differs"
    if request.param == "short":
        row = Dataset(root).table("b").to_pylist()[5]
        os.truncate(root / "shards" / "b.tar", row["offset"] + 100)
        return root, [20, 21], "its tar ends [0-9]+ bytes too early"
    spoil(root, "a", 3, None, header=request.param == "header")
    spoil(root, "a", 4, None, header=request.param == "header")
    return root, [3, 4], r"cannot be decoded \(.+\)"


def replaced(positions: np.ndarray, bad: list[int], seed: int = 0, count: int = 22) -> list[int]:
    """Evaluated one by one: the tile of a position, or of the next one where it is intact."""
    found = []
    for position in positions.tolist():
        while int(order.permuted(position, count, seed)[0]) in bad:
            position += 1
        found.append(int(order.permuted(position, count, seed)[0]))
    return found


def test_damaged_tiles_are_replaced_by_the_next_positions(damaged: tuple[Path, list[int], str]) -> None:
    root, bad, said = damaged
    loader = Loader(of(Dataset(root)), options(6, ROOM))
    batches = list(islice(loader, 5))
    for step, batch in enumerate(batches):
        assert batch.tiles.tolist() == replaced(order.positions(step, 6), bad)
        assert np.array_equal(loader.tiles(step), batch.tiles)
    assert sorted(found.tile for found in loader.damaged) == bad
    for found in loader.damaged:
        assert re.fullmatch(rf"slide {'ab'[found.tile >= 15]}, tile \d+_\d+: {said}", str(found))


def test_what_is_no_jpeg_never_reaches_dali(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DALI may crash on it, now and then: so it is not even asked what is wrong."""
    root = write_dataset(tmp_path / "dataset", {"a": noise(60, 48)})
    rng = np.random.default_rng(0)
    lengths = Dataset(root).table("a")["length"].to_pylist()
    starts = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM", b"RIFF", b"\0" * 99]
    bad = set(range(0, 60, 2))
    for tile in bad:
        start = starts[tile // 2 % len(starts)]
        rewrite(root, "a", tile, (start + rng.bytes(lengths[tile]))[: lengths[tile]])
    monkeypatch.setattr(view_graph, "undecodable", pytest.fail)
    loader = Loader(of(Dataset(root)), options(6, "loader.max_damaged=30"))
    seen = np.concatenate([batch.tiles for batch in islice(loader, 30)])
    assert not bad & set(seen.tolist())
    assert {found.tile for found in loader.damaged} == bad
    assert all(found.reason.startswith("cannot be decoded (") for found in loader.damaged)


def test_a_restart_and_other_ranks_replace_alike(damaged: tuple[Path, list[int], str]) -> None:
    root, _, _ = damaged
    straight = take(5, Dataset(root), options(6, ROOM))
    for start in (1, 4):
        again = take(5 - start, Dataset(root), options(6, ROOM), start=start)
        assert all(same(one, other) for one, other in zip(straight[start:], again, strict=True))
    for world in (2, 3):
        for rank in range(world):
            mine = take(2, Dataset(root), options(6, ROOM), ranks=Ranks(rank, world), start=2)
            for step, batch in enumerate(mine, 2):
                assert np.array_equal(batch.tiles, straight[step].tiles[rank::world])
                expected = [view[rank::world] for view in straight[step].views]
                assert all(map(torch.equal, batch.views, expected))


def test_views_of_a_replaced_tile_are_those_of_the_position(damaged: tuple[Path, list[int], str]) -> None:
    """The pixels are the substitute's, as from a dataset in whose order it stands there."""
    root, bad, _ = damaged
    batches = take(4, Dataset(root), options(6, ROOM))
    other = Loader(of(Dataset(root)), options(6, ROOM))
    other.source.order = lambda positions, seed: np.array(replaced(positions, bad, seed))  # type: ignore[method-assign]
    assert all(same(one, two) for one, two in zip(batches, islice(other, 4), strict=True))
    assert other.damaged == []


def test_too_many_damaged_tiles_stop_training(damaged: tuple[Path, list[int], str]) -> None:
    root, _, said = damaged
    message = rf"2 tiles are damaged, more than loader.max_damaged=1: slide ., tile \d+_\d+: {said}; .*verify"
    with pytest.raises(TrainError, match=message):
        take(5, Dataset(root), options(6, "loader.max_damaged=1"))


def test_nothing_but_damaged_tiles(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset", {"a": noise(2, 64)})
    spoil(root, "a", 0, b"\0")
    spoil(root, "a", 1, b"\0")
    with pytest.raises(TrainError, match=r"every tile is damaged; run `pathprep verify"):
        take(1, Dataset(root), options(2))


def test_a_tar_that_is_gone_is_no_damaged_tile(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset", {"a": noise(2, 64)})
    (root / "shards" / "a.tar").unlink()
    with pytest.raises(DatasetError, match=r"a.tar: No such file or directory; run `pathprep verify"):
        take(1, Dataset(root), options(2))


def test_a_disk_that_fails_at_a_place(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, (bad,) = LocalStorage.read_at, order.permuted(2, 22, 0).tolist()
    broken = DatasetSource(Dataset(dataset)).place(bad)

    def failing(self: LocalStorage, name: str, offset: int, length: int) -> bytes:
        if (name, offset) == (broken.tar, broken.offset):
            raise OSError(errno.EIO, "Input/output error")
        return read(self, name, offset, length)

    monkeypatch.setattr(LocalStorage, "read_at", failing)
    loader = Loader(of(Dataset(dataset)), options())
    assert next(iter(loader)).tiles.tolist() == replaced(np.arange(6), [bad])
    assert [found.reason for found in loader.damaged] == ["cannot be read (Input/output error)"]


def test_a_step_has_a_tile_for_each_process(dataset: Path) -> None:
    with pytest.raises(TrainError, match=r"batch=2 is less than a tile for each of 3 processes"):
        Loader(of(Dataset(dataset)), options(2), ranks=Ranks(0, 3))


def test_a_closed_loader_leaves_no_thread(dataset: Path) -> None:
    before = set(threading.enumerate())
    loader = Loader(of(Dataset(dataset)), options())
    next(iter(loader))
    assert {thread.name[:4] for thread in set(threading.enumerate()) - before} >= {"read"}
    loader.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("read")]


def test_the_wait_for_data_is_measured(dataset: Path) -> None:
    batches = take(3, Dataset(dataset), options())
    assert all(0 < batch.wait < 60 for batch in batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_the_gpu_gives_the_cpus_views(dataset: Path) -> None:
    """Same graph, other decoder and arithmetic: within 3 grey levels on average."""
    (cpu,) = take(1, Dataset(dataset), options())
    (gpu,) = take(1, Dataset(dataset), options(), ranks=Ranks(device=torch.device("cuda", 0)))
    for one, other in zip(cpu.views, gpu.views, strict=True):
        assert other.is_cuda
        assert (one - other.cpu()).abs().mean() < 3 / 255 / 0.22


def test_an_index_of_another_dataset_version_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset", {"a": noise(3)})
    info = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**info, "version": 99}))
    with pytest.raises(DatasetError, match="version 99"):
        Loader(of(Dataset(root)), options())

"""Batches: the same from any step, rank or batch cut; mixed sizes; damaged and missing tiles are named."""

import json
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toys import TINY, noise, write_dataset

from pathprep import corpus
from pathprep.errors import DatasetError
from pathprep.shards import Dataset, sha256
from pathtrain.data.loader import Batch, Loader
from pathtrain.errors import TrainError
from pathtrain.recipes.load import load
from pathtrain.recipes.schema import Recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 tiles of two native sizes on two slides, and a slide without a tile."""
    slides = {"a": noise(15, 64, seed=1), "b": noise(7, 96, (90, 60, 140), seed=2), "empty": []}
    return write_dataset(tmp_path_factory.mktemp("loader") / "dataset", slides)


def recipe(batch: int = 6, *more: str) -> Recipe:
    return load("smoke", [*TINY, f"batch={batch}", *more])


def take(count: int, *args: object, **kwargs: object) -> list[Batch]:
    return list(islice(Loader(*args, **kwargs), count))  # type: ignore[arg-type]


def test_views_have_the_recipes_shapes_and_every_tile_comes_once_an_epoch(dataset: Path) -> None:
    batches = take(4, Dataset(dataset), recipe())
    for batch in batches:
        assert [tuple(view.shape) for view in batch.views] == [(6, 3, 32, 32)] * 2 + [(6, 3, 16, 16)] * 4
        assert all(view.dtype == torch.float32 for view in batch.views)
    seen = np.concatenate([batch.tiles for batch in batches])
    assert np.array_equal(np.sort(seen[:22]), np.arange(22))


def test_a_tile_of_one_colour_comes_from_the_slide_that_has_it(dataset: Path) -> None:
    """Tile numbers and pixels belong together: slide a is bright, slide b dark."""
    plain = ["views.jitter.p=0", "views.greyscale=0", "views.globals.solarise=[0]"]
    (batch,) = take(1, Dataset(dataset), recipe(22, *plain))
    brightness = batch.views[0].mean(dim=(1, 2, 3)).numpy()
    assert np.array_equal(brightness > 0.1, batch.tiles < 15)


def test_views_stay_as_they_were_given(dataset: Path) -> None:
    """They are DALI's own memory, not copies: later batches must not overwrite them."""
    batches = iter(Loader(Dataset(dataset), recipe()))
    first = next(batches)
    before = [view.clone() for view in first.views]
    for _ in range(5):
        next(batches)
    assert all(torch.equal(view, copy) for view, copy in zip(first.views, before, strict=True))


def test_starting_later_gives_the_same_batches(dataset: Path) -> None:
    straight = take(5, Dataset(dataset), recipe())
    later = take(2, Dataset(dataset), recipe(), start_step=3, threads=1)
    for one, other in zip(straight[3:], later, strict=True):
        assert np.array_equal(one.tiles, other.tiles)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_a_mapped_index_gives_the_same_batches(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = take(2, Dataset(dataset), recipe())
    monkeypatch.setattr(corpus, "MAPPED_FROM", 1)
    mapped = take(2, Dataset(dataset), recipe())
    assert list(dataset.glob("tiles/*/crc32.npy"))
    for one, other in zip(held, mapped, strict=True):
        assert np.array_equal(one.tiles, other.tiles)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_ranks_and_batch_size_cut_the_same_sequence(dataset: Path) -> None:
    whole = take(2, Dataset(dataset), recipe(6))
    small = take(4, Dataset(dataset), recipe(3))
    ranks = [take(2, Dataset(dataset), recipe(6), rank=rank, world=4) for rank in range(4)]
    for number in range(6):
        expected = torch.cat([batch.views[number] for batch in whole])
        assert torch.equal(torch.cat([batch.views[number] for batch in small]), expected)
        for rank in range(4):
            mine = torch.cat([batch.views[number] for batch in ranks[rank]])
            theirs = torch.cat([batch.views[number][rank::4] for batch in whole])
            assert torch.equal(mine, theirs)


def test_fewer_tiles_than_a_batch(dataset: Path) -> None:
    (batch,) = take(1, Dataset(dataset), recipe(50))
    assert len(batch.views[0]) == 50
    assert np.array_equal(np.sort(batch.tiles[:22]), np.arange(22))


def test_a_dataset_without_tiles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no tiles to train on"):
        Loader(Dataset(write_dataset(tmp_path / "dataset", {"empty": []})), recipe())


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset", {"a": noise(3, 64)})
    row = Dataset(root).index("a").to_pylist()[1]
    with (root / "shards" / "a.tar").open("r+b") as tar:
        tar.seek(row["offset"] + 200)
        tar.write(b"\0\1\2\3")
    with pytest.raises(DatasetError, match=rf"slide a, tile {row['x']}_{row['y']} is damaged"):
        take(1, Dataset(root), recipe())


def test_a_tile_that_is_no_jpeg_is_an_error_that_names_candidates(tmp_path: Path) -> None:
    """Its CRC is right, so it was written like that: only the decoder notices."""
    root = write_dataset(tmp_path / "dataset", {"a": noise(3, 64)})
    path = root / "index" / "a.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    with (root / "shards" / "a.tar").open("r+b") as tar:
        tar.seek(rows[1]["offset"])
        tar.write(b"x" * rows[1]["length"])
    rows[1]["crc32"] = zlib.crc32(b"x" * rows[1]["length"])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    marker = json.loads((root / "slides" / "a.json").read_text())
    marker["files"]["index/a.parquet"] = {"size": path.stat().st_size, "sha256": sha256(path)}
    (root / "slides" / "a.json").write_text(json.dumps(marker))
    with pytest.raises(TrainError, match=rf"slide a, tile {rows[1]['x']}_{rows[1]['y']} cannot be decoded"):
        take(1, Dataset(root), recipe())


def test_the_wait_for_data_is_measured(dataset: Path) -> None:
    batches = take(3, Dataset(dataset), recipe())
    assert all(0 < batch.wait < 60 for batch in batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_the_gpu_gives_the_cpus_views(dataset: Path) -> None:
    """Same graph, other decoder and arithmetic: within 3 grey levels on average."""
    (cpu,) = take(1, Dataset(dataset), recipe())
    (gpu,) = take(1, Dataset(dataset), recipe(), device_id=0)
    for one, other in zip(cpu.views, gpu.views, strict=True):
        assert other.is_cuda
        assert (one - other.cpu()).abs().mean() < 3 / 255 / 0.22


def test_an_index_of_another_dataset_version_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset", {"a": noise(3)})
    info = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**info, "version": 99}))
    with pytest.raises(DatasetError, match="version 99"):
        Loader(Dataset(root), recipe())

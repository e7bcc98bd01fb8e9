"""Datasets and mixed shards at a URL: opened, verified, reported, mixed and trained from there."""

import filecmp
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from helpers.s3 import bucket, upload
from PIL import Image
from torch.utils.data import DataLoader

import pathprep
import pathtrain
from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError


@pytest.fixture(scope="module")
def s3(small: Path, small_mix: Path) -> Iterator[str]:
    with bucket() as url:
        upload(str(small), f"{url}/dataset")
        upload(str(small_mix), f"{url}/mix")
        yield url


@pytest.fixture
def memory(small: Path, small_mix: Path) -> Iterator[str]:
    upload(str(small), "memory://data/dataset")
    upload(str(small_mix), "memory://data/mix")
    yield "memory://data"
    fsspec.filesystem("memory").rm("/data", recursive=True)


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_tiles_are_those_of_the_folder(kind: str, s3: str, small: Path, small_mix: Path) -> None:
    ours, theirs = pathprep.open(small if kind == "dataset" else small_mix), pathprep.open(f"{s3}/{kind}")
    assert str(theirs.root) == f"{s3}/{kind}"
    assert theirs.slides == ours.slides
    assert len(theirs) == len(ours)
    for number in (0, 7, -1):
        assert theirs[number].jpeg == ours[number].jpeg
    assert theirs.table("synth-001").equals(ours.table("synth-001"))
    assert [tile.x for tile in theirs.slide("synth-001")[:3]] == [t.x for t in ours.slide("synth-001")[:3]]
    with pytest.raises(
        DatasetError, match=rf"{s3}/{kind}/shards/gone.tar: No such file .* verify {s3}/{kind}`"
    ):
        theirs.read("gone", 0, 1)


def test_a_stream_and_workers_read_from_s3(s3: str, small_mix: Path) -> None:
    data = pathprep.open(f"{s3}/mix")
    samples = list(data.webdataset(shuffle=0))
    for sample, tile in zip(samples, pathprep.open(small_mix), strict=True):
        np.testing.assert_array_equal(sample["jpg"], tile.pixels)
    loader = DataLoader(data.torch(), batch_size=50, num_workers=1, multiprocessing_context="spawn")
    found = [key for batch in loader for key in batch["__key__"]]
    assert sorted(found) == sorted(sample["__key__"] for sample in samples)


def test_the_index_is_kept_in_the_users_cache(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "MAPPED_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiles = Dataset(f"{s3}/dataset").tiles(["x", "offset"])
    (home,) = (tmp_path / "pathprep").iterdir()
    assert (home / "current.json").is_file()
    monkeypatch.setattr(index_cache, "tables", lambda *_: 1 / 0)  # what is there serves
    again = Dataset(f"{s3}/dataset").tiles(["x", "offset"])
    np.testing.assert_array_equal(again.columns["x"], tiles.columns["x"])


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_verify_finds_a_flipped_bit(kind: str, memory: str) -> None:
    url = f"{memory}/{kind}"
    assert [found for found in pathprep.verify(url) if found.problems or found.tiles] == []
    tile = pathprep.open(url)[5]
    files = fsspec.filesystem("memory")
    name = str(tile.tar).removeprefix("memory:/")
    data = bytearray(files.cat_file(name))
    data[data.index(tile.jpeg) + 99] ^= 1
    files.pipe_file(name, bytes(data))
    files.pipe_file(f"/data/{kind}/index/foreign.txt", b"x")
    *slides, folder = pathprep.verify(url)
    bad = [found for found in slides if found.problems or found.tiles]
    assert [len(found.tiles) for found in bad] == [1]
    assert f"__{tile.x}_{tile.y}.jpg: damaged (CRC-32" in bad[0].tiles[0]
    assert "SHA-256" in bad[0].problems[0]
    assert (folder.problems, folder.notes) == ([], ["index/foreign.txt: not of pathprep; left as it is"])
    with pytest.raises(
        DatasetError, match=f"{url}/shards/.*tar: tile .* is damaged .*; run `pathprep verify {url}`"
    ):
        pathprep.open(url)[5]


def test_report_lies_in_the_dataset_or_where_it_was_asked_for(memory: str, tmp_path: Path) -> None:
    out = pathprep.report(f"{memory}/dataset")
    assert str(out) == f"{memory}/dataset/report.html"
    page = fsspec.filesystem("memory").cat_file("/data/dataset/report.html").decode()
    assert page.count("data:image/jpeg;base64,") > 2
    assert "cannot be read" not in page
    assert pathprep.report(f"{memory}/dataset", tmp_path / "page.html").is_file()  # type: ignore[attr-defined]
    with pytest.raises(DatasetError, match="not a dataset"):
        pathprep.report(f"{memory}/nothing")


def test_a_mix_of_a_url_has_the_bytes_of_a_local_one(s3: str, small_mix: Path, tmp_path: Path) -> None:
    pathprep.mix([f"{s3}/dataset"], tmp_path, tiles_per_shard=50)
    for folder in ("shards", "index"):
        names = sorted(path.name for path in (small_mix / folder).iterdir())
        assert names == sorted(path.name for path in (tmp_path / folder).iterdir())
        same, _, _ = filecmp.cmpfiles(small_mix / folder, tmp_path / folder, names, shallow=False)
        assert same == names
    assert pathprep.open(tmp_path).info["sources"][0]["path"] == f"{s3}/dataset"


def test_urls_that_hold_nothing(s3: str) -> None:
    with pytest.raises(DatasetError, match="s3://bucket/nothing: not a dataset"):
        pathprep.open(f"{s3}/nothing")
    with pytest.raises(UsageError, match="Protocol not known"):
        pathprep.open("nosuch://bucket/x")


def test_a_path_that_was_a_url(memory: str) -> None:
    """Command line options are paths."""
    data = pathprep.open(Path(f"{memory}/dataset"))
    assert str(data.root) == f"{memory}/dataset"
    assert Image.open(io.BytesIO(data[0].jpeg)).size == (64, 64)


@pytest.mark.parametrize(
    "write",
    [
        lambda url: pathprep.mix("dataset", url),
        lambda url: pathprep.import_tiles("tiles", url),
        lambda url: pathprep.synthesize(url),
        lambda url: pathtrain.pretrain("dataset", out=url),
        lambda url: pathtrain.export("run", url),
        lambda url: pathtrain.embed("run", "dataset", url),
    ],
)
@pytest.mark.parametrize("place", ["memory://bucket/x", Path("memory://bucket/x")])
def test_what_is_written_to_local_folders_only_refuses_a_url(
    write: Callable[[Any], Any], place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"`out` memory://bucket/x: is written to a local folder only"):
        write(place)
    assert not list(tmp_path.iterdir())


def test_mixed_shards_are_told_what_they_are(small_mix: Path) -> None:
    with pytest.raises(DatasetError, match="holds mixed shards; give the dataset"):
        pathprep.report(small_mix)

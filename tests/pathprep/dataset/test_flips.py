"""Every file of a dataset with one bit changed: its readers say so, or give what was written."""

import logging
from pathlib import Path
from typing import Any

import pytest
from helpers.damage import bits, flipped, silent
from helpers.indexed import dataset, files
from helpers.mixing import write

from pathprep.dataset import info
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.storage import atomic, sums
from pathprep.storage.base import parsed
from pathprep.storage.local import LocalStorage

COLUMNS = ["x", "offset", "crc32"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(
        tmp_path_factory.mktemp("flips"), {"a": 4, "b": 3}, "fit", labels={"a": "tumour", "b": "stroma"}
    )
    values = LocalStorage(root).read_json(info.NAME)
    assert values is not None
    atomic.write_json(root / info.NAME, info.made(values["params"]))
    return root


def test_dataset_json(root: Path) -> None:
    assert silent(root / info.NAME, lambda: Dataset(root).info, 200) == []
    everywhere(root / info.NAME)


def everywhere(path: Path) -> None:
    """All bits, without the disk."""
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        values = parsed(bytes(data))
        damaged = values is None or info.state_of(values) is not info.State.WHOLE
        assert damaged or values == parsed(sound), bit


def test_an_older_dataset_json_without_a_seal_is_read_and_cannot_be_changed_either(root: Path) -> None:
    sealed = (root / info.NAME).read_bytes()
    try:
        values = Dataset(root).info
        atomic.write_json(root / info.NAME, {key: values[key] for key in info.KEYS})
        assert Dataset(root).params == values["params"]
        everywhere(root / info.NAME)
    finally:
        (root / info.NAME).write_bytes(sealed)


def test_markers(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A slide whose marker is damaged is left out, and named."""

    def read() -> Any:
        caplog.clear()
        data = Dataset(root)
        return data.markers, [*data.slides, *(["a"] if "slides/a.json: damaged" in caplog.text else [])]

    with caplog.at_level(logging.WARNING):
        whole, _ = read()
        for bit in bits(root / "slides/a.json", 300):
            with flipped(root / "slides/a.json", bit):
                markers, named = read()
            assert markers == whole or sorted(named) == ["a", "b"]


@pytest.mark.parametrize("name", ["index/a.parquet"])
def test_tables(root: Path, name: str) -> None:
    assert silent(root / name, lambda: Dataset(root).table("a").to_pylist(), 300) == []


def everything(data: Any) -> list[Any]:
    """All tiles by each of the four ways."""
    rows = data.tar_rows(data.tars()[0]).to_pylist()
    plain = [data.read(data.tars()[0], row["offset"], row["length"]) for row in rows]
    tiles = [(t.jpeg, t.slide, t.x, t.label, t.fit and t.fit.he.tolist()) for t in data]
    streamed = [(s["slide"], s["x"], s.get("label"), s["jpg"].sum()) for s in data.webdataset(shuffle=0)]
    drawn = [(s["slide"], s["x"], s.get("label"), s["jpg"].sum()) for s in data.torch()]
    return [plain, tiles, streamed, drawn]


def test_tars_by_every_way_to_read_a_tile(root: Path) -> None:
    pytest.importorskip("torch")
    assert silent(root / "shards/a.tar", lambda: everything(Dataset(root)), 30) == []


def test_each_way_compares_the_crc32(root: Path) -> None:
    pytest.importorskip("torch")
    data = Dataset(root)
    row = data.table("a").to_pylist()[1]
    ways: list[Any] = [
        lambda data: data[1],
        lambda data: data.read("a", row["offset"], row["length"]),
        lambda data: list(data.webdataset(shuffle=0)),
        lambda data: data.torch()[1],
        lambda data: data.slide("a")[1],
    ]
    with flipped(root / "shards/a.tar", 8 * (row["offset"] + row["length"] - 1)):
        for way in ways:
            with pytest.raises(DatasetError, match=r"a\.tar: tile 32_64 is damaged \(CRC32"):
                way(Dataset(root))
        assert data.read("a", 0, 100)  # no tile: nothing vouches for it


def test_every_bit_of_the_mapped_index_is_found_and_what_is_damaged_is_made_again(
    tmp_path: Path, mapped: None, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset(tmp_path, a=3, b=2)
    names = [*COLUMNS, "region"]
    whole = Dataset(root).tiles(names)
    inodes = files(root)
    for name in inodes:
        path = root / name
        if path.name in ("lock", "CACHEDIR.TAG"):
            continue
        for bit in bits(path, 6):
            data = bytearray(path.read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            caplog.clear()
            again = Dataset(root).tiles(names)
            assert f"{path}: damaged; it is made again" in caplog.text, bit
            assert again.slides == whole.slides
            assert again.starts.tolist() == whole.starts.tolist()
            assert all(again.columns[c].tolist() == whole.columns[c].tolist() for c in names)
            assert all(again.regions[r].tolist() == whole.regions[r].tolist() for r in whole.regions)


def test_the_index_is_summed_once_in_a_process(
    tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path, a=3, b=2)
    Dataset(root).tiles(COLUMNS)
    monkeypatch.setattr(sums, "_holds", lambda *_: 1 / 0)
    Dataset(root).tiles(COLUMNS)


def test_sums_of_a_file_of_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "CHUNK", 64)
    path = tmp_path / "file"
    for length in (0, 1, 63, 64, 65, 1000):
        with path.open("w+b") as file:
            file.write(bytes(range(256)) * 4)
            file.truncate(length)
            sums.append_sums(file)
        assert sums.is_whole(path)
        for bit in bits(path, 80):
            with flipped(path, bit):
                assert not sums.is_whole(path), (length, bit)
    path.write_bytes(path.read_bytes()[:-1])
    assert not sums.is_whole(path)


def test_a_link_named_lock_is_not_followed(
    tmp_path: Path, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path / "d", a=3)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (root / "tiles").mkdir()
    (root / "tiles/lock").symlink_to(victim)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(Dataset(root).tiles(["x"])) == 3
    assert victim.read_text() == "precious"
    assert list((tmp_path / "cache").rglob("x.npy"))

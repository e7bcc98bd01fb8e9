"""The mapped index is made again, or said to be wrong, after damage, kills, deletion and lack of rights."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.indexed import BUILD, EVERY, assert_right, dataset, expected
from helpers.markers import slide_marker

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.folders import verify
from pathprep.storage import atomic
from pathprep.storage.seals import sealed


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00 nonsense")


DAMAGE = [shorten, overwrite, Path.unlink, lambda path: os.truncate(path, 0)]


@pytest.mark.parametrize("name", ["x.npy", "region_ids.npy", "region_ends.npy", "slides.parquet"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(tmp_path: Path, mapped: None, name: str, damage: Any) -> None:
    root = dataset(tmp_path, a=5, b=6)
    Dataset(root).tiles(["x", "region"])
    (path,) = root.glob(f"tiles/*/{name}")
    damage(path)
    index = Dataset(root).tiles(["x", "region"])
    assert_right(root, index)
    assert np.concatenate([index.region("b", i) for i in index.region_ids("b")]).size == 6


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": 5, "signature": "x"}', "\xff"])
def test_a_damaged_account_is_made_again(tmp_path: Path, mapped: None, text: str) -> None:
    root = dataset(tmp_path, a=5)
    Dataset(root).tiles(["x"])
    (root / "tiles/current.json").write_text(text, encoding="latin-1")
    assert_right(root, Dataset(root).tiles(["x"]))


def test_deleting_it_is_safe(tmp_path: Path, mapped: None) -> None:
    root = dataset(tmp_path, a=5, b=6)
    index = Dataset(root).tiles(["x"])
    shutil.rmtree(root / "tiles")
    assert_right(root, index)
    assert_right(root, Dataset(root).tiles(["x"]))


def grow(root: Path) -> None:
    with (root / "index/b.parquet").open("ab") as file:
        file.write(b"more")


def flip(root: Path) -> None:
    data = bytearray((root / "index/b.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (root / "index/b.parquet").write_bytes(data)


def recount(root: Path) -> None:
    values = json.loads((root / "slides/b.json").read_text())
    atomic.write_json(root / "slides/b.json", sealed({**values, "tiles": 7}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (grow, "bytes, its marker says"),
        (flip, "SHA-256"),
        (recount, "6 rows, its marker says 7"),
        (lambda root: (root / "index/b.parquet").unlink(), "No such file"),
    ],
)
def test_a_table_that_its_marker_does_not_vouch_for(
    tmp_path: Path, either: str, damage: Any, message: str
) -> None:
    root = dataset(tmp_path, a=5, b=6)
    damage(root)
    with pytest.raises(DatasetError, match=rf"index/b\.parquet: .*{message}.*; run `pathprep verify"):
        Dataset(root).tiles(["x"])
    assert not list(root.glob(f"tiles/*/{atomic.PREFIX}*"))


def test_a_marker_without_its_files_is_named(tmp_path: Path, either: str) -> None:
    root = dataset(tmp_path, a=5)
    atomic.write_json(root / "slides/a.json", sealed(slide_marker(BUILD, slide="a", tiles=5).as_dict()))
    with pytest.raises(DatasetError, match=r"slides/a\.json: not a whole marker; delete it"):
        Dataset(root).tiles(["x"])


def test_a_damaged_marker_is_named_and_its_slide_not_left_out_silently(tmp_path: Path, either: str) -> None:
    root = dataset(tmp_path, a=5, b=6)
    path = root / "slides/a.json"
    path.write_bytes(path.read_bytes().replace(b'"tiles": 5', b'"tiles": 4'))
    with pytest.raises(DatasetError, match=r"slides/a\.json: damaged"):
        Dataset(root).tiles(["x"])


OPEN = """
import sys
from pathprep.dataset import columns
from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
index_cache.MAPPED_FROM = 1
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_open_at_once_make_it_once(tmp_path: Path) -> None:
    root = dataset(tmp_path, **{f"s{number}": 20 for number in range(12)})
    code = "print(int(Dataset(sys.argv[1]).tiles(['x', 'region']).columns['x'].sum()))"
    running = [child(code, root) for _ in range(4)]
    done = [process.communicate() for process in running]
    total = str(sum(expected(root)[1]["x"]))
    assert [out.strip() for out, _ in done] == [total] * 4, done
    assert sum("gathering x, region of 240 tiles of 12 slides" in err for _, err in done) == 1, done
    assert len([path for path in (root / "tiles").iterdir() if path.is_dir()]) == 1


def test_killed_while_it_is_made(tmp_path: Path, mapped: None) -> None:
    """The next process sweeps what is left and makes it again."""
    root = dataset(tmp_path, a=20, b=20)
    code = """
import os
whole = columns.with_regions
def dying(parts):
    for part in whole(parts):
        yield part
        os.kill(os.getpid(), 9)
columns.with_regions = dying
Dataset(sys.argv[1]).tiles(["x", "offset"])
"""
    process = child(code, root)
    process.communicate()
    assert process.returncode == -9
    left = list(root.glob(f"tiles/*/{atomic.PREFIX}*"))
    assert len(left) == 2
    assert not list(root.glob("tiles/*/[!.]*.npy"))
    assert_right(root, Dataset(root).tiles(["x", "offset"]))
    assert not any(path.exists() for path in left)


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to write anywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_dataset_that_cannot_be_written(
    mapped: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """pytest's own folders are closed to others than root, hence another."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        root = dataset(place / "dataset", a=20, b=20)
        cache = place / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        root.chmod(0o555)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        with nobody():
            assert_right(root, Dataset(root).tiles(["x"]))
            said = caplog.text
            caplog.clear()
            assert_right(root, Dataset(root).tiles(["x"]))
        assert f"{root}/tiles cannot be written (Permission denied): the index of tiles is kept in" in said
        assert caplog.text == ""
        assert [path.name[:17] for path in (cache / "pathprep").iterdir()] == [f"{BUILD}-"]
        cache.chmod(0o555)
        shutil.rmtree(cache / "pathprep")
        with nobody(), pytest.raises(DatasetError, match="XDG_CACHE_HOME"):
            Dataset(root).tiles(["x"])
        root.chmod(0o755)


def test_an_index_in_a_dataset_that_cannot_be_written_serves(
    mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        root = dataset(place / "dataset", a=20)
        Dataset(root).tiles(["x"])
        (root / "tiles").chmod(0o555)
        with nobody():
            assert_right(root, Dataset(root).tiles(["x"]))
        (root / "tiles").chmod(0o755)
        assert not (place / "cache").exists()


def test_verify_knows_the_index_and_compares_it(tmp_path: Path, mapped: None) -> None:
    root = dataset(tmp_path, a=20, b=30)
    Dataset(root).tiles(EVERY)
    assert [problem for found in verify(root) for problem in found.problems] == []
    for name in ("focus", "region"):
        (path,) = root.glob(f"tiles/*/{name}.npy")
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
    lines = [problem for found in verify(root) for problem in found.problems]
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == ["focus.npy", "region.npy"]
    assert all("differs from the slides' tables; delete" in line for line in lines)
    shutil.rmtree(root / "tiles")
    assert [problem for found in verify(root) for problem in found.problems] == []

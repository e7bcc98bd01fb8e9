"""The mapped index of a large dataset: equal to the tables, fresh, safe to kill, share, damage and delete."""

import errno
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
from helpers.markers import slide_marker

from pathprep.dataset import columns
from pathprep.dataset import index_cache as corpus
from pathprep.dataset import listing as committed
from pathprep.dataset import marker as markers
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, STATUSES, VERSION, build_id
from pathprep.dataset.tile_index import TileIndex
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import DatasetError
from pathprep.folders import verify
from pathprep.storage import atomic

PARAMS = {"tile": 64}
BUILD = build_id(PARAMS)
EVERY = list(SCHEMA.names)[: SCHEMA.get_field_index("crc32") + 1]  # the rest is text


@pytest.fixture(params=["mapped", "in memory"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hold the arrays."""
    monkeypatch.setattr(corpus, "MAPPED_FROM", 1 if request.param == "mapped" else 1000)
    return str(request.param)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a slide makes an index."""
    monkeypatch.setattr(corpus, "MAPPED_FROM", 1)


def row(rng: np.random.Generator, cell: int, across: int, status: str) -> dict[str, Any]:
    column, line = cell % across, cell // across
    fit = None if status in ("none", "unfitted") else rng.random(8).tolist()
    return {
        "x": 64 * column, "y": 64 * line, "column": column, "row": line,
        "region": line // 3 * 7 + column // 3, "side": 64, "stored": 64, "mpp": 0.5,
        "tissue": rng.random(), "saturation": rng.random(), "white": rng.random(),
        "focus": rng.random(), "stained": rng.random(), "hsv": rng.random(), "pen": rng.random(),
        "stain_status": status,
        "he": fit and fit[:6], "max_c": fit and fit[6:],
        "tissue_pixels": None if status == "none" else int(rng.integers(4096)),
    }  # fmt: skip


def write(root: Path, slide: str, tiles: int, seed: int = 0) -> None:
    """A slide whose tiles lie at random cells, in random order."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    info = {"format": FORMAT, "version": VERSION, "build_id": BUILD, "params": PARAMS}
    atomic.write_json(root / "dataset.json", info)
    rng = np.random.default_rng([seed, *slide.encode()])
    with ShardWriter(root, slide) as writer:
        for cell in rng.permutation(300)[:tiles].tolist():
            writer.add(rng.bytes(20), row(rng, cell, 20, STATUSES[cell % 4]))
        writer.commit(slide_marker(BUILD, slide), {})


def dataset(root: Path, **tiles: int) -> Path:
    for slide, count in tiles.items():
        write(root, slide, count)
    settle(root)
    return root


def settle(root: Path) -> None:
    """As if the markers had been written a while ago."""
    for path in (root / "slides").iterdir():
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10_000_000_000))


def expected(root: Path) -> tuple[list[str], dict[str, list[Any]]]:
    """Names and values read the plain way: every marker, every table, every row."""
    data = Dataset(root)
    names = [name for name, marker in data.markers.items() if marker.tiles]
    rows = [row for name in names for row in data.table(name).to_pylist()]
    return names, {column: [row[column] for row in rows] for column in EVERY}


def assert_right(root: Path, index: TileIndex) -> None:
    names, values = expected(root)
    assert index.slides == names
    assert len(index) == len(values["x"])
    counts = [Dataset(root).table(name).num_rows for name in names]
    assert np.array_equal(index.starts, np.cumsum([0, *counts]))
    for name, array in index.columns.items():
        assert (array.dtype, array.shape[1:]) == columns.kind(name)
        wanted: Any = values[name]
        if name in ("he", "max_c"):
            wanted = [v or [np.nan] * array.shape[1] for v in wanted]
        elif name == "stain_status":
            wanted = [STATUSES.index(v) for v in wanted]
        elif name == "tissue_pixels":
            wanted = [-1 if v is None else v for v in wanted]
        assert np.array_equal(array, np.array(wanted, array.dtype).reshape(array.shape), equal_nan=True), name


def files(root: Path) -> dict[str, int]:
    """The index' files and their inodes: an inode changes when a file is made again."""
    return {p.relative_to(root).as_posix(): p.stat().st_ino for p in root.rglob("tiles/*/*")}


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
    monkeypatch.setattr(committed, "sealed_in", lambda *_: 1 / 0)
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
        marker = json.loads((root / "slides/a.json").read_text())
        atomic.write_json(root / "slides/a.json", markers.sealed({**marker, "build_id": "another"}))
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
    monkeypatch.setattr(corpus, "tables", lambda *_: 1 / 0)
    assert len(Dataset(root).tiles(["x"])) == 11
    array = [name for name in before if name.endswith("x.npy")]
    assert [files(root)[name] for name in array] == [before[name] for name in array]
    monkeypatch.setattr(committed, "sealed_in", lambda *_: 1 / 0)
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
    marker = json.loads((root / "slides/b.json").read_text())
    atomic.write_json(root / "slides/b.json", markers.sealed({**marker, "tiles": 7}))


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
    atomic.write_json(root / "slides/a.json", markers.sealed(slide_marker(BUILD, tiles=5).as_dict()))
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
from pathprep.dataset import index_cache as corpus
from pathprep.dataset.reader import Dataset
corpus.MAPPED_FROM = 1
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


def test_few_slides_make_no_index(tmp_path: Path) -> None:
    root = dataset(tmp_path, a=20, b=30)
    assert_right(root, Dataset(root).tiles(EVERY))
    assert not (root / "tiles").exists()
    assert len(Dataset(root).slides) < corpus.MAPPED_FROM

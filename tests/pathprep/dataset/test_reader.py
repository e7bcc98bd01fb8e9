"""The dataset folder: read by the real readers, committed all or nothing, equal bytes for equal input."""

import errno
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import webdataset as wds
from helpers.markers import slide_marker
from helpers.slides import tissue
from nvidia.dali import fn, pipeline_def

from pathprep.dataset import marker as markers
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, VERSION, build_id, sha256
from pathprep.dataset.tar import tar_header
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import DatasetError, explain_os_error
from pathprep.storage import atomic, local
from pathprep.storage.seals import sealed


def row(number: int) -> dict[str, Any]:
    return {
        "x": 64 * number,
        "y": 128,
        "column": number,
        "row": 2,
        "region": 0,
        "side": 64,
        "stored": 64,
        "mpp": 0.5,
        "tissue": 0.75,
        "saturation": 0.5,
        "white": 0.25,
        "focus": 100.0,
        "stained": 0.7,
        "hsv": 0.8,
        "pen": 0.01,
        "stain_status": "fitted",
        "he": [0.5, 0.2, 0.7, 0.8, 0.4, 0.5],
        "max_c": [1.5, 1.0],
        "tissue_pixels": 4000,
    }


def tile(number: int) -> bytes:
    return simplejpeg.encode_jpeg(tissue(64, 64, seed=number), 90)


def write(root: Path, slide: str, tiles: int) -> markers.Marker:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    params = {"tile": 64}
    build = build_id(params)
    info = {"format": FORMAT, "version": VERSION, "build_id": build, "params": params}
    atomic.write_json(root / "dataset.json", info)
    with ShardWriter(root, slide) as writer:
        for number in range(tiles):
            writer.add(tile(number), row(number))
        return writer.commit(slide_marker(build, inputs={"size": 1}), {"geojson": b"{}"})


# webdataset leaves its file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    write(tmp_path, "TCGA-1_2", 5)
    samples = list(wds.WebDataset(str(tmp_path / "shards" / "TCGA-1_2.tar"), shardshuffle=False))
    assert [s["__key__"] for s in samples] == [f"TCGA-1_2__{64 * i}_128" for i in range(5)]
    assert [s["jpg"] for s in samples] == [tile(i) for i in range(5)]


def test_dali_reads_a_shard_with_its_index(tmp_path: Path) -> None:
    write(tmp_path, "a", 6)

    @pipeline_def(batch_size=3, num_threads=1, device_id=None)
    def read() -> Any:
        paths = {"paths": [str(tmp_path / "shards/a.tar")], "index_paths": [str(tmp_path / "shards/a.idx")]}
        return fn.decoders.image(fn.readers.webdataset(**paths, ext=["jpg"]))

    pipe = read()
    pipe.build()
    images = [np.asarray(image) for _ in range(2) for image in pipe.run()[0]]
    for number, image in enumerate(images):
        np.testing.assert_array_equal(image, simplejpeg.decode_jpeg(tile(number)))


def test_index_row_leads_to_the_bytes(tmp_path: Path) -> None:
    marker = write(tmp_path, "a", 4)
    write(tmp_path, "b", 3)
    dataset = Dataset(tmp_path)
    assert dataset.slides == ["a", "b"]
    assert dataset.table("a").schema.remove_metadata().equals(SCHEMA)
    tiles = dataset.tiles(["offset", "length", "x"])
    assert (len(tiles), tiles.slides, tiles.starts.tolist()) == (7, ["a", "b"], [0, 4, 7])
    for number, slide in enumerate(tiles.slide_of(np.arange(7))):
        data = dataset.read(
            tiles.slides[slide], tiles.columns["offset"][number], tiles.columns["length"][number]
        )
        assert data == tile(tiles.columns["x"][number] // 64)
    assert marker.files["shards/a.tar"].size == (tmp_path / "shards/a.tar").stat().st_size
    assert marker.files["shards/a.tar"].sha256 == sha256(tmp_path / "shards/a.tar")


def test_a_marker_that_is_not_renamed_yet_is_no_slide(tmp_path: Path) -> None:
    write(tmp_path, "a", 2)
    own = tmp_path / "slides" / "a.json"
    own.with_name(".tmp-host~1.ab~a.json").write_bytes(own.read_bytes())
    assert Dataset(tmp_path).slides == ["a"]


def test_equal_tiles_give_equal_files(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", "a", 4), write(tmp_path / "2", "a", 4)
    assert one == two


@pytest.mark.parametrize("name", ["0_0.jpg", "123456_99999.jpg", "x" * 100])
@pytest.mark.parametrize("size", [0, 1, 18_000, 8**11 - 1])
def test_tar_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert tar_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_an_empty_slide_has_no_tar_and_is_done(tmp_path: Path) -> None:
    write(tmp_path, "a", 3)
    marker = write(tmp_path, "a", 0)
    assert not list((tmp_path / "shards").iterdir())
    assert marker.tiles == 0
    assert len(Dataset(tmp_path).tiles()) == 0
    assert markers.is_done(tmp_path, "a", marker.build_id, {"size": 1})


def test_a_marker_is_the_same_through_json() -> None:
    written = slide_marker("b", mpp=0.25, left_out="too coarse", vendor="aperio").as_dict()
    assert "slide_fit" not in written
    assert (written["stain_fit"], written["source"]["mask"]) == (None, None)
    assert markers.Marker.from_dict(json.loads(json.dumps(written))).as_dict() == written
    oldest = {key: value for key, value in written.items() if key not in ("slide_id", "target_mpp")}
    assert markers.Marker.from_dict(oldest).as_dict() == oldest
    # a later version's key stays, and the seal with it; a marker that is not whole is none
    later = written | {"scanner": {"serial": 7}}
    read = markers.unsealed(sealed(later))
    assert read is not None
    assert (read.as_dict(), read.more) == (later, {"scanner": {"serial": 7}})
    assert markers.unsealed(sealed({"build_id": "b", "tiles": 5})) is None
    assert markers.unsealed(later) is None


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with pytest.raises(RuntimeError, match="half way"), ShardWriter(tmp_path, "a") as writer:
        writer.add(tile(0), row(0))
        raise RuntimeError("half way")
    assert not list((tmp_path / "shards").iterdir())


@pytest.mark.parametrize("name", ["shards/a.tar", "shards/a.idx", "index/a.parquet", "previews/a.geojson"])
def test_done_needs_every_file_at_its_size(tmp_path: Path, name: str) -> None:
    build = write(tmp_path, "a", 3).build_id
    assert markers.is_done(tmp_path, "a", build, {"size": 1})
    assert not markers.is_done(tmp_path, "a", "other build", {"size": 1})
    assert not markers.is_done(tmp_path, "a", build, {"size": 2})
    os.truncate(tmp_path / name, 1)
    assert not markers.is_done(tmp_path, "a", build, {"size": 1})


def test_reading_damage_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a", 2)
    os.truncate(tmp_path / "shards/a.tar", 900)
    dataset = Dataset(tmp_path)
    tiles = dataset.tiles()
    with pytest.raises(DatasetError, match=r"a\.tar: .* bytes at .*pathprep verify"):
        dataset.read("a", int(tiles.columns["offset"][1]), int(tiles.columns["length"][1]))
    (tmp_path / "index/a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"a\.parquet: cannot be read"):
        dataset.table("a")


def test_what_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a dataset"):
        Dataset(tmp_path)
    write(tmp_path, "a", 1)
    info = json.loads((tmp_path / "dataset.json").read_text())
    atomic.write_json(tmp_path / "dataset.json", info | {"version": 99})
    with pytest.raises(DatasetError, match="format version 99, this pathprep reads up to version 2"):
        Dataset(tmp_path)


def test_many_slides_do_not_exhaust_file_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "OPEN_FILES", 2)
    for number in range(5):
        write(tmp_path, f"s{number}", 1)
    dataset = Dataset(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for slide in dataset.slides * 2:
        assert dataset.read(slide, 512, len(tile(0))) == tile(0)
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    dataset.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_atomic_write_keeps_the_old_file_on_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        atomic.write_json(path, {"a": io.BytesIO()})
    with pytest.raises(OSError, match="stop"), atomic.pending(path) as (file, _):
        file.write(b"half")
        raise OSError("stop")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_sweep_removes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pathprep.storage import atomic\n"
        "with atomic.pending(Path(sys.argv[1])) as (f, t):\n"
        "    f.write(b'x'); f.flush(); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "dead.tar")])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # dead, but its number is not free yet
    live = tmp_path / f"{atomic.PREFIX}elsewhere~1~live.tar"
    gone = tmp_path / f"{atomic.PREFIX}elsewhere~1~gone.tar"
    for path in (live, gone):
        path.touch()
    os.utime(gone, (0, time.time() - 2 * atomic.FOREIGN_AGE_S))
    with atomic.pending(tmp_path / "mine.tar") as (_, mine):
        assert _sweep_elsewhere(tmp_path) == 2
        assert mine.exists()
    # finished, not yet renamed: still its writer's
    assert _sweep_elsewhere(tmp_path) == 0
    atomic.publish(mine, tmp_path / "mine.tar")
    assert dead.wait() == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine.tar", live.name])


def test_sweep_leaves_another_users_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = time.time() - 3 * atomic.FOREIGN_AGE_S
    for name in ("mine", "theirs"):
        path = tmp_path / f"{atomic.PREFIX}{socket.gethostname()}~1.abc~{name}"
        path.write_bytes(b"x")
        os.utime(path, (old, old))
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("theirs"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert atomic.sweep(tmp_path) == 1
    assert [path.name.rpartition("~")[2] for path in tmp_path.iterdir()] == ["theirs"]


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: .*a\.tar") as caught,
        atomic.pending(tmp_path / "a.tar"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = explain_os_error(pickle.loads(pickle.dumps(caught.value)))  # as it comes out of a worker
    assert said == f"{tmp_path}/a.tar: No space left on device; make room there"
    assert explain_os_error(OSError("odd")) == "odd"


def _sweep_elsewhere(folder: Path) -> int:
    """Another process's sweep."""
    code = "import sys; from pathlib import Path; from pathprep.storage import atomic; "
    code += "print(atomic.sweep(Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    return int(done.stdout)


def test_a_writer_whose_new_file_was_swept_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = atomic._lock, []

    def first_swept(fd: int, *, wait: bool) -> bool | None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return lock(fd, wait=wait)

    monkeypatch.setattr(atomic, "_lock", first_swept)
    atomic.write_bytes(tmp_path / "a", b"a")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"a")]
    assert swept


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_lock", lambda fd, *, wait: None)
    young = tmp_path / f"{atomic.PREFIX}{socket.gethostname()}~1~young.tar"
    old = tmp_path / f"{atomic.PREFIX}{socket.gethostname()}~1~old.tar"
    for path in (young, old):
        path.touch()
    os.utime(old, (0, time.time() - 2 * atomic.FOREIGN_AGE_S))
    assert atomic.sweep(tmp_path) == 1
    assert young.exists()

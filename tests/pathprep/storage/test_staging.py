"""Files fetched ahead: in order, within a limit, gone afterwards; bad ones are told of."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.s3 import bucket, upload

from pathprep.errors import StoreError, UsageError
from pathprep.slides.find_remote import RemoteSlide, look
from pathprep.storage.staging import Staging
from pathprep.storage.workspace import sweep, workspace


def test_a_workspace_goes_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from pathprep.storage.workspace import workspace\n"
        "with workspace(Path(sys.argv[1]), 'a', ['shards']) as folder:\n"
        "    (folder / 'shards' / 'a.tar').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len([*tmp_path.rglob("a.tar")]) == 1
    with workspace(tmp_path, "b") as mine:
        assert [*tmp_path.rglob("a.tar")] == []
        sweep(tmp_path)
        assert mine.is_dir()
    assert [*tmp_path.iterdir()] == []


def archive(folder: Path) -> Path:
    """Three slides of a file, one of two files, one that is a folder, a series; and what is none."""
    names = {"a.svs": 100, "deep/b.tif": 50, "c.ndpi": 70, "m.mrxs": 5, "m/Data0001.dat": 40, "notes.txt": 9}
    names |= {"z.ome.zarr/.zattrs": 3, "z.ome.zarr/0/0/0": 20, "d/1.dcm": 8, "d/2.dcm": 9, ".cache/x.svs": 1}
    for name, size in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    return folder


def slides(url: str) -> list[RemoteSlide]:
    return look(url)[0]


def test_what_belongs_together(tmp_path: Path) -> None:
    found, left = look(f"file://{archive(tmp_path)}")
    assert {slide.main: [file.name for file in slide.files] for slide in found} == {
        "a.svs": ["a.svs"],
        "c.ndpi": ["c.ndpi"],
        "d": ["d/1.dcm", "d/2.dcm"],
        "deep/b.tif": ["deep/b.tif"],
        "m.mrxs": ["m.mrxs", "m/Data0001.dat"],
        "z.ome.zarr": ["z.ome.zarr/.zattrs", "z.ome.zarr/0/0/0"],
    }
    assert {left_of[0]: count for left_of, (count, _) in left.files.items()} == {".txt": 1, "hidden": 1}
    assert [slide.own_name for slide in found] == ["a", "c", "d", "b", "m", "z.ome"]
    (one,) = slides(f"file://{tmp_path}/m.mrxs")
    assert (one.main, one.size) == ("m.mrxs", 45)
    before = one.state
    os.utime(tmp_path / "m" / "Data0001.dat", (1, 1))
    assert slides(f"file://{tmp_path}/m.mrxs")[0].state != before


def test_nothing_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"no slides there .*1 file not taken: 1 .txt \(no slides\)"):
        look(f"file://{tmp_path}")
    with pytest.raises(UsageError, match="no slides there"):
        look(f"file://{tmp_path}/absent.svs")


def test_all_of_a_bucket_within_a_limit(tmp_path: Path) -> None:
    archive(tmp_path / "there")
    with bucket() as url:
        upload(str(tmp_path / "there"), f"{url}/slides")
        found = slides(f"{url}/slides")
        most = 0
        with Staging(found, tmp_path / "scratch", 120) as staging:
            for number, place in staging:
                assert isinstance(place, Path)
                for file in found[number].files:
                    same = (tmp_path / "there" / file.name).read_bytes()
                    assert (place / file.name).read_bytes() == same
                held = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
                most = max(most, sum(path.stat().st_size for path in held))
                staging.release(number)
        assert 100 <= most <= 120
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


def test_the_next_ones_are_fetched_while_one_is_held(tmp_path: Path) -> None:
    found = slides(f"file://{archive(tmp_path / 'there')}")
    with Staging(found, tmp_path / "scratch", 10_000) as staging:
        first = next(iter(staging))
        until = time.monotonic() + 30
        while sum(path.is_file() for path in (tmp_path / "scratch").rglob("*")) < 9:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert first[0] == 0


def test_one_that_cannot_be_had_costs_itself(tmp_path: Path) -> None:
    found = slides(f"file://{archive(tmp_path / 'there')}")
    (tmp_path / "there" / "a.svs").unlink()
    (tmp_path / "there" / "c.ndpi").write_bytes(b"shorter")
    with Staging(found, tmp_path / "scratch", 60) as staging:
        got = dict(staging_in_a_thread(staging))
    assert "100 bytes, more than the 60 bytes that may lie in `scratch`; raise" in str(got[0])
    assert "70 bytes, more than the 60 bytes" in str(got[1])
    assert isinstance(got[2], Path)
    with Staging(found, tmp_path / "scratch", 10_000) as staging:
        got = dict(staging_in_a_thread(staging))
    assert isinstance(got[0], StoreError)
    assert "not there any more" in str(got[0])
    assert "has 7 bytes, was listed with 70" in str(got[1])
    assert all(isinstance(got[number], Path) for number in (2, 3, 4, 5))


def staging_in_a_thread(staging: Staging) -> list[tuple[int, object]]:
    """All parcels; each is released once the next was asked for."""
    got: list[tuple[int, object]] = []
    came = threading.Semaphore(0)

    def take() -> None:
        for each in staging:
            got.append(each)
            came.release()

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(6):
        assert came.acquire(timeout=30)
        if isinstance(got[number][1], Path):
            staging.release(number)
    thread.join()
    return got


def test_ending_early_leaves_nothing(tmp_path: Path) -> None:
    found = slides(f"file://{archive(tmp_path / 'there')}")
    with Staging(found, tmp_path / "scratch", 110) as staging:
        next(iter(staging))
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []

"""A mix that is killed, stopped or damaged, and sources that are: gone on with, mended, named."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.mixing import content, flip, write

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.folders import verify
from pathprep.mixed import format as mixed
from pathprep.mixed.make import mix
from pathprep.storage import atomic


def run_until(datasets: list[Path], out: Path, finished: int) -> None:
    """The command in a process of its own, killed when so many shards have their marker."""
    code = "import sys; from pathlib import Path; from pathprep.mixed.make import mix\n"
    code += "mix([Path(a) for a in sys.argv[2:]], Path(sys.argv[1]), tiles_per_shard=40, memory=0.0006)"
    child = subprocess.Popen([sys.executable, "-c", code, out, *datasets])
    while child.poll() is None and len(list((out / "unfinished").glob("mixed-*.json"))) < finished:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.slow
def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    datasets = [write(tmp_path / "d", {f"s{n}": 200 for n in range(6)}, "fit")]
    mix(datasets, tmp_path / "whole", tiles_per_shard=40)
    out = tmp_path / "killed"
    for finished in (1, 8, 20):
        run_until(datasets, out, finished)
        assert not (out / "mixed.json").exists()
        with pytest.raises(DatasetError, match="not finished; run the same `pathprep mix` again"):
            list(verify(out))
    done = sorted((out / "unfinished").glob("mixed-*.json"))
    (out / mixed.files(done[0].stem)[0]).write_bytes(b"torn")  # not what the marker says
    (out / "shards" / f"{atomic.PREFIX}{socket.gethostname()}~999999999~mixed-000029.tar").touch()
    tar = out / mixed.files(done[1].stem)[0]
    flip(tar, 700)
    summary = mix(datasets, out, tiles_per_shard=40)
    assert summary.reused == len(done) - 2
    assert summary.written == summary.todo < 1200
    assert content(out) == content(tmp_path / "whole")


def test_a_finished_mix_is_checked_and_mended(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=10)
    before = content(tmp_path)
    again = mix([fit], tmp_path, tiles_per_shard=10)
    assert (again.reused, again.written) == (10, 0)
    assert content(tmp_path) == before
    flip(tmp_path / "shards/mixed-000003.tar", 4000)
    (tmp_path / "index/mixed-000005.parquet").unlink()
    (tmp_path / "shards" / "mixed-000010.tar").write_bytes(b"left by a mix into more shards")
    mended = mix([fit], tmp_path, tiles_per_shard=10)
    assert (mended.reused, mended.written) == (8, 20)
    assert content(tmp_path) == before


def test_ctrl_c_keeps_what_is_finished(fit: Path, tmp_path: Path) -> None:
    def stop(summary: Any) -> None:
        if summary.written > 30:
            raise KeyboardInterrupt

    summary = mix([fit], tmp_path, tiles_per_shard=10, memory=0.0001, watch=stop)
    assert summary.interrupted
    assert not (tmp_path / "mixed.json").exists()
    assert not [name for name in content(tmp_path) if atomic.PREFIX in name]
    again = mix([fit], tmp_path, tiles_per_shard=10)
    assert again.reused >= 3
    assert all(not (f.problems or f.tiles) for f in verify(tmp_path))


def problems(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    return {f.slide: (f.problems, f.tiles) for f in verify(root) if f.problems or f.tiles}


def test_verify_names_every_kind_of_damage(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=50)
    assert problems(tmp_path) == {}
    assert sum(found.checked for found in verify(tmp_path)) == 100
    sound, tar = content(tmp_path), tmp_path / "shards/mixed-000001.tar"
    row = pq.read_table(tmp_path / "index/mixed-000001.parquet").to_pylist()[7]
    fit_at = row["offset"] + row["length"] + -row["length"] % 512 + 512
    for at, line in (
        (row["offset"] + 100, f"{row['key']}.jpg: damaged (CRC-32"),
        (fit_at + 35, f"{row['key']}.fit: differs from the index"),
        (row["offset"] - 512, f"{row['key']}.jpg: the tar holds no such member"),
    ):
        flip(tar, at)
        found = problems(tmp_path)
        assert list(found) == ["mixed-000001"]
        assert "SHA-256" in found["mixed-000001"][0][0]
        assert [tile[: len(line)] for tile in found["mixed-000001"][1]] == [line]
        flip(tar, at)
    flip(tar, fit_at + 36)  # padding
    assert "SHA-256" in problems(tmp_path)["mixed-000001"][0][0]
    os.truncate(tar, row["offset"])
    assert len(problems(tmp_path)["mixed-000001"][1]) == 2 * (50 - 7)
    tar.write_bytes(b"")
    assert len(problems(tmp_path)["mixed-000001"][1]) == 100
    tar.write_bytes(sound["shards/mixed-000001.tar"])
    (tmp_path / "shards/mixed-000000.idx").write_text("v1.2 0\n")
    (tmp_path / "index/mixed-000001.parquet").write_bytes(b"no")
    (tmp_path / "shards/foreign.tar").touch()
    found = problems(tmp_path)
    assert "differs from the index of tiles" in found["mixed-000000"][0][1]
    assert "tiles were not checked" in found["mixed-000001"][0][-1]
    assert "shards/foreign.tar: belongs to no shard" in found["(folder)"][0][0]


def test_a_damaged_or_missing_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"good": 20, "bad": 20})
    row = Dataset(root).table("bad").to_pylist()[11]
    flip(root / "shards/bad.tar", row["offset"] + 50)
    with pytest.raises(DatasetError, match=r"shards/bad\.tar: tile 352_64 is damaged .*pathprep verify"):
        mix([root], tmp_path / "m")
    os.truncate(root / "shards/bad.tar", row["offset"] + 50)
    with pytest.raises(DatasetError, match=r"bad\.tar: tile 352_64 is damaged"):
        mix([root], tmp_path / "m")
    (root / "shards/bad.tar").unlink()
    with pytest.raises(DatasetError, match=r"bad\.tar: No such file .*pathprep verify"):
        mix([root], tmp_path / "m")
    assert not (tmp_path / "m/mixed.json").exists()
    assert not list((tmp_path / "m/shards").iterdir())

"""Many slides: the same bytes whatever happens, what fails is set aside with its reason, nothing is lost."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import runs
from helpers.runs import COMMAND, contents, wait_for_work
from helpers.slides import tissue, write_tiff

from pathprep.dataset import marker
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.folders import verify
from pathprep.launchers import local
from pathprep.params.shard import ReaderName, ShardParams
from pathprep.sharding import run
from pathprep.sharding.plan import in_part, plan
from pathprep.sharding.summary import RunSummary
from pathprep.slides import find, slide
from pathprep.slides.readers import Reader
from pathprep.storage import atomic

PARAMS = ShardParams(tile=64, region=16 * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(4):
        field = tissue(600 + 100 * number, 900, seed=number, margin=100)
        field[100:164, 100:300] = (205, 120, 180)  # a few tiles that need the slide's fit
        write_tiff(folder / f"s{number}.tif", field)
    return folder


def shard(root: Path, *inputs: Path, params: ShardParams = PARAMS, **options: Any) -> RunSummary:
    return run.shard(find.find(list(inputs)), root, params, **options)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("undisturbed")
    shard(root, folder, workers=1)
    return contents(root)


def test_one_worker_or_four_give_the_same_bytes(
    folder: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    summary = shard(tmp_path, folder, workers=4)
    assert (len(summary.markers), summary.failures) == (4, {})
    assert summary.stain()["slide_fit"] > 0
    assert contents(tmp_path) == undisturbed


def test_a_second_run_finds_everything_done(folder: Path, tmp_path: Path) -> None:
    shard(tmp_path, folder)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = shard(tmp_path, folder)
    assert (len(again.skipped), again.markers) == (4, {})
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    made = shard(tmp_path, folder, rebuild=True)
    assert (len(made.skipped), len(made.markers)) == (0, 4)


def start(folder: Path, root: Path) -> subprocess.Popen[bytes]:
    return runs.start(folder, "--out", root, "--tile", 64, "--workers", 2)


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(
    folder: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    random.seed(0)
    killed = 0
    for _ in range(5):
        process = start(folder, tmp_path / "d")
        wait_for_work(process, tmp_path / "d")
        time.sleep(random.uniform(0.0, 0.3))
        killed += process.poll() is None
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)  # the run and every worker
        process.communicate()
        for path in (tmp_path / "d").rglob("[!.]*.json"):  # nothing half-written under a final name
            json.loads(path.read_bytes())
    assert killed >= 2
    process = start(folder, tmp_path / "d")
    process.communicate()
    assert process.returncode == 0
    assert contents(tmp_path / "d") == undisturbed
    assert all(not found.problems and not found.tiles for found in verify(tmp_path / "d"))


def test_ctrl_c_stops_in_order_and_the_run_goes_on_later(
    folder: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    process = start(folder, tmp_path)
    wait_for_work(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # else it had already ended
        assert process.returncode == 130
        assert b"goes on from here" in errors
    process = start(folder, tmp_path)
    process.communicate()
    assert process.returncode == 0
    assert contents(tmp_path) == undisturbed


@pytest.mark.realdata
def test_bad_slides_are_quarantined_and_the_rest_is_done(data: Path, folder: Path, tmp_path: Path) -> None:
    summary = shard(tmp_path, data / "bad", folder)
    assert sorted(summary.failures) == ["broken", "truncated"]
    assert len(summary.markers) == 4
    for name in ("broken", "truncated"):
        entry = Dataset(tmp_path).failed()[name]
        assert (entry.kind, entry.stage, entry.attempts) == ("UnreadableSlide", "open", 1)
        assert f"{name}.svs" in entry.error
    assert Dataset(tmp_path).slides == ["s0", "s1", "s2", "s3"]


def test_a_reader_that_dies_by_a_signal_costs_one_slide(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "deadly.tif", tissue(600, 600))
    real = slide.open_reader

    def deadly(path: Path, name: ReaderName = "auto") -> Reader:
        # as cuCIM does on a tiled deflate TIFF with a predictor, which it is not given any more
        if path.stem == "deadly":
            signal.raise_signal(signal.SIGKILL)
        return real(path, name)

    # forked from here, so that workers have the patch
    monkeypatch.setattr(local.server, "context", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(slide, "open_reader", deadly)
    summary = shard(tmp_path / "d", path, folder, workers=2)
    assert sorted(summary.markers) == ["s0", "s1", "s2", "s3"]
    entry = Dataset(tmp_path / "d").failed()["deadly"]
    assert (entry.kind, entry.stage, entry.attempts) == ("crash", "open", 2)
    assert "deadly.tif: the worker process was killed by SIGKILL" in entry.error


def test_a_file_that_a_reader_would_die_of_is_given_to_another(tmp_path: Path) -> None:
    path = tmp_path / "deadly.tif"
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib", "predictor": True}
    tifffile.imwrite(path, tissue(600, 600), resolution=(2e4, 2e4), resolutionunit="CENTIMETER", **options)
    refused = shard(tmp_path / "d", path, params=replace(PARAMS, reader="cucim")).failures["deadly"]
    assert "the reader cucim does not read it" in refused.error
    assert shard(tmp_path / "auto", path).markers["deadly"].reader == "openslide"


def test_a_slide_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "slow.tif", tissue(3000, 3000))
    summary = shard(tmp_path / "d", path, params=replace(PARAMS, tile=16), timeout=0.5)
    entry = summary.failures["slow"]
    assert (entry.kind, entry.attempts) == ("timeout", 2)
    assert "slow.tif: took longer than `slide_timeout` 0.5 s" in entry.error
    assert not list((tmp_path / "d" / "shards").glob("[!.]*"))


def test_a_mended_slide_leaves_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0 not much of a slide")
    root = tmp_path / "d"
    assert list(shard(root, path).failures) == ["a"]
    write_tiff(path, tissue(400, 400))
    assert list(shard(root, path).markers) == ["a"]
    assert Dataset(root).failed() == {}
    # and one that changes is made again; should it now fail, its old tiles are gone from the dataset
    write_tiff(path, tissue(500, 400))
    assert shard(root, path).markers["a"].height == 500
    path.write_bytes(b"broken again")
    assert list(shard(root, path).failures) == ["a"]
    assert Dataset(root).slides == []


def test_a_slide_that_is_not_there_for_a_moment_keeps_its_shard(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "a.tif").write_bytes((folder / "s0.tif").read_bytes())
    (tmp_path / "slides.csv").write_text("Slide, MPP\narchive/a.tif, 0.4\n")
    made = shard(tmp_path / "d", tmp_path / "slides.csv").markers["a"]
    assert (made.mpp, made.mpp_source) == (0.4, "CSV column")
    archive.rename(tmp_path / "unmounted")
    assert "no such file" in shard(tmp_path / "d", tmp_path / "slides.csv").failures["a"].error
    assert Dataset(tmp_path / "d").slides == ["a"]
    (tmp_path / "unmounted").rename(archive)
    assert list(shard(tmp_path / "d", tmp_path / "slides.csv").skipped) == ["a"]


def test_a_slide_patched_in_place_is_made_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = (folder / "s0.tif").read_bytes()
    path.write_bytes(data)
    shard(tmp_path / "d", path)
    assert list(shard(tmp_path / "d", path).skipped) == ["a"]
    path.write_bytes(data[:-3] + bytes(b ^ 1 for b in data[-3:]))
    assert list(shard(tmp_path / "d", path).skipped) == []


def test_other_parameters_need_another_folder_or_a_rebuild(folder: Path, tmp_path: Path) -> None:
    shard(tmp_path, folder / "s0.tif")
    other = replace(PARAMS, quality=70)
    with pytest.raises(UsageError, match=r"quality 90 there, 70 now.*another `out`, or `rebuild`"):
        shard(tmp_path, folder / "s0.tif", params=other)
    assert Dataset(tmp_path).slides == ["s0"]
    assert shard(tmp_path, folder / "s1.tif", params=other, rebuild=True).stale == ["s0"]
    # s0 is of the old build: it is no part of the dataset until it is made again
    assert Dataset(tmp_path).slides == ["s1"]
    shard(tmp_path, folder, params=other)
    assert Dataset(tmp_path).slides == ["s0", "s1", "s2", "s3"]
    assert all(not found.problems for found in verify(tmp_path))


def test_a_run_reads_a_marker_twice_and_a_part_only_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(tmp_path, folder)
    stray = tmp_path / "slides" / ".tmp-host~1.a~s9.json"  # another run is about to commit
    stray.write_text("{")
    read: list[str] = []
    real = marker.read_json

    def noted(path: Path) -> dict[str, Any] | None:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(marker, "read_json", noted)
    assert shard(tmp_path, folder).stale == []
    # once for the names, once to see what is done
    assert Counter(name for name in read if name.startswith("s")) == {f"s{i}.json": 2 for i in range(4)}
    for path in (tmp_path / "slides").glob("s*.json"):
        path.write_text(path.read_text().replace('"build_id": "', '"build_id": "0'))
    parts = [[s for s in ("s0", "s1", "s2", "s3") if in_part(s, k, 2)] for k in (1, 2)]
    found = plan(find.find([folder]), tmp_path, PARAMS, part=(1, 2))
    read.clear()
    summary = RunSummary(tmp_path, found.build_id, len(found.slides), {})
    assert run._stale(found, summary) == ([], parts[0])
    assert sorted(read) == [f"{name}.json" for name in parts[0]]
    assert run._stale(replace(found, whole=True), summary) == ([], ["s0", "s1", "s2", "s3"])


def test_a_full_disk_stops_the_run_and_quarantines_nothing(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));" + COMMAND
    )
    arguments = ["shard", str(folder), "--out", str(root), "--tile", "64"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()[-1]
    assert said == (
        f"error: {root}: File too large; allow larger files there (`ulimit -f`), or choose another disk; "
        "then the same command goes on"
    )
    assert "Grid cells" in done.stdout.decode()  # the account of what was made before
    assert not list(root.glob("*/.tmp-*"))
    assert not list((root / "failed").glob("*.json"))
    assert shard(root, folder).failures == {}


def test_random_tiles_are_the_same_in_every_run(folder: Path, tmp_path: Path) -> None:
    params = replace(PARAMS, max_tiles=10, seed=3)
    shard(tmp_path / "1", folder, params=params, workers=1)
    shard(tmp_path / "2", folder, params=params, workers=3)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(Dataset(tmp_path / "1").tiles()) == 40
    places = [Dataset(tmp_path / "1").table(s)["x"].to_numpy() for s in ("s0", "s1")]
    assert not np.array_equal(*places)


def test_several_resolutions(folder: Path, tmp_path: Path) -> None:
    # the slides have 0.5 MPP: at 0.25 there is nothing to be had, which is no failure
    params = replace(PARAMS, mode="resize", mpp=2.0, more_mpps=(1.0, 0.5, 0.25))
    summary = shard(tmp_path, folder, params=params)
    assert (len(summary.markers), summary.failures) == (16, {})
    dataset = Dataset(tmp_path)
    assert [name for name in dataset.slides if name.startswith("s1")] == [
        "s1_mpp0-25",
        "s1_mpp0-5",
        "s1_mpp1",
        "s1_mpp2",
    ]
    assert dataset.params["mpp"] == [0.25, 0.5, 1.0, 2.0]
    for name, each in dataset.markers.items():
        mpp = each.target_mpp
        assert each.slide_id == name.split("_")[0]
        assert (each.left_out is not None) == (mpp == 0.25)
        rows = dataset.table(name).to_pylist()
        assert {(row["stored"], row["side"], row["mpp"]) for row in rows} == (
            {(64, round(128 * mpp), mpp)} if mpp != 0.25 else set()
        )
    assert not any(found.problems or found.tiles for found in verify(tmp_path))
    assert len(shard(tmp_path, folder, params=params).skipped) == 16
    # one of them alone has the tiles of a run at that resolution
    alone = tmp_path / "alone"
    shard(alone, folder / "s1.tif", params=replace(PARAMS, mode="resize", mpp=1.0))
    jpegs = [
        [tile.jpeg for tile in Dataset(root) if tile.slide == name]
        for root, name in ((alone, "s1"), (tmp_path, "s1_mpp1"))
    ]
    assert jpegs[0] == jpegs[1] != []


def test_several_resolutions_need_resize() -> None:
    with pytest.raises(UsageError, match="need resized tiles"):
        replace(PARAMS, more_mpps=(1.0,))
    with pytest.raises(UsageError, match="twice"):
        replace(PARAMS, mode="resize", more_mpps=(0.5,))


def test_a_long_name_and_an_unwritable_record_cost_a_slide_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for number, name in enumerate(("A", "L" * 250, "Z")):
        write_tiff(tmp_path / "new.tif", tissue(128, 128, seed=number)).rename(folder / f"{name}.tif")
    (folder / "B.tif").write_bytes(b"no slide")
    write, refused = atomic.write_json, list[Path]()

    def refuse(path: Path, value: Any) -> None:
        if path.parent.name == "failed":
            refused.append(path)
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        write(path, value)

    monkeypatch.setattr(atomic, "write_json", refuse)
    summary = shard(tmp_path / "d", folder)
    assert (len(summary.markers), [*summary.failures], len(refused)) == (3, ["B"], 1)
    assert "failed/B.json: cannot be written (File name too long)" in caplog.text
    long = next(name for name in summary.markers if name.startswith("L"))
    assert len(long) == 68
    assert Dataset(tmp_path / "d").slide_names(summary.markers).find("L" * 250) == long

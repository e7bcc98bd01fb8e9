"""Features straight from slides: those of a dataset, resumed, one file per slide, whatever a slide does."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.commands import command
from helpers.deadly_streams import Deadly
from helpers.s3 import bucket, upload
from helpers.slides import tissue, write_tiff
from helpers.toys import write_run
from typer.testing import CliRunner

import pathprep
from pathprep.dataset.failed import read_failed
from pathprep.errors import UsageError
from pathprep.params.shard import ShardParams
from pathprep.slides.find import SlideSource
from pathprep.streaming import stream as streams
from pathprep.streaming.stream import Tiles, TileStream
from pathtrain.cli import app
from pathtrain.features import embed as embedding
from pathtrain.features.embed import embed
from pathtrain.features.slides_account import SlidesSummary
from pathtrain.images import resize
from pathtrain.runs.finishing import aimed
from pathtrain.runs.opening import load

QUICK: dict[str, Any] = {"tile": 64, "workers": 2, "batch": 7}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_run(folder / "run", folder / "none")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_tiff(folder / "a.tif", tissue(420, 640, seed=1, margin=60))
    write_tiff(folder / "b.tif", tissue(400, 400, seed=2), mpp=0.25)
    write_tiff(folder / "glass.tif", np.full((300, 300, 3), 243, np.uint8))
    return folder


@pytest.fixture
def slides(tmp_path: Path, archive: Path) -> Path:
    return shutil.copytree(archive, tmp_path / "slides")


def summary_of(*given: Any, **settings: Any) -> SlidesSummary:
    found = embed(*given, **{**QUICK, **settings})
    assert isinstance(found, SlidesSummary)
    return found


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any], dict[str, Any]]:
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:], dict(file["coords"].attrs), dict(file.attrs)


@pytest.mark.parametrize("stained", [False, True], ids=["plain", "normalised"])
def test_features_are_those_through_shards_up_to_jpeg(
    tmp_path: Path, slides: Path, run: Path, stained: bool
) -> None:
    model = aimed(load(run), "reference") if stained else load(run)
    pathprep.shard(
        slides, tmp_path / "dataset", tile=64, quality=100, subsampling="444",
        stain="bake" if stained else "none",
    )  # fmt: skip
    embed(model, tmp_path / "dataset", tmp_path / "two")
    summary = summary_of(model, slides, tmp_path / "one")
    assert (summary.written, summary.empty, summary.kept, summary.failures) == (2, 1, 0, {})
    assert summary.stain == ({"fitted": summary.tiles} if stained else {"none": summary.tiles})
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["a.h5", "b.h5", "empty"]
    for name in ("a.h5", "b.h5"):
        one, two = read(tmp_path / "one" / name), read(tmp_path / "two" / name)
        assert np.array_equal(one[1], two[1])
        assert one[2] == two[2]
        assert one[0].shape == two[0].shape
        # quality 100 without subsampling rounds grey levels; features are of the order of 1
        np.testing.assert_allclose(one[0], two[0], atol=0.02)
        assert np.abs(one[0] - two[0]).max() > 0  # else nothing was compared
        assert one[3]["fingerprint"] == two[3]["fingerprint"] == model.fingerprint
    assert read(tmp_path / "one" / "b.h5")[2]["patch_size_level0"] == 128  # 64 pixels at 0.5 of 0.25


def test_without_jpeg_they_are_the_models_of_the_same_pixels(tmp_path: Path, slides: Path, run: Path) -> None:
    """In batches across slides, as in one batch."""
    model = load(run)
    summary_of(model, slides, tmp_path / "features", batch=50)
    found = [SlideSource(path, name=path.stem) for path in sorted(slides.glob("*.tif"))]
    tiles: dict[int, list[np.ndarray]] = {}
    with TileStream(found, ShardParams.of(tile=64, stain="none"), tmp_path, workers=2) as stream:
        for event in stream:
            if isinstance(event, Tiles):
                tiles.setdefault(event.slide, []).extend(np.array(tile) for tile in event.pixels)
                event.release()
    for number in (0, 1):
        images = np.stack([resize(tile, 32) for tile in tiles[number]])
        got = read(tmp_path / "features" / f"{found[number].name}.h5")[0]
        np.testing.assert_allclose(got, model(images), atol=1e-5)


def test_tile_and_mpp_are_the_models_unless_asked_for(tmp_path: Path, slides: Path, run: Path) -> None:
    embed(run, slides / "a.tif", tmp_path / "own")
    embed(run, slides / "a.tif", tmp_path / "asked", tile=50, mpp=1.0, mode="resize")
    own, asked = read(tmp_path / "own" / "a.h5"), read(tmp_path / "asked" / "a.h5")
    assert (own[2]["patch_size"], own[2]["patch_size_level0"], own[3]["mpp"]) == (32, 32, 0.5)
    assert (asked[2]["patch_size"], asked[2]["patch_size_level0"]) == (50, 100)
    assert asked[3]["mpp"] == 50 / 32  # of what the model sees
    assert {key: own[3][key] for key in ("encoder", "width", "dtype", "precision", "slide")} == {
        "encoder": "run", "width": 24, "dtype": "float32", "precision": "float32", "slide": "a",
    }  # fmt: skip


def test_what_fits_is_kept_and_what_changed_is_made_again(tmp_path: Path, slides: Path, run: Path) -> None:
    out = tmp_path / "features"
    summary_of(run, slides, out)
    before = {path.name: path.read_bytes() for path in out.glob("*.h5")}
    again = summary_of(run, slides, out)
    assert (again.written, again.kept, again.empty, again.tiles) == (0, 3, 0, 0)
    (tmp_path / "moved").mkdir()
    for path in slides.iterdir():  # to another disk: bytes count
        path.rename(tmp_path / "moved" / path.name)
    assert summary_of(run, tmp_path / "moved", out).kept == 3
    assert {path.name: path.read_bytes() for path in out.glob("*.h5")} == before
    write_tiff(tmp_path / "moved" / "a.tif", tissue(420, 640, seed=9))
    changed = summary_of(run, tmp_path / "moved" / "a.tif", out)
    assert (changed.written, changed.kept) == (1, 0)
    more = summary_of(run, tmp_path / "moved", out, min_tissue=0.9)
    assert (more.written, more.empty, more.kept) == (2, 1, 0)
    with h5py.File(out / "b.h5", "r+") as file:
        file["coords"][0] += 1
    assert summary_of(run, tmp_path / "moved", out, min_tissue=0.9).written == 1  # damaged


def test_another_slide_of_the_same_name_does_not_take_its_file(
    tmp_path: Path, slides: Path, run: Path
) -> None:
    out = tmp_path / "features"
    summary_of(run, slides / "a.tif", out)
    before = (out / "a.h5").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    other = write_tiff(tmp_path / "elsewhere" / "a.tif", tissue(300, 300, seed=8))
    assert summary_of(run, other, out).written == 1
    assert (out / "a.h5").read_bytes() == before
    assert len(list(out.glob("a-*.h5"))) == 1
    assert summary_of(run, other, out).kept == 1
    both = summary_of(run, [slides / "a.tif", other], tmp_path / "both")
    assert both.written == len(list((tmp_path / "both").glob("a-*.h5"))) == 2


def test_slides_that_fail_are_named_and_tried_again(
    tmp_path: Path, slides: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slides / "b.tif").write_bytes(b"II*\0 no slide")
    write_tiff(slides / "crash.tif", tissue(400, 400, seed=3))
    write_tiff(slides / "once.tif", tissue(400, 400, seed=4))
    out = tmp_path / "features"
    with monkeypatch.context() as patched:
        patched.setattr(streams, "StreamTask", Deadly)
        summary = summary_of(run, slides, out)
    assert (summary.written, summary.empty) == (2, 1)
    assert {name: entry.kind for name, entry in summary.failures.items()} == {
        "b": "UnreadableSlide", "crash": "crash",
    }  # fmt: skip
    entry = read_failed(out / "failed" / "crash.json")
    assert entry is not None
    assert (entry.attempts, entry.slide) == (2, "crash")
    assert "was killed by SIGABRT" in entry.error
    assert len(read(out / "once.h5")[0]) == 36  # of its second attempt alone
    again = summary_of(run, slides, out)
    assert (again.written, again.kept, list(again.failures)) == (1, 3, ["b"])
    assert [path.name for path in (out / "failed").iterdir()] == ["b.json"]


def test_a_slide_that_is_not_there_keeps_its_features(tmp_path: Path, slides: Path, run: Path) -> None:
    """An archive that is not mounted for once."""
    table = tmp_path / "slides.csv"
    table.write_text(f"slide,mpp\n{slides / 'a.tif'},0.5\n{slides / 'b.tif'},0.25\n")
    out = tmp_path / "features"
    assert summary_of(run, table, out).written == 2
    (slides / "a.tif").rename(tmp_path / "away.tif")
    summary = summary_of(run, table, out)
    assert (summary.kept, list(summary.failures)) == (1, ["a"])
    assert (out / "a.h5").exists()
    (tmp_path / "away.tif").rename(slides / "a.tif")
    assert summary_of(run, table, out).kept == 2
    assert not list((out / "failed").glob("*.json"))


def test_other_models_and_wrong_settings_are_refused(tmp_path: Path, slides: Path, run: Path) -> None:
    out = tmp_path / "features"
    summary_of(run, slides / "a.tif", out)
    stained = aimed(load(run), "reference")
    with pytest.raises(UsageError, match=r"features of another model .*a.h5: of run, fingerprint"):
        summary_of(stained, slides, out)
    for settings, message in (
        ({"stain": "none"}, "`stain` none: run was trained on normalised tiles"),
        ({"stain_beta": 0.2}, "`stain_beta`: is run's own"),
        ({"quality": 90}, "`quality`: no such parameter"),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"level": "slide"}, "`level` slide: regions and slides are made from a dataset"),
        ({"min_tisue": 0.5}, "did you mean `min_tissue`"),
    ):
        with pytest.raises(UsageError, match=message):
            summary_of(stained, slides, tmp_path / "other", **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())


def test_the_command(tmp_path: Path, slides: Path, run: Path) -> None:
    (slides / "bad.tif").write_bytes(b"II*\0 no slide")
    (slides / "label.png").write_bytes(b"a picture")
    write_tiff(slides / "bare.tif", tissue(400, 400, seed=5), mpp=None)
    out = tmp_path / "features"
    arguments = ["embed", str(run), str(slides), "--out", str(out), "--tile", "64", "--workers", "2"]
    done = CliRunner().invoke(app, [*arguments, "--min-tissue", "0.5", "--json"])
    assert done.exit_code == 1, done.output
    said = json.loads(done.stdout)
    assert (said["written"], said["empty"], list(said["failed"])) == (2, 1, ["bad", "bare"])
    assert "1 file not taken: 1 .png" in done.stderr
    assert "`default_mpp`" not in done.stderr
    assert done.stderr.count("give --default-mpp 0.25") == 2  # as it goes, and at the end
    assert said["counts"]["kept"] == said["tiles"] == sum(said["stain"].values())
    assert 0 <= said["model_waited"] <= 1
    assert {"tissue", "read", "cut"} <= said["reading_seconds"].keys()
    assert "bad: " in done.stderr
    part = CliRunner().invoke(app, [*arguments, "--min-tissue", "0.5", "--part", "1/2"])
    assert "kept as they were" in part.stdout or "0 files written" in part.stdout


def test_an_interrupted_command_says_what_goes_on(
    tmp_path: Path, slides: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_given: Any, **_settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "embed", stopped)
    done = command("pathtrain", "embed", run, slides, "--out", tmp_path / "features")
    assert (done.code, done.err) == (130, "Interrupted; the same command goes on from here.\n")


def test_slides_at_a_url_are_fetched_within_a_limit(
    tmp_path: Path, slides: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one whose reader crashes once, which is fetched anew; nothing is left behind."""
    write_tiff(slides / "once.tif", tissue(400, 400, seed=4))
    monkeypatch.setattr(streams, "StreamTask", Deadly)
    largest = max(path.stat().st_size for path in slides.iterdir())
    scratch, out = tmp_path / "scratch", tmp_path / "features"
    summary_of(run, slides, tmp_path / "local")
    with bucket() as url:
        upload(str(slides), f"{url}/archive")
        limits = {"scratch": scratch, "scratch_limit": 1.2 * largest / 1e9}
        summary = summary_of(run, f"{url}/archive", out, **limits)
        assert (summary.written, summary.empty, summary.failures) == (3, 1, {})
        assert summary_of(run, f"{url}/archive", out, **limits).kept == 4  # without fetching them
        one = summary_of(run, [f"{url}/archive/a.tif", slides / "b.tif"], tmp_path / "one")
        assert one.written == 2
        small = summary_of(run, f"{url}/archive", tmp_path / "small", scratch=scratch, scratch_limit=1e-6)
        assert len(small.failures) == 4
        assert "archive/a.tif" in small.failed["a"]
        assert "raise `scratch_limit`" in small.failed["a"]
    assert not [path for path in scratch.rglob("*") if path.is_file()]
    for name in ("a.h5", "b.h5", "once.h5"):
        assert np.array_equal(read(out / name)[0], read(tmp_path / "local" / name)[0])
    assert read(out / "a.h5")[3]["source"] == "s3://bucket/archive/a.tif"
    with pytest.raises(UsageError, match="`scratch` goes with slides at a URL"):
        summary_of(run, slides, tmp_path / "more", scratch=scratch)


@pytest.mark.slow
def test_runs_side_by_side_share_the_slides(tmp_path: Path, slides: Path, run: Path) -> None:
    """Two on one folder: each file is whole, and the same as of one."""
    for seed in range(4):
        write_tiff(slides / f"more{seed}.tif", tissue(300, 300, seed=seed))
    summary_of(run, slides, tmp_path / "alone")
    out = tmp_path / "both"
    command = [sys.executable, "-m", "pathtrain", "embed", str(run), str(slides), "--out", str(out)]
    command += ["--tile", "64", "--batch", "7", "--workers", "1", "--json"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(each.communicate(timeout=300)[0]) for each in runs]
    assert all(each.returncode == 0 for each in runs)
    assert all(each["written"] + each["kept"] + each["empty"] == 7 for each in said)
    assert sorted(path.name for path in out.iterdir() if path.suffix) == sorted(
        path.name for path in (tmp_path / "alone").iterdir() if path.suffix
    )
    for path in out.glob("*.h5"):
        np.testing.assert_allclose(read(path)[0], read(tmp_path / "alone" / path.name)[0], atol=1e-5)


@pytest.mark.slow
def test_killed_at_any_time_it_goes_on(tmp_path: Path, slides: Path, run: Path) -> None:
    summary_of(run, slides, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pathtrain", "embed", str(run), str(slides), "--out", str(out)]
    command += ["--tile", "64", "--batch", "7", "--workers", "2"]
    for seconds in (2.0, 3.0, 4.0, 5.0):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "killed: " in done.stdout
    left = {path.name for path in out.iterdir()}
    assert left == {path.name for path in (tmp_path / "whole").iterdir()}  # no temporary file either
    for name in ("a.h5", "b.h5"):
        np.testing.assert_allclose(read(out / name)[0], read(tmp_path / "whole" / name)[0], atol=1e-5)


@pytest.mark.slow
def test_two_ranks_take_slides_of_their_own(tmp_path: Path, slides: Path, run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    world = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "pathtrain", "embed", str(run), str(slides), "--json"]
    command += ["--out", str(tmp_path / "two"), "--tile", "64", "--workers", "1"]
    ranks = [
        subprocess.Popen(
            command, env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE
        )
        for rank in "01"
    ]
    said = [each.communicate(timeout=300)[0] for each in ranks]
    assert [each.returncode for each in ranks] == [0, 0]
    account = json.loads(said[0])
    assert (account["written"], account["empty"], account["processes"]) == (2, 1, 2)
    assert not said[1]
    assert len(list((tmp_path / "two").glob("*.h5"))) == 2

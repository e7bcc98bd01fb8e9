"""Damaged slides of a dataset are made again, to the same bytes; the others are not touched."""

import errno
import json
import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from helpers.tilesets import folders, tile
from typer.testing import CliRunner

from pathprep.cli import app
from pathprep.dataset.marker import SlideMarker, is_displaced, read_sealed
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import verify
from pathprep.params.quality import QcParams
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tissue import TissueParams
from pathprep.sharding import pipeline, run
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.recorded import recorded
from pathprep.sharding.repair import repair, source_of
from pathprep.slides import find
from pathprep.stain import Target
from pathprep.storage import atomic
from pathprep.storage.local import LocalStorage
from pathprep.storage.seals import sealed
from pathprep.tilesets.import_tiles import import_tiles

PARAMS = ShardParams(tile=64, region=1024, mode="resize", mpp=1.0, more_mpps=(0.5,), min_tissue=0.3)


def test_parameters_come_back_from_the_dataset() -> None:
    every = ShardParams(
        tile=128,
        mpp=0.25,
        overlap=3,
        region=512,
        whole_regions=True,
        stain=StainParams(target=Target(np.eye(3, 2), np.ones(2), "x"), keep="any"),
        tissue=TissueParams("otsu"),
        max_tiles=5,
        seed=7,
    )
    filtered = ShardParams(qc=QcParams(min_focus=3.0), stain=StainParams("fit"))
    for params in (ShardParams(), PARAMS, every, filtered, ShardParams(stain=StainParams("none"))):
        values = json.loads(json.dumps(params.as_dict()))
        assert recorded(values).as_dict() == values
    with pytest.raises(UsageError, match="another version"):
        recorded({**ShardParams().as_dict(), "pixels_version": 0})
    with pytest.raises(UsageError, match="another version"):
        recorded({**ShardParams().as_dict(), "unheard": 0})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(2):
        write_tiff(folder / f"s{number}.tif", tissue(500, 600, seed=number, margin=80))
    square = {"type": "Polygon", "coordinates": [[[0, 0], [400, 0], [400, 400], [0, 400], [0, 0]]]}
    feature = {"type": "Feature", "geometry": square, "properties": {}}
    mask = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "m").mkdir()
    for number in range(2):
        (tmp_path / f"m/s{number}.geojson").write_text(json.dumps(mask))
    root = tmp_path / "d"
    summary = run.shard(find.find([folder], tmp_path / "m"), root, PARAMS)
    assert not summary.failures
    return root, files(root)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "slides"
    }


@pytest.mark.parametrize(
    "harm",
    [
        lambda root: flip(root / "shards/s0_mpp0-5.tar"),
        lambda root: flip(root / "index/s0_mpp0-5.parquet"),
        lambda root: (root / "shards/s0_mpp0-5.idx").unlink(),
        lambda root: (root / "previews/s0_mpp0-5.jpg").write_bytes(b""),
    ],
    ids=["tar", "parquet", "idx", "preview"],
)
def test_the_damaged_slide_is_made_again_and_no_other(
    harm: Callable[[Path], object], dataset: tuple[Path, dict[str, bytes]]
) -> None:
    root, before = dataset
    markers = {path: path.stat().st_mtime_ns for path in (root / "slides").iterdir()}
    harm(root)
    done = repair(root, workers=1)
    assert [found.slide for found in done.damaged] == ["s0_mpp0-5"]
    assert done.summary is not None
    assert (list(done.summary.markers), done.summary.failures) == (["s0_mpp0-5"], {})
    assert files(root) == before
    changed = {path.stem for path, time in markers.items() if path.stat().st_mtime_ns != time}
    assert changed == {"s0_mpp0-5"}
    assert repair(root, workers=1).summary is None


def test_what_killed_runs_left_goes_and_is_no_damage(dataset: tuple[Path, dict[str, bytes]]) -> None:
    root, before = dataset
    name = f"{atomic.PREFIX}{socket.gethostname()}~999999999~s1_mpp1.tar"
    (root / "shards" / name).write_bytes(b"half")
    done = repair(root, workers=1)
    assert (done.summary, done.folder.problems) == (None, [])
    assert files(root) == before


def test_what_cannot_be_made_again_is_quarantined(dataset: tuple[Path, dict[str, bytes]]) -> None:
    root, _ = dataset
    flip(root / "shards/s1_mpp1.tar")
    Path(Dataset(root).markers["s1_mpp1"].source.path).unlink()
    done = repair(root, workers=1)
    assert done.summary is not None
    assert "no such file" in done.summary.failures["s1_mpp1"].error
    assert done.moved == ["s1_mpp1"]
    assert re.search(rf"`pathprep shard WHERE_THEY_ARE_NOW .*--out {root} --rebuild`", done.elsewhere)
    (root / "shards" / "foreign.tar").touch()
    assert any("foreign.tar" in line for line in repair(root, workers=1).folder.problems)


def test_a_damaged_marker_is_not_called_one_of_other_parameters(
    dataset: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    root, _ = dataset
    flip(root / "slides/s1_mpp1.json")
    flip(root / "shards/s0_mpp1.tar")
    done = CliRunner().invoke(app, ["repair", str(root), "--workers", "1"])
    assert done.exit_code == 1
    assert "other parameters" not in done.output
    assert (
        f"Damaged: 1 file in slides/, of which nobody knows what they stand for: s1_mpp1; "
        f"`pathprep verify {root}`" in (" ".join(done.output.split()))
    )


def test_a_moved_slide_is_made_again_from_its_new_place(dataset: tuple[Path, dict[str, bytes]]) -> None:
    """What repair says of it, typed."""
    root, before = dataset
    flip(root / "shards/s1_mpp1.tar")
    path = Path(Dataset(root).markers["s1_mpp1"].source.path)
    there = path.rename(path.parent.parent / "s1.tif")
    run.shard(find.find([there], root.parent / "m"), root, PARAMS, rebuild=True, workers=1)
    assert files(root) == before
    assert not any(found.problems for found in verify(root))


def test_files_that_may_not_be_read_are_left_as_they_are(
    dataset: tuple[Path, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, before = dataset
    stream = LocalStorage.stream

    def closed(storage: LocalStorage, name: str) -> Any:
        if name == "shards/s1_mpp1.tar":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return stream(storage, name)

    monkeypatch.setattr(LocalStorage, "stream", closed)
    done = CliRunner().invoke(app, ["repair", str(root)])
    assert done.exit_code == 1
    assert "s1_mpp1.tar: cannot be read (Permission denied); have the right" in done.output
    assert "left as it is" in done.output
    told = CliRunner().invoke(app, ["verify", str(root)])
    assert (told.exit_code, "makes them again" in told.output) == (1, False)
    monkeypatch.undo()
    assert files(root) == before


def test_a_dataset_of_another_version_is_left_alone(dataset: tuple[Path, dict[str, bytes]]) -> None:
    root, _ = dataset
    flip(root / "shards/s1_mpp1.tar")
    info = json.loads((root / "dataset.json").read_text())
    info["params"] = replace(PARAMS, tile=32).as_dict() | {"pixels_version": 1}
    info["build_id"] = build_id(info["params"])
    for path in (root / "slides").glob("*.json"):
        path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"build_id": info["build_id"]})))
    (root / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match="another version"):
        repair(root, workers=1)


def test_no_good_tile_goes_when_the_slide_cannot_be_read_any_more(
    dataset: tuple[Path, dict[str, bytes]],
) -> None:
    root, _ = dataset
    flip(root / "previews/s1_mpp1.jpg")
    marker = json.loads((root / "slides/s1_mpp1.json").read_text())
    slide = Path(marker["source"]["path"])
    slide.write_bytes(slide.read_bytes()[:2000])
    done = repair(root, workers=1)
    assert done.summary is not None
    assert set(done.summary.failures) == {"s1_mpp1"}
    assert "s1_mpp1" in Dataset(root).slides
    assert not list((root / "failed").iterdir())
    assert [found.slide for found in verify(root) if found.problems] == ["s1_mpp1"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("slides/s1_mpp1.json", '"kept": ', '"kept": 1'),
        ("slides/s1_mpp1.json", '"files"', '"fjles"'),
        ("slides/s1_mpp1.json", "{", "["),
        ("dataset.json", '"quality": 9', '"quality": 8'),
    ],
)
def test_a_flipped_byte_of_a_marker_is_found(
    dataset: tuple[Path, dict[str, bytes]], file: str, old: str, new: str
) -> None:
    root, _ = dataset
    (root / file).write_text((root / file).read_text().replace(old, new, 1))
    if file == "dataset.json":
        with pytest.raises(DatasetError, match="damaged"):
            repair(root, workers=1)
        return
    done = repair(root, workers=1)
    assert [(found.slide, found.lost) for found in done.damaged] == [("s1_mpp1", True)]
    assert "`pathprep shard SLIDES --out" in done.damaged[0].problems[0]
    assert "makes it again; delete it if there is no such slide" in done.damaged[0].problems[0]
    assert done.folder.problems == []
    assert done.summary is None


class Killed(BaseException):
    """Stands for a kill: nothing is tidied up that a dead process would not tidy up."""


def marker_of(root: Path, name: str) -> SlideMarker:
    """A slide's marker, committed or displaced."""
    marker = read_sealed(root / f"slides/{name}.json")
    assert isinstance(marker, SlideMarker)
    return marker


def remake(root: Path, name: str, killed_at: int) -> bool:
    """Make a slide again, and die at this rename of the last files; false if it came to its end before."""
    there = Dataset(root)
    marker = marker_of(root, name)
    task = ShardTask(root, source_of(name, marker), PARAMS, there.info["build_id"], rebuild=True)
    publish, left = atomic.publish, killed_at

    def dying(temporary: Path, path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        publish(temporary, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "publish", dying)
        try:
            pipeline.process(task)
        except Killed:
            return True
    return False


def test_a_slide_whose_remaking_is_killed_anywhere_is_brought_back_by_repair(
    dataset: tuple[Path, dict[str, bytes]],
) -> None:
    root, before = dataset
    name, moments = "s0_mpp0-5", 0
    while remake(root, name, moments):
        moments += 1
        # whatever the moment: it is whole, or it is named, with the command that brings it back
        found = {each.slide: each for each in verify(root) if each.problems}
        if name not in Dataset(root).slides:
            assert found[name].displaced
            assert "did not come to its end" in found[name].problems[0]
            assert "(folder)" not in found or not any(name in line for line in found["(folder)"].problems)
    assert moments >= 6  # the marker, the tar, idx, index, two previews, the marker again
    assert files(root) == before
    for moment in range(1, moments):
        assert remake(root, name, moment)
        assert name not in Dataset(root).slides
        if moment == 3:
            done = repair(root, workers=1)
            assert done.summary is not None
            assert (list(done.summary.markers), done.summary.failures) == ([name], {})
            assert files(root) == before
            assert not any(found.problems or found.tiles for found in verify(root))
    # the command that made it does as well, and keeps the slide's mask
    marker = marker_of(root, name)
    folder = Path(marker.source.path).parent
    made = run.shard(find.find([folder], folder.parent / "m"), root, PARAMS)
    assert (list(made.markers), made.stale) == ([name], [])
    assert files(root) == before


def test_a_displaced_slide_that_is_not_there_now_waits_for_its_archive(
    dataset: tuple[Path, dict[str, bytes]],
) -> None:
    root, before = dataset
    assert remake(root, "s1_mpp1", 2)
    slide = Path(marker_of(root, "s1_mpp1").source.path)
    for harm in (lambda: slide.rename(slide.with_name("away")), lambda: slide.write_bytes(b"cut")):
        away = slide.read_bytes()
        harm()
        done = repair(root, workers=1)
        assert done.summary is not None
        assert list(done.summary.failures) == ["s1_mpp1"]
        assert is_displaced(marker_of(root, "s1_mpp1"))
        slide.write_bytes(away)
    done = repair(root, workers=1)
    assert done.summary is not None
    assert list(done.summary.markers) == ["s1_mpp1"]
    assert files(root) == before


@pytest.mark.slow
def test_two_repairs_and_a_shard_at_once(dataset: tuple[Path, dict[str, bytes]]) -> None:
    root, before = dataset
    for name in ("s0_mpp1", "s0_mpp0-5", "s1_mpp1"):
        flip(root / f"shards/{name}.tar")
    assert remake(root, "s1_mpp0-5", 2)
    folder = Path(marker_of(root, "s1_mpp0-5").source.path).parent
    with ThreadPoolExecutor(3) as pool:
        repairs = [pool.submit(repair, root, workers=1) for _ in range(2)]
        sharding = pool.submit(
            run.shard, find.find([folder], folder.parent / "m"), root, PARAMS, workers=1, rebuild=True
        )
        for each in repairs:
            summary = each.result().summary
            assert summary is None or not summary.failures
        assert not sharding.result().failures
    assert files(root) == before
    assert not any(found.problems or found.tiles for found in verify(root))


def test_other_kinds_of_datasets_are_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    root = tmp_path / "tiles"
    import_tiles(folders(tmp_path / "source", {f"train/{n}/{n}.png": tile(n) for n in range(2)}), root)
    with pytest.raises(UsageError, match=r"tiles that were imported.*`pathprep import-tiles SOURCE --out"):
        repair(root)
    (root / "import-tiles.yaml").write_text("source: x\n")
    with pytest.raises(UsageError, match=r"import-tiles --config .*import-tiles.yaml --out"):
        repair(root)


def test_a_slide_with_a_damaged_marker_keeps_its_name(tmp_path: Path) -> None:
    """Two slides of one name have a hash in theirs; the one that is made again must not get another."""
    for number in range(2):
        folder = tmp_path / f"slides/{number}"
        folder.mkdir(parents=True)
        write_tiff(folder / "s.tif", tissue(500, 600, seed=number, margin=80))
    params = ShardParams(tile=64, region=1024, mode="resize", mpp=1.0)
    root, sources = tmp_path / "d", find.find([tmp_path / "slides"])
    names = sorted(run.shard(sources, root, params, workers=1).markers)
    assert all(name.startswith("s-") for name in names)
    before = files(root)
    flip(root / f"slides/{names[0]}.json")
    made = run.shard(sources, root, params, workers=1)
    assert list(made.markers) == [names[0]]
    assert files(root) == before
    assert not any(found.problems for found in verify(root))


@pytest.mark.parametrize("sources", [3, ["x"], {"a": 1}])
def test_a_forged_mix_is_refused_as_any(sources: object, tmp_path: Path) -> None:
    (tmp_path / "mixed.json").write_text(json.dumps({"sources": sources}))
    with pytest.raises(UsageError, match="holds mixed shards, not repaired from slides"):
        repair(tmp_path)

"""Damaged slides of a dataset are made again, to the same bytes; the others are not touched."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import verify
from pathprep.params.quality import QcParams
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tissue import TissueParams
from pathprep.sharding import run
from pathprep.sharding.recorded import recorded
from pathprep.sharding.repair import repair
from pathprep.slides import find
from pathprep.stain import Target
from pathprep.storage.seals import sealed

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


def test_what_cannot_be_made_again_is_quarantined(dataset: tuple[Path, dict[str, bytes]]) -> None:
    root, _ = dataset
    flip(root / "shards/s1_mpp1.tar")
    Path(Dataset(root).markers["s1_mpp1"].source.path).unlink()
    done = repair(root, workers=1)
    assert done.summary is not None
    assert "no such file" in done.summary.failures["s1_mpp1"].error
    (root / "shards" / "foreign.tar").touch()
    assert any("foreign.tar" in line for line in repair(root, workers=1).folder.problems)


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
    assert "makes it again" in done.damaged[0].problems[0]
    assert done.folder.problems == []
    assert done.summary is None

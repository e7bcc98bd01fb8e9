"""What is in imported JPEGs beside the picture: dropped, unless it is asked for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers.jpegs import SECRET, exif, plain, told
from helpers.tilesets import folders, importing, rows_of, sound, tile

import pathprep
from pathprep.dataset.marker import read_sealed
from pathprep.errors import UsageError
from pathprep.params.tile_set import TileParams
from pathprep.storage.seals import write_sealed
from pathprep.tilesets.shard import Part

# webdataset leaves its tars open
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO"),
    pytest.mark.usefixtures("here"),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """JPEGs that name a patient, one of them turned by Exif, one called PNG, and one that is coded anew."""
    root = tmp_path / "set"
    for number in range(4):
        path = root / "xy"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(told(tile(number)))
    turned = plain(tile(7))
    (root / "x" / "turned.jpg").write_bytes(turned[:2] + exif(6) + turned[2:])
    (root / "x" / "called.png").write_bytes(told(tile(8)))
    (root / "y" / "progressive.jpg").write_bytes(told(tile(9), progressive=True))
    return root


def everything(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_no_byte_of_it_is_in_the_dataset_or_what_is_made_of_it(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    importing(source, out)
    pathprep.mix(out, tmp_path / "mixed", workers=1)
    assert SECRET in everything(source)
    for made in (out, tmp_path / "mixed"):
        assert sound(made)
        for word in (SECRET, SECRET[:8], b"Exif", b"xmpmeta", b"ICC_PROFILE", b"8BIM"):
            assert word not in everything(made)
    rows = rows_of(out)
    assert len(rows) == 7
    for name in ("x/0.jpg", "y/1.jpg", "x/2.jpg", "y/3.jpg", "x/called.png"):
        before, after = ((source / name).read_bytes(), rows[name]["jpg"])
        assert np.array_equal(*(simplejpeg.decode_jpeg(data, "RGB") for data in (before, after)))


def test_it_is_kept_if_it_is_asked_for_and_only_then(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    importing(source, out, keep_metadata=True)
    assert rows_of(out)["x/0.jpg"]["jpg"] == (source / "x" / "0.jpg").read_bytes()
    with pytest.raises(UsageError, match="other parameters"):
        importing(source, out)
    with pytest.raises(UsageError, match="`keep_metadata`: `stain` bake codes every tile anew"):
        TileParams.of(stain="bake", keep_metadata=True)


def test_a_jpeg_without_metadata_keeps_its_bytes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(4):
        (root / "xy"[number % 2]).mkdir(parents=True, exist_ok=True)
        (root / "xy"[number % 2] / f"{number}.jpg").write_bytes(plain(tile(number)))
    importing(root, tmp_path / "out")
    assert all(row["jpg"] == (root / name).read_bytes() for name, row in rows_of(tmp_path / "out").items())


def test_shards_of_before_are_made_again_where_they_hold_jpegs(source: Path, tmp_path: Path) -> None:
    pngs = folders(tmp_path / "pngs", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(4)})
    for root, again in ((source, True), (pngs, False)):
        out = tmp_path / f"out-{root.name}"
        first = importing(root, out)
        # as they were written when metadata was kept: with the same parameters, and inputs that do not tell
        for path in (out / "slides").glob("*.json"):
            marker = read_sealed(path)
            assert marker is not None
            inputs = {key: value for key, value in marker.inputs.items() if key != "metadata"}
            write_sealed(path, dataclasses.replace(marker, inputs=inputs).as_dict())
        second = importing(root, out)
        assert second.build_id == first.build_id
        assert bool(second.markers) == again
        assert bool(second.skipped) != again


def test_the_parameters_of_before_stay_the_parameters(tmp_path: Path) -> None:
    assert "keep_metadata" not in TileParams().as_dict()
    assert TileParams(keep_metadata=True).as_dict()["keep_metadata"] is True
    assert "metadata" not in Part("a", tmp_path, "a", "", [], bare=True).inputs()

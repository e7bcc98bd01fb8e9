"""pathprep.open: datasets and mixed shards read in one way, and errors that say what to do."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers.tilesets import folders, tile

import pathprep
from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.dataset.tile import Tile
from pathprep.errors import DatasetError, UsageError
from pathprep.mixed.reader import MixedDataset
from pathprep.testing import small_dataset


def place(tile: Tile) -> tuple[str, int, int]:
    return tile.slide, tile.x, tile.y


def test_a_dataset_tile_by_tile(small: Path) -> None:
    data = pathprep.open(small)
    assert isinstance(data, Dataset)
    assert data.slides == ["synth-000", "synth-001"]
    tables = {name: data.table(name).to_pylist() for name in data.slides}
    rows = [(name, row) for name in data.slides for row in tables[name]]
    assert len(data) == len(rows)
    for found, (name, row) in zip(data, rows, strict=True):
        assert place(found) == (name, row["x"], row["y"])
        assert (found.side, found.mpp, found.label, found.group) == (64, 0.5, None, None)
    # tiles that took their slide's fit stand last
    place_of, name, row = next(
        (i, *rows[i]) for i in reversed(range(len(rows))) if rows[i][1]["stain_status"] == "fitted"
    )
    last = data[place_of]
    assert last.jpeg == data.read(name, row["offset"], row["length"])
    np.testing.assert_array_equal(last.pixels, simplejpeg.decode_jpeg(last.jpeg))
    assert last.fit is not None
    np.testing.assert_array_equal(last.fit.he[0], np.array(row["he"], np.float32).reshape(3, 2))
    again = stain.fit([last.pixels])
    np.testing.assert_allclose(last.fit.max_c, again.max_c, rtol=0.2)  # fitted before the JPEG
    data.close()


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_slides_and_parts_are_read_in_the_same_way(kind: str, small: Path, small_mix: Path) -> None:
    data = pathprep.open(small if kind == "dataset" else small_mix)
    whole = sorted(place(found) for found in data)
    assert whole == sorted(place(found) for name in data.slides for found in data.slide(name))
    one = data.slide("synth-001")
    assert one.slides == ["synth-001"]
    assert len(one) == data.table("synth-001").num_rows == one.table("synth-001").num_rows
    assert [found.x for found in one] == one.table("synth-001", ["x"])["x"].to_pylist()
    part = data[10:20]
    assert [place(found) for found in part] == [place(data[number]) for number in range(10, 20)]
    assert place(part[2:][-1]) == place(data[19])
    assert place(part.slide(part[0].slide)[0]) == place(part[0])
    with pytest.raises(UsageError, match="no slide 'synth-000'"):
        one.slide("synth-000")
    assert len(pickle.loads(pickle.dumps(data))) == len(data)
    data.close()


def test_mixed_shards_hold_the_datasets_tiles(small: Path, small_mix: Path) -> None:
    data, mix = pathprep.open(small), pathprep.open(small_mix)
    assert isinstance(mix, MixedDataset)
    assert mix.slides == data.slides
    known = {place(found): found for found in data}
    assert len(mix) == len(known)
    for found in mix:
        same = known[place(found)]
        assert found.jpeg == same.jpeg
        assert (found.fit is None) == (same.fit is None)
        if found.fit is not None and same.fit is not None:
            np.testing.assert_array_equal(found.fit.he, same.fit.he)
    assert (mix[0].side, mix[0].mpp) == (None, None)
    mix.close()
    data.close()


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_what_is_asked_for_is_not_there(kind: str, small: Path, small_mix: Path) -> None:
    data = pathprep.open(small if kind == "dataset" else small_mix)
    count = len(data)
    for number in (count, -count - 1, 10**12):
        with pytest.raises(IndexError, match=f"no tile {number} of {count}; .* from 0 to {count - 1}"):
            data[number]
    for ask in (data.slide, data.table):
        with pytest.raises(UsageError, match="no slide 'synth_001'; the nearest name is 'synth-001'"):
            ask("synth_001")
    with pytest.raises(UsageError, match="no column 'lenght'; the nearest name is 'length'"):
        data.table("synth-000", ["lenght"])
    with pytest.raises(DatasetError, match=r"not a dataset \(no dataset.json, and no mixed.json"):
        pathprep.open(small / "shards")


@pytest.mark.parametrize("kind", ["dataset", "mix"])
def test_damage_is_noticed_at_every_read(kind: str, small: Path, small_mix: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(small if kind == "dataset" else small_mix, tmp_path / "copy"))
    data = pathprep.open(root)
    tar = Path(data[3].tar)
    at = tar.read_bytes().index(data[3].jpeg) + 100
    with tar.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff\x00\xff", at)
    found = f"{tar}: tile .*is damaged .*CRC32.*; run `pathprep verify {root}`"
    for read in (lambda: data[3], lambda: list(data), lambda: data[2:5][1]):
        with pytest.raises(DatasetError, match=found):
            read()
    os.truncate(tar, at)
    with pytest.raises(DatasetError, match=f"{tar}: .* bytes at .*; run `pathprep verify"):
        data[3]
    tar.unlink()
    with pytest.raises(DatasetError, match=f"{tar}: No such file .*; run `pathprep verify"):
        pathprep.open(root)[3]


def test_labels_and_groups_of_imported_tiles(tmp_path: Path) -> None:
    images = {f"{label}/{number}.png": tile(number) for number, label in enumerate("aabb")}
    source = folders(tmp_path / "set", images)
    pathprep.import_tiles(source, tmp_path / "dataset", workers=1)
    data = pathprep.open(tmp_path / "dataset")
    assert {found.label: found.group for found in data} == {"a": None, "b": None}
    sources = data.table(data.slides[0], ["source"])["source"].to_pylist()
    assert [f"{found.label}/" for found in data] == [source[:2] for source in sources]
    codes, names = data.labels()
    assert [names[code] for code in codes] == [found.label for found in data]
    samples = list(data.webdataset(shuffle=0))
    assert [sample["label"] for sample in samples] == [found.label for found in data]
    assert [sample["label"] for sample in data.torch()] == [found.label for found in data]
    data.close()


def test_baked_tiles_have_the_stains_that_they_were_given(tmp_path: Path) -> None:
    data = pathprep.open(small_dataset(tmp_path, 1, stain="bake"))
    target, fits = stain.Target.default(), [found.fit for found in data]
    assert all(fit is None or np.array_equal(fit.he[0], target.he) for fit in fits)
    assert any(fits)
    data.close()


def test_opening_and_reading_load_no_torch(small: Path) -> None:
    code = (
        "import sys, pathprep; data = pathprep.open(sys.argv[1]); data.tiles(); data[0].pixels; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(small)], check=True)

"""Tile sets become datasets: the right pixels with the right labels, and nothing lost without a word."""

import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import webdataset as wds
from helpers.tilesets import folders, mhist, pcam, tile, write_csv
from PIL import Image
from typer.testing import CliRunner

from pathprep import stain
from pathprep.cli import app
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SCHEMA
from pathprep.errors import UsageError
from pathprep.folders import verify
from pathprep.launchers import local
from pathprep.launchers.local import Outcome
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.reports.page import report
from pathprep.sharding import run as runs
from pathprep.sharding.pipeline import Progress
from pathprep.sharding.run import RunSummary
from pathprep.storage.tables import Columns
from pathprep.tiles import jpeg
from pathprep.tilesets import images, run
from pathprep.tilesets.find import find
from pathprep.tilesets.items import Item, pack

# webdataset leaves its file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are made in this process: quicker, and all that differs is tested with real ones below."""

    def inline(tasks: Sequence[Any], *_: object) -> Iterator[Outcome]:
        for task in tasks:
            yield Outcome(task, task.run(Progress()), None)

    monkeypatch.setattr(local, "run", inline)


def importing(source: Path, root: Path, *, tiles_per_shard: int = 4, **options: Any) -> RunSummary:
    of_set = {key: options.pop(key) for key in ("format", "labels", "columns", "split") if key in options}
    of_run = {key: options.pop(key) for key in ("name", "workers", "rebuild") if key in options}
    params = TileParams(tiles_per_shard=tiles_per_shard, **options)
    return run.import_tiles(find(source, **of_set), root, params, **of_run)


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    """Every tile's row by its source, with its shard, and its bytes as webdataset reads them."""
    found: dict[str, dict[str, Any]] = {}
    dataset = Dataset(root)
    for name, marker in dataset.markers.items():
        rows = dataset.table(name).to_pylist()
        if not marker["tiles"]:
            continue
        tar = wds.WebDataset(str(root / "shards" / f"{name}.tar"), shardshuffle=False)
        for row, sample in zip(rows, tar, strict=True):
            assert sample["__key__"] == f"{row['x']}_{row['y']}"
            assert row["source"] not in found
            found[row["source"]] = {**row, "shard": name, "jpg": sample["jpg"]}
    return found


def sound(root: Path) -> bool:
    return not any(found.problems or found.tiles for found in verify(root))


def stored(pixels: np.ndarray) -> bytes:
    return jpeg.encode(pixels, 95, "444")


GROUPS = ("tumor_001", "normal_002", "tumor_001", "normal_003", "normal_002", "normal_003")


@pytest.mark.usefixtures("here")
def test_pcam_with_its_slides_as_groups(tmp_path: Path) -> None:
    made = pcam(tmp_path / "pcam", "train", [1, 0, 0, 1, 0, 1], GROUPS)
    pcam(tmp_path / "pcam", "test", [1, 0], ("t", "t"), seed=50)
    summary = importing(tmp_path / "pcam", tmp_path / "out", split="train", mpp=0.972)
    found = rows_of(tmp_path / "out")
    assert (summary.failures, run.damaged(summary), len(found)) == ({}, [], 6)
    for number, (label, group) in enumerate(zip("100101", GROUPS, strict=True)):
        row = found[f"camelyonpatch_level_2_split_train_x.h5#{number}"]
        assert (row["label"], row["group"], row["jpg"]) == (label, group, stored(made[number]))
        assert (row["stored"], row["side"], row["mpp"], row["y"]) == (32, 32, 0.972, 0)
        assert (row["column"], row["region"], row["tissue"], row["stain_status"]) == (
            None,
            None,
            None,
            "none",
        )
    assert {row["shard"] for row in found.values()} == {"pcam-train-00000", "pcam-train-00001"}
    for group in GROUPS:  # no group in two shards
        assert len({row["shard"] for row in found.values() if row["group"] == group}) == 1
    assert sound(tmp_path / "out")


@pytest.mark.usefixtures("here")
def test_pcam_without_slides_keeps_its_order(tmp_path: Path) -> None:
    made = pcam(tmp_path / "pcam", "valid", [0, 1, 0, 1, 1])
    source = tmp_path / "pcam" / "camelyonpatch_level_2_split_valid_x.h5"
    assert any("no groups" in note for note in find(source).notes)
    importing(source, tmp_path / "out")
    found = list(rows_of(tmp_path / "out").values())
    assert [row["jpg"] for row in found] == [stored(pixels) for pixels in made]
    assert [row["shard"][-11:] for row in found] == ["valid-00000"] * 4 + ["valid-00001"]
    assert found[0]["group"] is None


@pytest.mark.usefixtures("here")
def test_a_damaged_chunk_costs_its_rows(tmp_path: Path) -> None:
    pcam(tmp_path / "pcam", "test", [0, 1, 0], ("a", "a", "b"))
    path = tmp_path / "pcam" / "camelyonpatch_level_2_split_test_x.h5"
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 100)
        raw.write(b"damage")
    summary = importing(tmp_path / "pcam", tmp_path / "out")
    assert [image for image, _ in run.damaged(summary)] == [f"{path.name}#1"]
    assert sorted(rows_of(tmp_path / "out")) == [f"{path.name}#0", f"{path.name}#2"]


def test_hdf5_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "pcam"
    pcam(folder, "test", [0, 1], ("a", "b"))
    meta = folder / "camelyonpatch_level_2_split_test_meta.csv"
    text = meta.read_text()
    meta.write_text(text.replace("True,True,b", "True,False,b"))
    with pytest.raises(UsageError, match=r"line 3: center_tumor_patch is False, but the image's label is 1"):
        find(folder)
    meta.write_text(text + "2,0,0,False,False,c\n")
    with pytest.raises(UsageError, match="3 rows for 2 images"):
        find(folder)
    meta.unlink()
    with pytest.raises(UsageError, match="no partition 'train'; it has test"):
        find(folder, split="train")
    labels = folder / "camelyonpatch_level_2_split_test_y.h5"
    with h5py.File(labels, "w") as file:
        file["y"] = np.zeros((3, 1, 1, 1), np.uint8)
    with pytest.raises(UsageError, match=r"_y\.h5: y is \(3, 1, 1, 1\).* each of the 2 images"):
        find(folder)
    labels.unlink()
    with pytest.raises(UsageError, match=r"_y\.h5: no such file"):
        find(folder)
    (folder / "camelyonpatch_level_2_split_test_x.h5").write_bytes(b"not HDF5")
    with pytest.raises(UsageError, match="not a readable HDF5 file"):
        find(folder)
    shutil.move(folder / "camelyonpatch_level_2_split_test_x.h5", folder / "t_x.h5.gz")
    with pytest.raises(UsageError, match="gunzip"):
        find(folder)


@pytest.mark.usefixtures("here")
def test_crc_folders_of_tiff(tmp_path: Path) -> None:
    files = {
        f"{label}/{label}-{n}.tif": tile(10 * k + n)
        for k, label in enumerate(("ADI", "TUM"))
        for n in range(5)
    }
    importing(folders(tmp_path / "NCT-CRC-HE-100K", files), tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert {name: (row["label"], row["jpg"]) for name, row in found.items()} == {
        name: (name[:3], stored(pixels)) for name, pixels in files.items()
    }
    assert sorted(Dataset(tmp_path / "out").slides) == [f"NCT-CRC-HE-100K-0000{n}" for n in range(3)]
    # not one class after the other, as the folders lie
    assert len({row["label"] for row in list(found.values())[:5]}) == 2


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


@pytest.mark.usefixtures("here")
def test_plain_jpegs_keep_their_bytes_and_nothing_else_does(tmp_path: Path) -> None:
    root = tmp_path / "set"
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = tile(5)[..., 0]
    files = {
        "a/plain.jpg": saved(tile(1), "JPEG", quality=80),
        "a/full.jpeg": saved(tile(2), "JPEG", quality=80, subsampling=0),
        "b/progressive.jpg": saved(tile(3), "JPEG", progressive=True),
        "b/turned.jpg": saved(tile(4), "JPEG", exif=turned),
        "b/grey.jpg": saved(grey, "JPEG"),
        "b/palette.png": saved(np.asarray(Image.fromarray(tile(6)).quantize(8).convert("RGB")), "PNG"),
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for mode in ("none", "fit"):
        importing(root, tmp_path / mode, stain=StainParams(mode))
        found = rows_of(tmp_path / mode)
        same = {name for name, row in found.items() if row["jpg"] == files[name]}
        assert same == {"a/plain.jpg", "a/full.jpeg"}
        upright = np.rot90(jpeg.decode(files["b/turned.jpg"]), -1)
        difference = jpeg.decode(found["b/turned.jpg"]["jpg"]).astype(int) - upright
        assert np.abs(difference).mean() < 3
        assert all(images.is_plain_jpeg(row["jpg"]) for row in found.values())


@pytest.mark.usefixtures("here")
def test_mhist_and_its_partitions(tmp_path: Path) -> None:
    root = mhist(tmp_path / "mhist")
    folders(root, {"images/extra.png": tile(99)})
    found = find(root, split="test")
    assert [(item.source, item.label) for item in found.items] == [
        ("images/MHIST_e.png", "HP"),
        ("images/MHIST_f.png", "SSA"),
    ]
    assert any("1 images that annotations.csv does not list are left out" in note for note in found.notes)
    importing(root, tmp_path / "out", mpp=1.0)
    rows = rows_of(tmp_path / "out")
    assert {row["shard"] for row in rows.values()} == {"mhist-train-00000", "mhist-test-00000"}
    assert {name[-5]: row["label"] for name, row in rows.items()} == dict(
        zip("abcdef", ["HP", "SSA"] * 3, strict=True)
    )
    # the folder of images alone, with the CSV named
    beside = find(root / "images", labels=root / "annotations.csv")
    assert sorted(item.source for item in beside.items) == [f"MHIST_{letter}.png" for letter in "abcdef"]
    with pytest.raises(UsageError, match="no partition 'val'; it has test, train"):
        find(root, split="val")


def test_image_folder_with_partitions(tmp_path: Path) -> None:
    files = [f"{split}/{label}/{n}.png" for split in ("train", "val") for label in "xy" for n in range(2)]
    root = folders(tmp_path / "set", dict.fromkeys(files, tile(0)))
    found = find(root)
    assert {(item.source, item.label, item.split) for item in found.items} == {
        (name, name.split("/")[1], name.split("/")[0]) for name in files
    }
    assert [item.split for item in find(root, split="val").items] == ["val"] * 4


@pytest.mark.usefixtures("here")
def test_csv_with_its_own_column_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {f"{n}.png": tile(n, 16 * (n + 1)) for n in range(5)})
    table = write_csv(
        tmp_path / "l.csv",
        ("img", "dx", "case", "fold"),
        [
            ("0.png", "p", "A", "1"),
            ("1.png", "q", "B", "1"),
            ("./2.png", "", "B", "2"),
            ("3.png", "q", "", "2"),
        ],
    )
    columns = Columns("img", "dx", "case", "fold")
    found = find(root, labels=table, columns=columns)
    assert any("1 groups are in more than one partition (a leak), such as B" in note for note in found.notes)
    assert any("1 images have no label" in note for note in found.notes)
    importing(root, tmp_path / "out", labels=table, columns=columns)
    rows = rows_of(tmp_path / "out")
    assert {name: (row["label"], row["group"], row["stored"]) for name, row in rows.items()} == {
        "0.png": ("p", "A", 16),
        "1.png": ("q", "B", 32),
        "2.png": (None, "B", 48),
        "3.png": ("q", None, 64),
    }
    for name, row in rows.items():
        assert jpeg.decode(row["jpg"]).shape == (row["stored"], row["stored"], 3), name


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,label", ["a/1.png,x", "a/1.png,y"], r"line 3: a/1\.png is listed twice \(line 2\)"),
        ("file,label", ["2.png,x"], r"line 2: 2\.png may be a/2\.png or b/2\.png; give its folder"),
        ("file,label", ["z.png,x"], r"none of its 1 files is in .*, such as z\.png"),
        ("file,label", [",x"], "line 2: the file is empty"),
        ("name,label", ["a/1.png,x"], "which column is the file.*it has name, label"),
        ("file,kind", ["a/1.png,x"], "which column is the label"),
        ("file,label", ["a/1.png,x,y"], "line 2: 3 cells, the header has 2"),
        ("file,label,label", ["a/1.png,x,y"], "two columns are named 'label'"),
        ("file,label", [], "needs a header and rows"),
    ],
)
def test_wrong_csv(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    root = folders(tmp_path / "set", dict.fromkeys(("a/1.png", "a/2.png", "b/2.png"), tile(0)))
    (root / "labels.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(UsageError, match=message):
        find(root)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in this folder"):
        find(tmp_path / "empty")
    loose = folders(tmp_path / "loose", {"1.png": tile(0)})
    with pytest.raises(UsageError, match="neither folders of classes nor a CSV"):
        find(loose)
    with pytest.raises(UsageError, match="not a tile set"):
        find(loose / "1.png")
    with pytest.raises(UsageError, match=r"no column 'dx' \(`label_column`\)"):
        find(mhist(tmp_path / "mhist"), columns=Columns(label="dx"))
    split = folders(tmp_path / "split", dict.fromkeys(("train/1.png", "test/2.png"), tile(0)))
    with pytest.raises(UsageError, match="named like partitions"):
        find(split)
    sets = folders(tmp_path / "sets", {f"{s}/{c}/1.png": tile(0) for s in ("A", "B") for c in "xy"})
    with pytest.raises(UsageError, match="A and B hold the same folders"):
        find(sets)
    assert {item.label for item in find(sets, format="folders").items} == {"A", "B"}


BAD = {
    "x/cut.jpg": (saved(tile(1), "JPEG")[:400], "."),
    "x/empty.png": (b"", "the file is empty"),
    "x/text.png": (b"no image", "not an image that can be read"),
    "x/cut.png": (saved(tile(2), "PNG")[:900], "."),
    "x/wide.png": (saved(tile(3)[:20], "PNG"), "32 x 20 px; tiles are square"),
    "x/small.png": (saved(tile(3)[:8, :8], "PNG"), "8 px a side"),
    "x/deep.png": (saved(tile(3)[..., 0].astype(np.uint16) * 256, "PNG"), "expected 8-bit RGB"),
    "x/pages.tif": (
        saved(tile(3), "TIFF", save_all=True, append_images=[Image.fromarray(tile(4))]),
        "holds several images",
    ),
}


def damaged_set(root: Path) -> Path:
    folders(root, {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(3)})
    for name, (data, _) in BAD.items():
        (root / name).write_bytes(data)
    return root


def test_damaged_images_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    root, out = damaged_set(tmp_path / "set"), tmp_path / "out"
    rows = [(path.relative_to(root).as_posix(), path.parent.name) for path in sorted(root.rglob("*.*"))]
    write_csv(root / "labels.csv", ("file", "label"), [*rows, ("x/gone.png", "x")])
    command = ["import-tiles", str(root), "--out", str(out), "--tiles-per-shard", "4"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 1, first.output
    assert f"{len(BAD) + 1} damaged or missing" in first.stdout
    assert set(rows_of(out)) == {f"{label}/{n}.png" for label in "xy" for n in range(3)}
    failed = Dataset(out).failed()
    listed = {entry["image"]: entry["error"] for failure in failed.values() for entry in failure["images"]}
    assert listed.keys() == BAD.keys() | {"x/gone.png"}
    assert listed["x/gone.png"].startswith("no such file")
    for name, (_, reason) in BAD.items():
        assert reason in listed[name] or (reason == "." and listed[name])
    assert sound(out)
    page = report(out, out / "report.html").read_text()
    assert f"{len(BAD) + 1} of {len(BAD) + 7} images" in page
    # finished shards are not made again, but what is missing in them is said again
    for path in (out / "failed").iterdir():
        path.unlink()
    again = CliRunner().invoke(app, [*command, "--json"])
    facts = json.loads(again.stdout)
    assert (again.exit_code, facts["done"], len(facts["damaged"])) == (1, 0, len(BAD) + 1)
    assert Dataset(out).failed() == failed
    # a file that was mended is taken up, with its shard only
    Image.fromarray(tile(77)).save(root / "x/gone.png")
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["done"] == 1
    assert "x/gone.png" in rows_of(out)


def contents(root: Path) -> dict[str, bytes]:
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("shards", "index")
        for path in sorted((root / folder).iterdir())
    }


def test_equal_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    source = folders(
        tmp_path / "set", {f"{c}/{n}.png": tile(9 * k + n) for k, c in enumerate("xy") for n in range(9)}
    )
    folders(source, {"x/flat.png": np.full((32, 32, 3), (205, 120, 180), np.uint8)})
    for workers in (1, 2):
        done = importing(source, tmp_path / str(workers), workers=workers, stain=StainParams("bake"))
        assert (len(done.markers), done.failures) == (5, {})
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.usefixtures("here")
def test_a_second_run_makes_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(6)})
    out = tmp_path / "out"
    assert len(importing(source, out).markers) == 3
    before = contents(out)
    (tmp_path / "elsewhere").mkdir()
    again = importing(source, out)
    assert (again.markers, len(again.skipped), again.as_dict()["tiles"]) == ({}, 3, 12)
    # changed in place: same size in bytes is possible, another time is certain
    changed = source / "x/3.png"
    os.utime(changed, ns=(1, 1))
    assert len(importing(source, out).markers) == 1
    # a shard whose marker is gone, as after a kill
    (out / "slides" / "set-00001.json").unlink()
    assert list(importing(source, out).markers) == ["set-00001"]
    assert contents(out) == before
    # a set that was moved, times and all
    moved = shutil.move(source, tmp_path / "elsewhere" / "set")
    assert importing(Path(moved), out).markers == {}
    shutil.move(moved, source)
    # other labels
    rows = [(path.relative_to(source).as_posix(), "z") for path in sorted(source.rglob("*.png"))]
    table = write_csv(tmp_path / "l.csv", ("file", "label"), rows)
    assert len(importing(source, out, labels=table).markers) == 3
    assert {row["label"] for row in rows_of(out).values()} == {"z"}


@pytest.mark.usefixtures("here")
def test_a_smaller_set_leaves_no_shard_of_the_larger_one(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(6)})
    out = tmp_path / "out"
    importing(source, out)
    other = folders(tmp_path / "other", {"x/1.png": tile(50), "y/1.png": tile(51)})
    importing(other, out)
    for n in range(2, 6):
        (source / f"x/{n}.png").unlink()
    importing(source, out)
    assert Dataset(out).slides == ["other-00000", "set-00000", "set-00001"]
    assert len(Dataset(out).tiles()) == 10
    assert sound(out)


@pytest.mark.usefixtures("here")
def test_datasets_that_must_not_be_mixed(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", {"x/1.png": tile(0), "y/1.png": tile(1)})
    twin = folders(tmp_path / "twin" / "set", {"x/1.png": tile(2), "y/1.png": tile(3)})
    out = tmp_path / "out"
    importing(source, out)
    with pytest.raises(UsageError, match="holds a set named set from .*choose another --name"):
        importing(twin, out)
    importing(twin, out, name="twin 2")
    assert Dataset(out).slides == ["set-00000", "twin_2-00000"]
    with pytest.raises(UsageError, match="other parameters.*quality 95 there, 90 now"):
        importing(source, out, quality=90)
    again = importing(source, out, quality=90, rebuild=True)
    assert (Dataset(out).slides, again.stale) == (["set-00000"], ["twin_2-00000"])
    slides = tmp_path / "slides"
    runs.prepare(slides, ShardParams(), rebuild=False)
    (slides / "slides" / "a.json").write_text("{}")
    with pytest.raises(UsageError, match="holds slides"):
        importing(source, slides, rebuild=True)


FLAT = np.full((32, 32, 3), (205, 120, 180), np.uint8)  # one colour: no pair of stains


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("mode", ["fit", "bake"])
def test_stain_and_the_pool_that_a_tile_without_a_fit_takes(tmp_path: Path, mode: Any) -> None:
    dark = {f"d{n}.png": (255 * (tile(n) / 255.0) ** 1.7).astype(np.uint8) for n in range(4)}
    light = {f"l{n}.png": tile(10 + n) for n in range(3)}
    alone = {"flat_d.png": FLAT, "flat.png": FLAT}
    source = folders(tmp_path / "set", {**dark, **light, **alone})
    rows = [
        (name, "p", "" if name == "flat.png" else name.removeprefix("flat_")[0])
        for name in {**dark, **light, **alone}
    ]
    write_csv(source / "labels.csv", ("file", "label", "group"), rows)
    importing(source, tmp_path / "out", tiles_per_shard=50, stain=StainParams(mode))
    found = rows_of(tmp_path / "out")
    own = stain.fit([dark[name] for name in dark])
    everything = stain.fit([*dark.values(), *light.values()])
    for name, expected in (("flat_d.png", stain.pool(own)), ("flat.png", stain.pool(everything))):
        assert found[name]["stain_status"] == "slide_fit"
        np.testing.assert_allclose(np.reshape(found[name]["he"], (3, 2)), expected.he[0], rtol=1e-6)
        np.testing.assert_allclose(found[name]["max_c"], expected.max_c[0], rtol=1e-6)
    for name, pixels in {**dark, **light}.items():
        assert found[name]["stain_status"] == "fitted"
        expected = stain.normalize(pixels[None])[0] if mode == "bake" else pixels
        if mode == "fit":
            assert found[name]["jpg"] == stored(expected)
        else:  # the two-step route may differ from the fused one by a grey level
            difference = jpeg.decode(found[name]["jpg"]).astype(int) - jpeg.decode(stored(expected))
            assert np.abs(difference).max() <= 4
    assert sound(tmp_path / "out")
    page = report(tmp_path / "out", tmp_path / "report.html").read_text()
    assert "pooled fit" in page
    assert "Tiles by label" in page


@pytest.mark.usefixtures("here")
def test_stain_of_a_set_without_any_pair_of_stains_fails_loudly(tmp_path: Path) -> None:
    source = folders(tmp_path / "set", {"x/1.png": FLAT, "y/1.png": FLAT})
    done = CliRunner().invoke(
        app, ["import-tiles", str(source), "--out", str(tmp_path / "out"), "--stain", "bake"]
    )
    assert done.exit_code == 1
    assert "100% of the tiles have no stain fit" in done.stderr
    assert {row["stain_status"] for row in rows_of(tmp_path / "out").values()} == {"unfitted"}


def test_packing_never_divides_a_group_with_others() -> None:
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(1, 9, 40).tolist(), 25, 20]
    items = [
        Item(f"{group}-{n}.png", "l", f"g{group}", "train" if group % 2 else "test")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    items += [Item(f"alone-{n}.png", "l", None, "test") for n in range(30)]
    packed = pack(items, "set", 10)
    shuffled = [items[place] for place in rng.permutation(len(items))]
    assert pack(shuffled, "set", 10) == packed
    assert sorted(item.source for part in packed.values() for item in part) == sorted(i.source for i in items)
    for name, part in packed.items():
        assert 1 <= len(part) <= 10
        assert {item.split for item in part} == {name.split("-")[1]}
    where: dict[str, set[str]] = {}
    for name, part in packed.items():
        for item in part:
            if item.group:
                where.setdefault(item.group, set()).add(name)
    divided = {group: names for group, names in where.items() if len(names) > 1}
    assert divided.keys() == {"g40", "g41"}
    for group, names in divided.items():
        assert {item.group for name in names for item in packed[name]} == {group}
    # well filled all the same
    assert len(packed) <= len(items) / 10 * 1.5


def test_a_dataset_from_before_labels_reads_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folders(tmp_path / "set", {"x/1.png": tile(0), "y/1.png": tile(1)})
    old = SCHEMA
    for name in ("label", "group", "source"):
        old = old.remove(old.get_field_index(name))
    with monkeypatch.context() as patch:
        patch.setattr("pathprep.dataset.writer.SCHEMA", old)
        patch.setattr(local, "run", lambda tasks, *_: (Outcome(t, t.run(Progress()), None) for t in tasks))
        importing(source, tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert dataset.texts("label") == [None, None]
    assert dataset.table("set-00000", ["x", "group"]).to_pylist() == [
        {"x": n, "group": None} for n in range(2)
    ]
    assert dataset.table("set-00000").schema.remove_metadata().equals(SCHEMA)


def test_a_crash_or_a_vanished_set_is_a_failure_of_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folders(tmp_path / "set", {"x/1.png": tile(0), "y/1.png": tile(1)})
    found, params = find(source), TileParams()
    shutil.move(source, tmp_path / "elsewhere")
    done = run.import_tiles(found, tmp_path / "out", params)
    assert "the set's folder is gone" in done.failures["set-00000"]["error"]
    assert Dataset(tmp_path / "out").failed().keys() == {"set-00000"}
    shutil.move(tmp_path / "elsewhere", source)
    assert run.import_tiles(found, tmp_path / "out", params).failures == {}
    assert Dataset(tmp_path / "out").failed() == {}


def test_command(tmp_path: Path) -> None:
    root = mhist(tmp_path / "mhist")
    command = ["import-tiles", str(root), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--split", "train"])
    assert done.exit_code == 0, done.output
    assert "4 images (csv; labels: annotations.csv)" in done.stderr
    assert "HP 2, SSA 2" in done.stdout
    both = CliRunner().invoke(app, [*command, "--json"])
    facts = json.loads(both.stdout)
    assert (facts["labels"], facts["shards"], facts["done"]) == ({"HP": 3, "SSA": 3}, 2, 1)
    checked = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert (checked.exit_code, checked.stdout) == (0, "2 shards, 6 tiles: all as written\n")
    tar = tmp_path / "out" / "shards" / "mhist-test-00000.tar"
    with tar.open("r+b") as file:
        file.seek(600)
        file.write(b"damage")
    bad = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert bad.exit_code == 1
    assert "pathprep import-tiles SOURCE --out" in bad.stdout.replace("\n", "")
    assert CliRunner().invoke(app, [*command, "--rebuild"]).exit_code == 0
    assert sound(tmp_path / "out")
    for option in (["--quality", "0"], ["--tiles-per-shard", "0"], ["--mpp", "0"], ["--target", "t.json"]):
        with pytest.raises(UsageError, match=option[0]):
            CliRunner().invoke(app, [*command, *option], catch_exceptions=False)


@pytest.mark.realdata
def test_real_tiles(data: Path, tmp_path: Path) -> None:
    source = data / "tiles" / "test"
    done = importing(source, tmp_path / "out", tiles_per_shard=300)
    assert (done.failures, run.damaged(done), done.as_dict()["tiles"]) == ({}, [], 716)
    for name, row in rows_of(tmp_path / "out").items():
        assert row["jpg"] == (source / name).read_bytes()
        assert row["label"] == name.split("/")[0]
        assert row["group"].startswith(row["label"])
    assert sound(tmp_path / "out")

"""Tile sets become datasets: the right pixels with the right labels, and nothing lost without a word."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tilesets import folders, importing, mhist, rows_of, saved, sound, stored, tile, write_csv
from PIL import Image
from typer.testing import CliRunner

from pathprep import stain
from pathprep.cli import app
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SCHEMA
from pathprep.errors import UsageError
from pathprep.images import jpeg
from pathprep.launchers import local
from pathprep.launchers.base import Outcome, Progress
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.reports.page import report
from pathprep.sharding.plan import prepare
from pathprep.tilesets import run
from pathprep.tilesets.find import find

# webdataset leaves its file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
    listed = {image.image: image.error for failure in failed.values() for image in failure.images}
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


@pytest.mark.slow
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
    with pytest.raises(UsageError, match="holds a set named set from .*choose another `name`"):
        importing(twin, out)
    importing(twin, out, name="twin 2")
    assert Dataset(out).slides == ["set-00000", "twin_2-00000"]
    with pytest.raises(UsageError, match="other parameters.*quality 95 there, 90 now"):
        importing(source, out, quality=90)
    again = importing(source, out, quality=90, rebuild=True)
    assert (Dataset(out).slides, again.stale) == (["set-00000"], ["twin_2-00000"])
    slides = tmp_path / "slides"
    prepare(slides, ShardParams(), rebuild=False)
    (slides / "slides" / "a.json").write_text("{}")
    with pytest.raises(UsageError, match="holds slides"):
        importing(source, slides, rebuild=True)
    for rebuild in (False, True):
        with pytest.raises(UsageError, match="out: holds imported tiles; use another `out`"):
            prepare(out, ShardParams(), rebuild=rebuild)


FLAT = np.full((32, 32, 3), (205, 120, 180), np.uint8)  # one colour: no pair of stains


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("mode", ["fit", "bake"])
def test_stain_and_the_pool_that_a_tile_without_a_fit_takes(tmp_path: Path, mode: Any) -> None:
    dark = {f"d{n}.png": (255 * (tile(n) / 255.0) ** 1.7).astype(np.uint8) for n in (0, 1, 2, 5)}
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


def test_a_dataset_from_before_labels_reads_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folders(tmp_path / "set", {"x/1.png": tile(0), "y/1.png": tile(1)})
    old = SCHEMA
    for name in ("label", "group", "source"):
        old = old.remove(old.get_field_index(name))
    with monkeypatch.context() as patch:
        patch.setattr("pathprep.dataset.writer.SCHEMA", old)
        patch.setattr(
            local, "run", lambda tasks, *_: (Outcome(n, t.make(Progress())) for n, t in enumerate(tasks))
        )
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
    assert "the set's folder is gone" in done.failures["set-00000"].error
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
    # the advice, done to the letter
    advised = re.search(r"`pathprep (import-tiles .*?)`", bad.stdout)
    assert advised is not None
    assert CliRunner().invoke(app, shlex.split(advised[1])).exit_code == 0
    assert sound(tmp_path / "out")
    for option in (["--quality", "0"], ["--tiles-per-shard", "0"], ["--mpp", "0"], ["--target", "t.json"]):
        name = option[0].removeprefix("--").replace("-", "_")
        with pytest.raises(UsageError, match=f"{option[0]}|`{name}`"):
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

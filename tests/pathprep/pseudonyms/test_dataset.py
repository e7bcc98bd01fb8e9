"""Datasets with pseudonyms: no own name in any byte, and every command goes on working with the key file."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import hospital, runs
from helpers.slides import tissue, write_tiff
from PIL import Image

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathprep.launchers.local import Local
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.pseudonyms import key as keys
from pathprep.pseudonyms import table
from pathprep.sharding.plan import plan
from pathprep.sharding.run import make
from pathprep.sharding.summary import RunSummary
from pathprep.slides.find import find
from pathprep.tilesets import hidden, run
from pathprep.tilesets.find import find as find_tiles
from pathprep.tilesets.hidden import hide
from pathprep.tilesets.shard import ImportTask, process

WORDS = (*hospital.SLIDES, *hospital.FOLDERS, "Mueller", "broken-4711")
OPTIONS: dict[str, Any] = {"tile": 64, "workers": 2, "forecast": False}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides with masks, and one that fails; the key has a folder of its own."""
    root = tmp_path_factory.mktemp("archive")
    folder = hospital.slides(root)
    masks = folder / "masks"
    masks.mkdir()
    for name in hospital.SLIDES:
        Image.fromarray(np.full((36, 42), 255, np.uint8)).save(masks / f"{name}.png")
    (root / "keys").mkdir()
    lines = [f"{name}.tif,masks/{name}.png" for name in hospital.SLIDES]
    (folder / "broken-4711.tif").write_bytes(b"II*\0 broken")
    (folder / "list.csv").write_text("\n".join(["slide,mask", *lines, "broken-4711.tif,"]) + "\n")
    return root


def folder_of(archive: Path) -> Path:
    return archive / hospital.FOLDERS[0] / hospital.FOLDERS[1]


def shard(archive: Path, out: Path | str, **more: Any) -> RunSummary:
    given = {"pseudonymise": archive / "keys" / "study.key", **OPTIONS, **more}
    return pathprep.shard(folder_of(archive) / "list.csv", out, **given)


@pytest.fixture(scope="module")
def dataset(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dataset"
    done = shard(archive, root)
    assert (len(done.markers), len(done.failures)) == (2, 1)
    return root


def test_no_own_name_is_in_any_byte(archive: Path, dataset: Path) -> None:
    assert hospital.leaks(dataset, (*WORDS, str(archive))) == []
    (failed,) = json.loads(json.dumps(Dataset(dataset).failed(), default=vars)).values()
    assert "is it a complete slide?" in failed["error"]
    key = keys.read(archive / "keys" / "study.key")
    assert sorted(Dataset(dataset).slides) == sorted(key.name(name) for name in hospital.SLIDES)
    assert {row.name for row in table.rows(key)} == {*hospital.SLIDES, "broken-4711"}
    for name in ("study.key", "study.key.csv"):
        assert (archive / "keys" / name).stat().st_mode & 0o777 == 0o600
    secret = (archive / "keys" / "study.key").read_text().splitlines()[1]
    assert hospital.leaks(dataset, (secret,)) == []


def test_without_the_option_a_dataset_has_all_of_them(archive: Path, tmp_path: Path) -> None:
    shard(archive, tmp_path / "plain", pseudonymise=None)
    found = {word for _, word in hospital.leaks(tmp_path / "plain", (*WORDS, str(archive)))}
    assert found >= {"S19-01234", *hospital.FOLDERS, str(archive)}


def test_masks_and_tiles_are_those_of_a_plain_dataset(archive: Path, dataset: Path, tmp_path: Path) -> None:
    shard(archive, tmp_path / "plain", pseudonymise=None)
    key = keys.read(archive / "keys" / "study.key")
    plain, named = Dataset(tmp_path / "plain"), Dataset(dataset)
    for slide in plain.slides:
        marker = plain.marker(slide)
        other = named.marker(key.name(str(marker.own_name)))  # type: ignore[attr-defined]
        assert other.inputs == marker.inputs
        columns = ["x", "y", "crc32"]
        assert named.table(other.slide, columns).equals(plain.table(slide, columns))


def test_the_same_again_does_nothing(archive: Path, dataset: Path) -> None:
    before = runs.contents(dataset)
    done = shard(archive, dataset)
    assert (len(done.markers), len(done.skipped)) == (0, 2)
    assert runs.contents(dataset) == before


def test_other_keys_and_none_are_refused(archive: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is pseudonymised, with the key .*`pseudonymise`"):
        shard(archive, dataset, pseudonymise=None, rebuild=True)
    with pytest.raises(UsageError, match="no such key file"):
        shard(archive, dataset, pseudonymise=tmp_path / "other.key")
    shard(archive, tmp_path / "plain", pseudonymise=None)
    with pytest.raises(UsageError, match="under their own names"):
        shard(archive, tmp_path / "plain")
    with pytest.raises(UsageError, match="lies in the dataset"):
        shard(archive, dataset, pseudonymise=dataset / "study.key")


def test_a_refused_key_leaves_nothing(archive: Path, dataset: Path, tmp_path: Path) -> None:
    absent, other = tmp_path / "typo.key", keys.take(tmp_path / "other.key")
    for options in ({}, {"rebuild": True}):
        with pytest.raises(
            UsageError, match=r"typo.key: no such key file, and .* is pseudonymised with the key"
        ):
            shard(archive, dataset, pseudonymise=absent, **options)
    with pytest.raises(UsageError, match="with another key"):
        shard(archive, dataset, pseudonymise=other.path)
    with pytest.raises(UsageError, match="no such"):
        pathprep.shard(tmp_path / "typo", tmp_path / "new", pseudonymise=absent)
    assert {path.name for path in tmp_path.iterdir()} == {"other.key", ".other.key.lock"}


def test_a_run_without_the_key_at_the_same_moment_writes_nothing(archive: Path, tmp_path: Path) -> None:
    params = ShardParams.of(tile=64)
    plain = plan(find([folder_of(archive) / "list.csv"]), tmp_path / "dataset", params)
    shard(archive, tmp_path / "dataset")
    before = runs.contents(tmp_path / "dataset")
    with pytest.raises(DatasetError, match="with other pseudonyms, or none"):
        make(plain, tmp_path / "dataset", params, Local(1))
    assert runs.contents(tmp_path / "dataset") == before


def test_slurm_writes_script_and_logs_beside_the_key(archive: Path, tmp_path: Path) -> None:
    key, root = tmp_path / "keys" / "study.key", tmp_path / "dataset"
    key.parent.mkdir()
    slurm = ["--launcher", "slurm", "--array", 2, "--no-submit"]
    given = [folder_of(archive) / "list.csv", "--out", root, "--tile", 64, "--pseudonymise", key]
    process = runs.start(*given, *slurm)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert hospital.leaks(root, (*WORDS, str(archive))) == []
    (script,) = key.parent.rglob("pathprep-dataset.sh")
    assert str(script).encode() in said.replace(b"\n", b"")
    assert script.parents[1].parent == key.with_name("study.key.slurm")
    assert key.with_name("study.key.slurm").stat().st_mode & 0o777 == 0o700
    assert f"pseudonymise: {key}" in script.with_suffix(".yaml").read_text()


def test_a_moved_archive_is_known(archive: Path, tmp_path: Path) -> None:
    shard(archive, tmp_path / "dataset")
    moved = tmp_path / "elsewhere"
    folder_of(archive).rename(moved)
    try:
        given = {**OPTIONS, "pseudonymise": archive / "keys" / "study.key"}
        done = pathprep.shard(moved / "list.csv", tmp_path / "dataset", **given)
        assert (len(done.markers), len(done.skipped)) == (0, 2)
    finally:
        moved.rename(folder_of(archive))


def test_two_slides_of_one_name_have_two(archive: Path, tmp_path: Path) -> None:
    name = f"{hospital.SLIDES[0]}.tif"
    for number, folder in enumerate(("Pat_1", "Pat_2")):
        (tmp_path / folder).mkdir()
        data = (folder_of(archive) / name).read_bytes()
        (tmp_path / folder / name).write_bytes(data + bytes(number))
    key = tmp_path / "study.key"
    slides = [tmp_path / "Pat_1", tmp_path / "Pat_2"]
    done = pathprep.shard(slides, tmp_path / "dataset", pseudonymise=key, **OPTIONS)
    own = keys.read(key).name(hospital.SLIDES[0])
    assert [slide.rpartition("-")[0] for slide in done.markers] == [own, own]
    again = pathprep.shard(slides, tmp_path / "dataset", pseudonymise=key, **OPTIONS)
    assert (len(again.markers), len(again.skipped)) == (0, 2)


def test_several_resolutions(archive: Path, tmp_path: Path) -> None:
    done = shard(archive, tmp_path / "dataset", mpp=(0.5, 1.0), mode="resize")
    assert len(done.markers) == 4
    assert {slide.partition("_mpp")[2] for slide in done.markers} == {"0-5", "1"}
    assert hospital.leaks(tmp_path / "dataset", WORDS) == []
    again = shard(archive, tmp_path / "dataset", mpp=(0.5, 1.0), mode="resize")
    assert (len(again.markers), len(again.skipped)) == (0, 4)


def test_repair_finds_slides_and_masks_by_the_key(archive: Path, tmp_path: Path) -> None:
    root, key = tmp_path / "dataset", archive / "keys" / "study.key"
    shard(archive, root)
    before = runs.contents(root)
    tar = next((root / "shards").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-2000])
    with pytest.raises(UsageError, match="give its key file"):
        pathprep.repair(root)
    done = pathprep.repair(root, pseudonymise=key)
    assert done.summary is not None
    assert not done.summary.failures
    assert runs.contents(root) == before
    tar.unlink()
    rows = key.with_name("study.key.csv")
    saved = rows.read_bytes()
    try:
        rows.unlink()
        with pytest.raises(UsageError, match="does not say where .* is"):
            pathprep.repair(root, pseudonymise=key)
        # one slide of which the table does not tell costs that slide
        other = next(each for each in (root / "shards").glob("*.tar"))
        other.unlink()
        kept = [line for line in saved.splitlines(True) if not line.startswith(tar.stem.encode())]
        assert len(kept) < len(saved.splitlines())
        keys.write_private(rows, b"".join(kept))
        done = pathprep.repair(root, pseudonymise=key)
        assert done.summary is not None
        assert list(done.summary.markers) == [other.stem]
        (left,) = (found for found in done.damaged if found.lost)
        assert left.slide == tar.stem
        assert "does not say where" in left.problems[0]
    finally:
        keys.write_private(rows, saved)


def test_report_shows_what_tiles_were_with_the_key(archive: Path, dataset: Path, tmp_path: Path) -> None:
    key = archive / "keys" / "study.key"
    without = Path(pathprep.report(dataset, tmp_path / "without.html"))
    assert "with the key file" in without.read_text()
    given = Path(pathprep.report(dataset, tmp_path / "with.html", pseudonymise=key))
    assert "with the key file" not in given.read_text()
    assert given.stat().st_size > without.stat().st_size
    assert hospital.leaks(tmp_path, (*WORDS, str(archive))) == []
    with pytest.raises(UsageError, match="no such key file"):
        pathprep.report(dataset, tmp_path / "x.html", pseudonymise=tmp_path / "typo.key")


def test_inspect_and_forecast_tell_no_name_and_make_no_key(archive: Path, tmp_path: Path) -> None:
    key, slide = tmp_path / "study.key", folder_of(archive) / f"{hospital.SLIDES[0]}.tif"
    facts = json.dumps(pathprep.inspect(slide, tile=64, pseudonymise=key))
    slides, more = folder_of(archive) / "list.csv", {"tile": 64, "workers": 1}
    seen = pathprep.forecast(slides, tmp_path / "d", pseudonymise=key, **more)  # type: ignore[arg-type]
    told = facts + json.dumps(seen.as_dict()["failed"])
    assert [word for word in (*WORDS, str(archive)) if word in told] == []
    assert len(seen.failures) == 1
    assert not any(tmp_path.iterdir())


def test_mix_has_pseudonyms_and_no_path(archive: Path, dataset: Path, tmp_path: Path) -> None:
    pathprep.mix([dataset], tmp_path / "mixed")
    assert hospital.leaks(tmp_path / "mixed", (*WORDS, str(archive), str(dataset.parent))) == []
    (source,) = json.loads((tmp_path / "mixed" / "mixed.json").read_bytes())["sources"]
    assert source["path"] == "dataset"
    assert source["pseudonymised"]["key_id"] == keys.read(archive / "keys" / "study.key").id


def test_at_a_url(archive: Path, tmp_path: Path) -> None:
    done = shard(archive, f"file://{tmp_path}/remote", scratch=tmp_path / "scratch")
    assert (len(done.markers), len(done.failures)) == (2, 1)
    assert hospital.leaks(tmp_path, (*WORDS, str(archive))) == []
    again = shard(archive, f"file://{tmp_path}/remote", scratch=tmp_path / "scratch")
    assert (len(again.markers), len(again.skipped)) == (0, 2)


@pytest.mark.parametrize("url", ["memory://keys/dataset", "file://{}"])
def test_no_key_is_made_for_a_url_with_another(
    url: str, archive: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.startswith("memory"):
        fsspec.filesystem("memory").put(str(dataset), "/keys/dataset", recursive=True)
        monkeypatch.setattr("pathprep.sharding.shard.writable", lambda _url: None)  # as if workers could
    place, absent = url.format(dataset), tmp_path / "typo.key"
    with pytest.raises(
        UsageError, match=rf"typo.key: no such key file, and .*{dataset.name} is " "pseudonymised"
    ):
        shard(archive, place, pseudonymise=absent)
    with pytest.raises(UsageError, match="is pseudonymised with another key"):
        shard(archive, place, pseudonymise=keys.take(tmp_path / "other.key").path)
    assert {path.name for path in tmp_path.iterdir()} == {"other.key", ".other.key.lock"}


def test_no_key_is_made_for_a_url_that_cannot_be_used(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write there"):
        shard(archive, "memory://a/dataset", pseudonymise=tmp_path / "new.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_name_and_goes_on(tmp_path: Path) -> None:
    folder, key = hospital.slides(tmp_path), tmp_path / "keys" / "study.key"
    key.parent.mkdir()
    write_tiff(folder / "S19-01234.tif", tissue(2400, 2400, seed=7))  # takes long enough to be killed
    options = ["--tile", 64, "--workers", 1, "--pseudonymise", key]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = runs.start(folder, "--out", killed, *options)
    runs.wait_for_work(process, killed)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((killed / "slides").glob("*.json"))) < 2
    words = (*WORDS, str(folder), str(key.parent))
    assert hospital.leaks(killed, words) == []
    for root in (killed, whole):
        process = runs.start(folder, "--out", root, *options)
        process.communicate()
        assert process.returncode == 0
    assert runs.contents(killed) == runs.contents(whole)
    assert hospital.leaks(killed, words) == []
    assert "tile: 64" in (killed / "shard.yaml").read_text()


def test_tile_set(tmp_path: Path) -> None:
    source, key = tmp_path / "Praxis-Zimmermann", tmp_path / "study.key"
    (source / "Pat_00815").mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(source / "Pat_00815" / f"Mueller {number}.png")
    (source / "Pat_00815" / "Mueller 9.png").write_bytes(b"no picture")
    (source / "Pat_00815" / "Mueller 2.png").rename(source / "Pat_00815" / "A.Mueller 2.png")
    names = ("Mueller 0", "Mueller 1", "A.Mueller 2", "Mueller 9")
    lines = [f"Pat_00815/{name}.png,tumour,Mueller Hans" for name in names]
    (source / "labels.csv").write_text("file,label,group\n" + "\n".join(lines) + "\n")
    for made in (1, 0):
        done = pathprep.import_tiles(source, tmp_path / "dataset", pseudonymise=key, workers=1)
        assert (len(done.run.markers), len(done.damaged), dict(done.labels)) == (made, 1, {"tumour": 3})
    words = ("Zimmermann", "Pat_00815", "Mueller", "Hans", str(tmp_path))
    assert hospital.leaks(tmp_path / "dataset", words) == []
    (index,) = (tmp_path / "dataset" / "index").glob("*.parquet")
    assert set(pq.read_table(index)["group"].to_pylist()) == {keys.read(key).name("Mueller Hans", "g")}
    assert {"Mueller Hans", "Pat_00815/Mueller 9.png"} <= {row.name for row in table.rows(keys.read(key))}
    with pytest.raises(UsageError, match="metadata of pictures names persons"):
        pathprep.import_tiles(source, tmp_path / "other", pseudonymise=key, keep_metadata=True)


def test_each_image_is_hidden_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each damaged image was looked for in all messages: 10,000 of them took eleven minutes."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    for number in range(6):
        (tmp_path / "set" / "a" / f"Mueller {number}.png").write_bytes(b"none")
    params = TileParams(stain=StainParams("none"))
    tiles = hide(find_tiles(tmp_path / "set"), keys.take(tmp_path / "study.key"))
    planned = run.plan(tiles, tmp_path / "out", params)
    asked = []
    monkeypatch.setattr(hidden, "said", lambda _, items, text: asked.extend(items) or text)
    marker = process(ImportTask(tmp_path / "out", planned.todo[0], params, planned.build_id))
    assert (len(marker.damaged), len(asked)) == (6, 6)

"""Surveys: made, taken up again, moved, damaged, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import command
from helpers.damage import silent
from helpers.slides import tissue, write_tiff

import pathprep
import pathprep.folders
from pathprep.errors import DatasetError, UsageError
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import survey as look
from pathprep.slides.slide import Slide
from pathprep.surveys.account import account, gives
from pathprep.surveys.folder import Survey

BROKEN = "s9.tif"


def files(root: Path) -> dict[str, bytes]:
    """Bytes of a survey's files; without the command that made it."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix == ".json"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slides, and a file that is none."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(4):
        pixels = tissue(600 + 100 * number, 900, seed=number, margin=100)
        write_tiff(folder / f"s{number}.tif", pixels, levels=2, mpp=0.5)
    (folder / BROKEN).write_bytes(b"II*\0 no slide")
    return folder


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "survey"
    pathprep.survey(folder, root, workers=2)
    return root


def test_a_slide_as_shard_sees_it(folder: Path, made: Path) -> None:
    survey = Survey(made)
    assert list(survey.slides) == ["s0", "s1", "s2", "s3"]
    slide = survey.slide("s2")
    assert (slide.width, slide.height, slide.mpp) == (900, 800, 0.5)
    assert [level.downsample for level in slide.levels] == [1.0, 2.0]
    assert slide.mpp_source == "TIFF resolution tags"
    with Slide(folder / "s2.tif") as image:
        seen = look(image, ShardParams())
    np.testing.assert_array_equal(slide.tissue.unpacked().mask(), seen.mask)
    assert slide.area == pytest.approx(seen.mask.mean() * 900 * 800 * 0.25)
    assert survey.slides["s2"].tissue.data == ""
    failed = json.loads((made / "failed" / "s9.json").read_text())
    assert failed["stage"] == "open"
    assert str(folder / BROKEN) in failed["error"]


def test_again_does_nothing_and_changes_nothing(folder: Path, made: Path) -> None:
    before = {name: (made / name).stat().st_mtime_ns for name in files(made) if "failed" not in name}
    again = pathprep.survey(folder, made, workers=1)
    assert (len(again.made), len(again.skipped), list(again.failures)) == (0, 4, ["s9"])
    assert {name: (made / name).stat().st_mtime_ns for name in before} == before


START = "import sys; from pathprep.__main__ import main; sys.argv = ['pathprep', *sys.argv[1:]]; main()"


@pytest.mark.slow
def test_two_kills_and_the_same_bytes(folder: Path, made: Path, tmp_path: Path) -> None:
    root = tmp_path / "survey"
    words = ["survey", str(folder), "--out", str(root), "--workers", "1", "--json"]
    for wanted in (1, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", START, *words],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(root.glob("slides/s?.json"))) < wanted and process.poll() is None:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (root / "slides" / ".tmp-left").write_bytes(b"")  # not of pathprep's writers: it stays
    done = command("pathprep", *words)
    assert done.code == 1  # the broken file
    (root / "slides" / ".tmp-left").unlink()
    assert files(root) == files(made)


def test_other_parameters_are_refused_with_the_fix(folder: Path, made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tissue\.threshold 5 there, 20 now.*another `out`, or `rebuild`"):
        pathprep.survey(folder, made, tissue_threshold=20)
    root = shutil.copytree(made, tmp_path / "copy")
    again = pathprep.survey(folder, root, tissue_threshold=20, rebuild=True, workers=1)
    assert len(again.made) == 4
    assert Survey(root).info["build_id"] == again.build_id != Survey(made).info["build_id"]


@pytest.mark.parametrize("name", ["tile", "min_tissue", "stain", "mpp"])
def test_what_shapes_tiles_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}`: no such parameter"):
        pathprep.survey(folder, tmp_path / "s", **{name: 1})


def test_slides_that_moved_are_found_at_their_new_place(folder: Path, made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made, tmp_path / "survey")
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "s1.tif").rename(moved / "renamed.tif")
    before = Survey(root)
    elsewhere = shutil.move(folder, tmp_path / "away")
    try:
        again = pathprep.survey(moved, root, workers=1)
    finally:
        shutil.move(elsewhere, folder)
    assert (len(again.made), sorted(again.skipped)) == (0, ["s0", "s1", "s2", "s3"])
    after = Survey(root)
    assert after.slides["s1"].path == moved / "renamed.tif"
    assert after.contents == before.contents


def test_two_slides_of_one_name_do_not_take_each_others_place(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiff(other / "s0.tif", tissue(500, 700, seed=8, margin=50), mpp=0.5)
    root = tmp_path / "survey"
    pathprep.survey(folder / "s0.tif", root, workers=1)
    second = pathprep.survey(other, root, workers=1)
    assert len(Survey(root).slides) == 2
    assert second.others == ["s0"]


def test_a_slide_that_fails_now_loses_its_file_only_if_it_is_there(made: Path, tmp_path: Path) -> None:
    slides, root = tmp_path / "slides", tmp_path / "survey"
    slides.mkdir()
    for name in ("a", "b"):
        write_tiff(slides / f"{name}.tif", tissue(400, 400, seed=ord(name)), mpp=0.5)
    pathprep.survey(slides, root, workers=1)
    (slides / "a.tif").write_bytes(b"no slide any more")
    (slides / "b.tif").unlink()
    listed = tmp_path / "list.csv"
    listed.write_text(f"slide\n{slides}/a.tif\n{slides}/b.tif\n")
    assert sorted(pathprep.survey(listed, root, workers=1).failures) == ["a", "b"]
    assert list(Survey(root).slides) == ["b"]


def test_verify_tells_of_changed_slides_and_damaged_files(folder: Path, made: Path, tmp_path: Path) -> None:
    slides, root = shutil.copytree(folder, tmp_path / "slides"), tmp_path / "survey"
    pathprep.survey(slides, root, workers=1)
    done = command("pathprep", "verify", root)
    assert done.code == 0
    assert "4 slides: all as surveyed" in done.out
    assert "at 0.5" in done.out
    with (slides / "s0.tif").open("ab") as file:
        file.write(b"more")
    (slides / "s1.tif").unlink()
    (root / "slides" / "s2.json").write_bytes(b"{}")
    done = command("pathprep", "verify", root)
    assert done.code == 1
    words = " ".join(done.out.split())
    assert "when it was surveyed; training would drop the slide" in words
    assert "it is not there, or cannot be read" in words
    assert "s2.json: damaged; the next `pathprep survey` makes it again" in words


def test_no_flipped_bit_goes_unseen(made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made, tmp_path / "survey")
    path = root / "slides" / "s0.json"
    assert silent(path, lambda: Survey(root).slides, most=300) == []


def test_errors_as_a_new_user_meets_them(folder: Path, made: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a dataset; choose another `out`"):
        pathprep.survey(folder, small)
    for other in (pathprep.shard, pathprep.mix):
        with pytest.raises(UsageError, match="survey: holds a survey; choose another `out`"):
            other(small if other is pathprep.mix else folder, made)
    with pytest.raises(DatasetError, match="not a survey"):
        Survey(tmp_path)
    alone = tmp_path / "alone"
    pathprep.survey(folder / BROKEN, alone, workers=1)
    with pytest.raises(DatasetError, match=r"an empty survey.*its failed/ says why"):
        Survey(alone)
    with pytest.raises(UsageError, match="a local folder"):
        pathprep.survey(folder, "s3://bucket/survey")
    with pytest.raises(UsageError, match="a survey .* which has no tiles on disk"):
        pathprep.folders.open_dataset(made)
    (root := shutil.copytree(made, tmp_path / "damaged")).joinpath("survey.json").write_text("{}")
    with pytest.raises(DatasetError, match="damaged; .*writes it anew and keeps every slide"):
        Survey(root)
    assert len(pathprep.survey(folder, root, workers=1).skipped) == 4


def test_a_slide_without_mpp_says_what_to_give(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", tissue(400, 400), mpp=None)
    failed = pathprep.survey(tmp_path, tmp_path / "s", workers=1).failures["a"]
    assert failed.kind == "MppError"
    assert "`default_mpp`" in failed.error or "--default-mpp" in failed.error
    again = pathprep.survey(tmp_path, tmp_path / "s", workers=1, default_mpp=0.25)
    assert again.made["a"].mpp == 0.25
    assert not list((tmp_path / "s" / "failed").iterdir())


def test_the_account(made: Path) -> None:
    slides = Survey(made).slides
    found = account(slides.values())
    assert found["mpps"] == {"0.25": 4, "0.5": 4, "1": 4, "2": 0}  # a tile of 2 MPP is 1024 px of level 0
    assert found["tissue_cm2"] > 0
    assert gives(slides["s0"], 0.25, tile=512)
    assert not gives(slides["s0"], 0.2, tile=64)  # more than twice as coarse
    assert not gives(slides["s0"], 1.0, tile=400)


def test_a_part_and_the_script_of_an_array(folder: Path, made: Path, tmp_path: Path) -> None:
    root = tmp_path / "survey"
    parts = [pathprep.survey(folder, root, part=(k, 2), workers=1) for k in (1, 2)]
    assert sum(len(part.made) for part in parts) == 4
    assert files(root) == files(made)
    words = ("--launcher", "slurm", "--array", 2, "--no-submit")
    done = command("pathprep", "survey", folder, "--out", tmp_path / "s2", *words)
    assert done.code == 0, done.words
    (script,) = (tmp_path / "s2" / "slurm").glob("*.sh")
    assert "pathprep survey --config" in script.read_text()

"""The command as a user meets it: exit codes, one-line errors, JSON, plain progress."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from PIL import Image

from pathprep import stain
from pathprep.cli import main

COMMAND = "import sys; from pathprep.cli import main; sys.argv = ['pathprep', *sys.argv[1:]]; main()"


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def pathprep(*arguments: object, cwd: Path | None = None) -> Done:
    """The command in this process, without the seconds that a new one takes to load."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["pathprep", *map(str, arguments)])
        if cwd is not None:
            patch.chdir(cwd)
        main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "a.b.tif", tissue(600, 700, margin=60))
    return folder


def test_shard_with_nothing_else_writes_dataset_here(folder: Path, tmp_path: Path) -> None:
    done = pathprep("shard", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 made" in done.stdout
    assert (tmp_path / "dataset" / "shards" / "a_b.tar").exists()
    again = pathprep("verify", cwd=tmp_path)
    assert again.returncode == 0
    assert "1 slide, 4 tiles: all as written" in again.stdout
    with (tmp_path / "dataset" / "shards" / "a_b.tar").open("r+b") as file:
        file.seek(3000)
        file.write(b"xxxx")
    damaged = pathprep("verify", "--json", cwd=tmp_path)
    assert damaged.returncode == 1
    assert json.loads(damaged.stdout)["bad"][0]["slide"] == "a_b"


def test_json_goes_to_stdout_alone_and_failures_exit_with_1(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.svs").write_bytes(b"not a slide")
    done = pathprep("shard", folder, tmp_path / "bad.svs", "--out", tmp_path / "d", "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["slides"], summary["done"], list(summary["failed"])) == (2, 1, ["bad"])
    assert summary["tiles"] == 4
    assert "2 slides" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shard", "nowhere"], "nowhere: no such file or folder"),
        (["shard", ".", "--tile", "3"], "--tile must be 16 to 4096"),
        (["shard", ".", "--tile", "0"], "--tile must be 16 to 4096"),
        (["shard", ".", "--seed", "-1", "--max-tiles", "3"], "--seed must be 0 or more"),
        (["shard", ".", "--overlap", "256"], "--overlap must be 0 to 255"),
        (["shard", ".", "--min-tissue", "40"], "--min-tissue is a share"),
        (["shard", ".", "--region", "1000"], "--region 1000 must be a multiple of --tile 256"),
        (["shard", ".", "--mpp", "inf"], "--mpp must be above 0"),
        (["shard", ".", "--mpp", "0,5"], "--mpp must be above 0; fractions have a point"),
        (["shard", ".", "--tissue-threshold", "300"], "--tissue-threshold must be 0 to 254"),
        (["shard", ".", "--stain", "reinhard"], "Invalid value for '--stain': 'reinhard' is not one of"),
        (["shard", "."], "no slides in this folder"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = pathprep(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "dataset").exists()


def test_a_place_that_cannot_be_written_is_named_with_the_fix(folder: Path) -> None:
    done = pathprep("shard", folder, "--out", "/proc/x")
    assert done.returncode == 2
    assert "error: /proc/x: cannot be made (No such file or directory); choose another --out" in done.stderr


def test_inspect(folder: Path, tmp_path: Path) -> None:
    done = pathprep("inspect", folder / "a.b.tif")
    assert done.returncode == 0
    assert "0.5 (TIFF resolution tags)" in done.stdout
    facts = json.loads(pathprep("inspect", folder / "a.b.tif", "--json").stdout)
    assert (facts["width"], facts["height"], facts["tiles"], facts["grid"]) == (700, 600, 4, [2, 2])
    unknown = write_tiff(tmp_path / "u.tif", tissue(300, 300), mpp=None)
    done = pathprep("inspect", unknown)
    assert done.returncode == 1
    assert "--default-mpp" in done.stdout
    done = pathprep("inspect", tmp_path / "none.svs")
    assert done.returncode == 2
    assert "none.svs: no such file" in done.stderr


def test_square_brackets_in_names_are_not_markup(tmp_path: Path) -> None:
    folder = tmp_path / "z[ [old] x]"
    folder.mkdir()
    (folder / "a[b].svs").write_bytes(b"no slide")
    done = pathprep("shard", folder, "--out", folder / "d")
    assert done.returncode == 1
    assert "[old]" in done.stdout.replace("\n", "")
    assert "Traceback" not in done.stderr


def test_slides_that_are_no_stain_fail_the_run_loudly(tmp_path: Path) -> None:
    write_tiff(tmp_path / "flat.tif", np.full((600, 600, 3), (205, 120, 180), np.uint8))
    done = pathprep("shard", tmp_path / "flat.tif", "--out", tmp_path / "d")
    assert done.returncode == 1
    assert "100% of the tiles have no stain fit" in done.stderr
    done = pathprep("shard", tmp_path / "flat.tif", "--out", tmp_path / "d", "--max-unfitted", "1")
    assert done.returncode == 0


def test_target_is_fitted_saved_and_used(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(tissue(300, 300, seed=5)).save(tmp_path / "reference.png")
    made = pathprep("target", tmp_path / "reference.png", "--out", tmp_path / "target.json")
    assert made.returncode == 0, made.stderr
    done = pathprep("shard", folder, "--out", tmp_path / "d", "--target", tmp_path / "target.json")
    assert done.returncode == 0
    stored = json.loads((tmp_path / "d" / "dataset.json").read_text())["params"]["stain"]["target"]
    assert stored["he"] == json.loads((tmp_path / "target.json").read_text())["he"]
    Image.fromarray(np.full((50, 50, 3), 255, np.uint8)).save(tmp_path / "white.png")
    done = pathprep("target", tmp_path / "white.png", "--out", tmp_path / "t.json")
    assert done.returncode == 1
    assert "white.png" in done.stderr
    assert not (tmp_path / "t.json").exists()
    done = pathprep("shard", folder, "--out", tmp_path / "d", "--target", tmp_path / "none.json")
    assert done.returncode == 2
    assert "none.json" in done.stderr


def fitted(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_target_of_a_slide_is_the_pooled_fit_of_some_of_its_tiles(tmp_path: Path) -> None:
    """Of all of them, it is what `shard` records as the slide's pooled fit."""
    slide = write_tiff(tmp_path / "s.tif", tissue(1200, 1400, margin=100))
    out = tmp_path / "t.json"
    every = pathprep("target", slide, "--out", out)
    assert every.returncode == 0, every.stderr
    assert "s.tif (slide): " in every.stdout
    done = pathprep("shard", slide, "--out", tmp_path / "d", "--stain", "fit", "--json")
    marker = json.loads((tmp_path / "d" / "slides" / "s.json").read_text())
    tiles = json.loads(done.stdout)["tiles"]
    assert f"{tiles} of {tiles} tiles fitted" in every.stdout
    assert [x for row in fitted(out)["he"] for x in row] == marker["stain_fit"]["he"]
    assert fitted(out)["max_c"] == marker["stain_fit"]["max_c"]
    chosen = []
    for seed in (0, 0, 1):
        made = pathprep("target", slide, "--out", out, "--tiles", 5, "--seed", seed)
        assert "5 of 5 tiles fitted" in made.stdout
        chosen.append(fitted(out)["he"])
    assert chosen[0] == chosen[1] != chosen[2]
    again = pathprep("target", slide, "--out", out, "--keep", "any", "--alpha", 2, "--beta", 0.2, "--io", 250)
    assert again.returncode == 0
    assert [x for row in fitted(out)["he"] for x in row] != marker["stain_fit"]["he"]


def test_target_tells_slides_from_pictures(tmp_path: Path) -> None:
    pixels = tissue(300, 300, seed=5)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "dots.tif", dpi=(300, 300))  # a plain TIFF with a printer's resolution
    picture.save(tmp_path / "p.png")
    write_tiff(tmp_path / "unknown.tif", tissue(600, 600), mpp=None)
    write_tiff(tmp_path / "coarse.tif", tissue(600, 600), mpp=2.0)
    out = ["--out", tmp_path / "t.json"]
    for name in ("dots.tif", "p.png"):
        done = pathprep("target", tmp_path / name, *out)
        assert (done.returncode, f"{name} (picture)" in done.stdout) == (0, True), done.stderr
    assert np.allclose(fitted(tmp_path / "t.json")["he"], stain.Target.fit(pixels).he)
    slide = pathprep("target", tmp_path / "unknown.tif", *out, "--default-mpp", 0.5)
    assert "4 of 4 tiles fitted" in slide.stdout
    assert pathprep("target", tmp_path / "coarse.tif", *out, "--mpp", 2).returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        ("nowhere.svs", [], 2, "nowhere.svs: no such file"),
        ("bad.svs", [], 1, "bad.svs: OpenSlide cannot open it"),
        ("bad.tif", [], 1, "bad.tif: OpenSlide cannot open it"),
        ("bad.png", [], 2, "bad.png: not a readable picture"),
        ("p.png", ["--tiles", "3"], 2, "p.png: a picture, not a slide; --tiles"),
        ("p.png", ["--mpp", "0.5"], 2, "p.png: a picture, not a slide"),
        ("p.png", ["--alpha", "50"], 2, "--alpha is 50.0; expected percent"),
        ("p.png", ["--io", "0"], 2, "--io is 0.0; expected grey levels"),
        ("unknown.tif", [], 1, "give --default-mpp"),
        ("flat.tif", [], 1, "flat.tif: no tile of it holds a pair of stains"),
        ("glass.tif", [], 1, "glass.tif: no tile of 256 px has 40% tissue"),
    ],
)
def test_targets_that_cannot_be(
    tmp_path: Path, name: str, options: list[str], code: int, message: str
) -> None:
    for bad in ("bad.svs", "bad.tif", "bad.png"):
        (tmp_path / bad).write_bytes(b"no image at all")
    Image.fromarray(tissue(64, 64)).save(tmp_path / "p.png")
    write_tiff(tmp_path / "unknown.tif", tissue(300, 300), mpp=None)
    write_tiff(tmp_path / "flat.tif", np.full((600, 600, 3), (205, 120, 180), np.uint8))
    write_tiff(tmp_path / "glass.tif", np.full((600, 600, 3), 245, np.uint8))
    done = pathprep("target", tmp_path / name, "--out", tmp_path / "t.json", *options)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "t.json").exists()


@pytest.mark.realdata
def test_target_of_a_real_slide_never_loads_torch(data: Path, tmp_path: Path) -> None:
    slide = data / "slides" / "CMU-1-Small-Region.svs"
    watched = COMMAND.replace("; main()", "\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)")
    done = subprocess.run(
        [sys.executable, "-c", watched, "target", slide, "--out", tmp_path / "t.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False"), done.stderr
    found = np.array(fitted(tmp_path / "t.json")["he"])
    reference = stain.Target.default().he
    angles = np.degrees(np.arccos((found * reference).sum(0) / np.linalg.norm(reference, axis=0)))
    assert (angles < 15).all()  # H&E like any other


def test_a_dry_run_counts_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    arguments = ("shard", folder, "--out", tmp_path / "d", "--tile", "64")
    foreseen = json.loads(pathprep(*arguments, "--dry-run", "--json").stdout)
    assert not (tmp_path / "d").exists()
    made = json.loads(pathprep(*arguments, "--json").stdout)
    assert (foreseen["tiles"], foreseen["counts"]) == (made["tiles"], made["counts"])
    assert "1 already there" in pathprep(*arguments, "--dry-run").stdout
    before = (tmp_path / "d" / "dataset.json").read_bytes()
    other = pathprep(*arguments, "--quality", 70, "--dry-run", "--json")
    assert other.returncode == 0
    assert "made with other parameters (quality 90 there, 70 now); a run needs another --out" in other.stderr
    facts = json.loads(other.stdout)
    assert (facts["tiles"], facts["slides"], facts["already_done"]) == (made["tiles"], 1, 0)
    assert (tmp_path / "d" / "dataset.json").read_bytes() == before


def test_slides_at_several_resolutions_are_counted_as_slides(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.svs").write_bytes(b"not a slide")
    arguments = ("shard", folder, "--out", tmp_path / "d", "--tile", "64", "--resize", "--mpp", "2,1,0.5")
    for made in ("3 made (1 slide at", "0 made, 3 already there (1 slide at"):
        done = pathprep(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("1 slide at 3 resolutions -> ")
        assert f"{made} 3 resolutions)" in done.stdout
    done = pathprep(*arguments, tmp_path / "bad.svs")
    assert "3 already there, 3 failed (2 slides at 3 resolutions)" in " ".join(done.stdout.split())


def test_repair_makes_a_damaged_slide_again(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    pathprep("shard", folder, "--out", root, "--tile", "64")
    tar = root / "shards" / "a_b.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-1000])
    assert "pathprep repair" in pathprep("verify", root).stdout
    done = pathprep("repair", root)
    assert (done.returncode, "a_b" in done.stdout) == (0, True)
    assert tar.read_bytes() == whole
    assert "No slide is damaged" in pathprep("repair", root).stdout


def test_native_tiles_too_large_for_a_stain_fit_say_so_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / "a.tif", tissue(4200, 4200, margin=10))
    arguments = ("--out", tmp_path / "out", "--tile", 4096, "--mpp", 0.51, "--json")
    result = pathprep("shard", tmp_path / "slides", *arguments)
    assert result.returncode == 1
    assert "tiles of 4178 px a side are too large for a stain fit" in result.stdout

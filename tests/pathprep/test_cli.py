"""The command as a user meets it: exit codes, one-line errors, JSON, plain progress."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slides import tissue, write_tiff

COMMAND = "import sys; from pathprep.cli import main; sys.argv = ['pathprep', *sys.argv[1:]]; main()"


def pathprep(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=None,
    )


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
    assert "1 slides, 4 tiles: all as written" in again.stdout
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
        (["shard", ".", "--overlap", "256"], "--overlap must be 0 to 255"),
        (["shard", ".", "--min-tissue", "40"], "--min-tissue is a share"),
        (["shard", ".", "--region", "1000"], "--region 1000 must be a multiple of --tile 256"),
        (["shard", ".", "--mpp", "inf"], "--mpp must be above 0"),
        (["shard", ".", "--tissue-threshold", "300"], "--tissue-threshold must be 0 to 254"),
        (["shard", ".", "--stain", "reinhard"], "Invalid value for '--stain'"),
        (["shard", "."], "no slides in this folder"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = pathprep(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "dataset").exists()


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
    assert done.returncode == 1
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


def test_help_is_there_for_every_command() -> None:
    for command in ("shard", "inspect", "verify", "report", "target", "synth"):
        done = pathprep(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout

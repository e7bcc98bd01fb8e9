"""What commands write beside their results, so that the same can be asked for again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.runs import contents
from helpers.slides import tissue, write_tiff
from helpers.tilesets import folders, tile
from typer.testing import CliRunner

from pathprep.cli import app

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "a.tif", tissue(300, 400, margin=30))
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, code: int = 0) -> Any:
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return call


def test_shard_is_given_again_from_its_file(run: Run, slides: Path, tmp_path: Path) -> None:
    options = ("--tile", 64, "--resize", "--mpp", "1,0.5", "--stain-keep", "any", "--no-forecast")
    run("shard", slides, "--out", "first", *options, "--dry-run")
    assert not Path("first").exists()
    run("shard", slides, "--out", "first", *options)
    saved = yaml.safe_load(Path("first/shard.yaml").read_text())
    assert (saved["out"], saved["slides"]) == (str(tmp_path / "first"), [str(slides)])
    assert (saved["mpp"], saved["native"], saved["forecast"]) == ([1.0, 0.5], False, False)
    again = run("shard", "--config", "first/shard.yaml", "--json")
    assert json.loads(again.stdout)["already_done"] == 2
    run("shard", "--config", "first/shard.yaml", "--out", "second", "--out-json", "new/second.json")
    assert contents(Path("second")) == contents(Path("first"))
    assert json.loads(Path("new/second.json").read_text())["done"] == 2


def test_one_part_of_several_leaves_the_file_alone(run: Run, slides: Path) -> None:
    run("shard", slides, "--tile", 64, "--part", "1/1")
    assert not Path("dataset/shard.yaml").exists()


def test_tile_sets_and_mixes_are_given_again(run: Run, tmp_path: Path) -> None:
    names = [f"{label}/{number}.png" for label in ("benign", "tumour") for number in range(4)]
    folders(tmp_path / "set", {name: tile(seed) for seed, name in enumerate(names)})
    run("import-tiles", "set", "--out", "imported", "--tiles-per-shard", 3)
    again = run("import-tiles", "--config", "imported/import-tiles.yaml", "--json")
    facts = json.loads(again.stdout)
    assert facts["already_done"] == facts["shards"] > 1
    run("mix", "imported", "--tiles-per-shard", 4)
    mixed = yaml.safe_load(Path("mixed/mix.yaml").read_text())
    assert (mixed["datasets"], mixed["tiles_per_shard"]) == ([str(tmp_path / "imported")], 4)
    again = run("mix", "--config", "mixed/mix.yaml", "--json")
    assert json.loads(again.stdout)["tiles_written"] == 0
    for folder in ("imported", "mixed"):
        assert json.loads(run("verify", folder, "--json").stdout)["bad"] == []


def test_a_remote_dataset_has_the_file_too(run: Run, slides: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    run("shard", slides, "--out", url, "--tile", 64, "--scratch", "scratch")
    saved = yaml.safe_load((tmp_path / "remote" / "shard.yaml").read_text())
    assert (saved["out"], saved["tile"], saved["scratch"]) == (url, 64, str(tmp_path / "scratch"))
    again = run("shard", "--config", tmp_path / "remote" / "shard.yaml", "--json")
    assert json.loads(again.stdout)["already_done"] == 1

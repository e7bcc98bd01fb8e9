"""`pathprep tissue`: masks that QuPath opens and `shard` takes, a page, going on, edited masks kept."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import check_page
from helpers.commands import command
from helpers.onnx_models import write
from helpers.slides import tissue, write_tiff
from PIL import Image

import pathprep
from pathprep.errors import UsageError

SHARD = {"tile": 64, "mpp": 4.0, "stain": "none", "forecast": False, "workers": 1}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(2):
        write_tiff(folder / f"s{seed}.tif", tissue(512, 640, seed, margin=96), mpp=4.0)
    little = np.full((900, 900, 3), 242, np.uint8)
    little[400:460, 400:460] = (205, 130, 190)
    write_tiff(folder / "little.tif", little, mpp=8.0)
    (folder / "broken.svs").write_bytes((folder / "s0.tif").read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, slides: Path) -> Path:
    root = tmp_path_factory.mktemp("made") / "masks"
    summary = pathprep.tissue(slides, root, png=True, workers=1)
    assert sorted(summary.made) == ["little", "s0", "s1"]
    assert list(summary.failures) == ["broken"]
    return root


def test_masks_are_annotations_and_pictures_of_the_tissue(made: Path) -> None:
    found = json.loads((made / "s0.geojson").read_text())
    [feature] = found["features"]
    assert feature["properties"]["classification"]["name"] == "Tissue"
    mask = np.asarray(Image.open(made / "png" / "s0.png")) > 0
    truth = np.zeros((512, 640), bool)
    truth[96:-96, 96:-96] = True
    seen = np.asarray(Image.fromarray(mask).resize((640, 512), Image.Resampling.NEAREST))
    assert (seen & truth).sum() / (seen | truth).sum() > 0.97


def test_the_command_says_what_it_did_not_take(tmp_path: Path) -> None:
    write_tiff(tmp_path / "s.tif", tissue(512, 640, margin=96), mpp=4.0)
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    done = command("pathprep", "tissue", tmp_path, "--out", tmp_path / "masks", "--workers", "1")
    assert done.code == 0, done.words
    assert "1 file not taken: 1 .png" in done.out


def test_facts_warnings_and_failures_are_told(made: Path, slides: Path) -> None:
    summary = pathprep.tissue(slides, made, png=True, workers=1)
    assert not summary.made
    facts = {each["slide"]: each for each in summary.as_dict()["tissue"]}
    assert facts["little"]["notes"] == ["little_tissue"]
    assert facts["s0"]["area"] == pytest.approx(448 * 320 * 16 / 1e6, rel=0.03)
    assert "broken" in summary.failures
    text = (made / "tissue.html").read_text()
    assert "less than 1 % of the slide is tissue" in text
    assert str(slides) not in text


def test_shard_takes_them_and_makes_the_same_tiles(made: Path, slides: Path, tmp_path: Path) -> None:
    some = [slides / "s0.tif", slides / "s1.tif"]
    pathprep.shard(some, tmp_path / "plain", **SHARD)
    pathprep.shard(some, tmp_path / "masks", masks=made, **SHARD)
    pathprep.shard(some, tmp_path / "png", masks=made / "png", **SHARD)
    places = [
        {(row["x"], row["y"]) for row in pathprep.open(tmp_path / each).table("s0").to_pylist()}
        for each in ("plain", "masks", "png")
    ]
    assert len(places[0]) > 20
    assert places[0] == places[1] == places[2]


def test_an_edited_mask_is_kept(slides: Path, tmp_path: Path) -> None:
    root, slide = tmp_path / "masks", slides / "s0.tif"
    pathprep.tissue(slide, root, workers=1)
    path = root / "s0.geojson"
    edited = json.loads(path.read_text())
    edited["features"][0]["properties"]["name"] = "mine"
    path.write_text(json.dumps(edited))
    again = pathprep.tissue(slide, root, workers=1)
    assert list(again.skipped) == ["s0"]
    assert again.as_dict()["tissue"][0]["edited"]
    assert "edited by hand since" in (root / "tissue.html").read_text()
    other = pathprep.tissue(slide, root, tissue="otsu", workers=1)
    assert "was edited since it was made" in other.failures["s0"].error
    assert json.loads(path.read_text()) == edited
    pathprep.tissue(slide, root, tissue="otsu", workers=1, rebuild=True)
    assert json.loads(path.read_text()) != edited


def test_what_is_gone_or_was_made_otherwise_is_made_again(slides: Path, tmp_path: Path) -> None:
    root, slide = tmp_path / "masks", slides / "s0.tif"
    pathprep.tissue(slide, root, workers=1)
    first = (root / "s0.geojson").read_bytes()
    (root / "thumbs" / "s0.jpg").unlink()
    assert list(pathprep.tissue(slide, root, workers=1).made) == ["s0"]
    assert (root / "s0.geojson").read_bytes() == first
    facts = root / "facts" / "s0.json"
    facts.write_bytes(facts.read_bytes().replace(b'"pieces": 1', b'"pieces": 2'))
    assert list(pathprep.tissue(slide, root, workers=1).made) == ["s0"]
    assert list(pathprep.tissue(slide, root, workers=1, png=True).made) == ["s0"]
    assert list(pathprep.tissue(slide, root, workers=1, tissue_threshold=9).made) == ["s0"]


def test_a_models_classes_stand_beside_the_tissue(slides: Path, tmp_path: Path) -> None:
    summary = pathprep.tissue(
        slides / "s0.tif", tmp_path / "masks", tissue_model=write(tmp_path / "m.onnx"), workers=1
    )
    assert list(summary.made["s0"].classes) == ["pen"]
    assert "a tissue model at 8" in (tmp_path / "masks" / "tissue.html").read_text()


def test_other_folders_and_settings_are_refused(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a dataset"):
        pathprep.tissue(slides, tmp_path)
    with pytest.raises(UsageError, match="no such parameter"):
        pathprep.tissue(slides, tmp_path / "m", quality=3)
    with pytest.raises(UsageError, match="local folder"):
        pathprep.tissue(slides, "s3://bucket/masks")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_folder(made: Path, slides: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "pathprep",
        "tissue",
        str(slides),
        "--out",
        str(tmp_path / "masks"),
        "--png",
    ]
    for wait in (0.6, 1.2, 1.8, 2.4):
        running = subprocess.Popen(
            [*words, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait)
        running.kill()
        running.wait()
    pathprep.tissue(slides, tmp_path / "masks", png=True, workers=1)
    there = {path.relative_to(made): path for path in made.rglob("*") if path.is_file()}
    again = {
        path.relative_to(tmp_path / "masks") for path in (tmp_path / "masks").rglob("*") if path.is_file()
    }
    assert again == set(there)
    for name, path in there.items():
        if name.name != "tissue.html":  # it has the folder's name
            assert (tmp_path / "masks" / name).read_bytes() == path.read_bytes(), name


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (420, True)])
def test_the_page_is_whole_at_any_width(made: Path, width: int, dark: bool) -> None:
    page = check_page(made / "tissue.html", width, None, dark)
    assert not page.errors
    assert not page.broken
    assert not page.without_alt
    assert not page.external
    assert page.overflow <= 0
    assert page.images == 3

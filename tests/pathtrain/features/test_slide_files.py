"""Files of features from slides: a slide keeps its own, unless what it depends on has changed."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from helpers.toys import write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.storage.url import UrlStorage
from pathprep.streaming.stream import TileStream
from pathtrain.cli import app
from pathtrain.features import slide_run
from pathtrain.features.bags import Bags
from pathtrain.features.embed import embed
from pathtrain.features.slides_account import SlidesSummary


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_run(folder / "run", folder / "none")


def summary_of(*given: Any, **settings: Any) -> SlidesSummary:
    found = embed(*given, **{"tile": 64, "workers": 2, "batch": 7, **settings})
    assert isinstance(found, SlidesSummary)
    return found


@pytest.mark.parametrize("glass", [False, True], ids=["tissue", "glass"])
def test_another_mpp_of_slides_that_state_none_counts_at_urls_too(
    tmp_path: Path, run: Path, glass: bool
) -> None:
    pixels = np.full((300, 300, 3), 243, np.uint8) if glass else tissue(400, 400, seed=1)
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / "a.tif", pixels, mpp=None)
    url, out = f"file://{tmp_path}/slides", tmp_path / "features"
    summary_of(run, url, out, default_mpp=0.5)
    assert summary_of(run, url, out, default_mpp=0.5).kept == 1
    again = summary_of(run, url, out, default_mpp=0.25)
    assert (again.kept, again.written + again.empty) == (0, 1)


def test_a_slide_keeps_its_file_whatever_else_a_run_is_about(tmp_path: Path, run: Path) -> None:
    """Two files of one slide would count it twice in whatever reads the folder."""
    for name in "xy":
        (tmp_path / name).mkdir()
        write_tiff(tmp_path / name / "a.tif", tissue(300, 300, seed=ord(name)))
    x, y, out = tmp_path / "x", tmp_path / "y", tmp_path / "features"
    summary_of(run, x, out)
    both = summary_of(run, [x, y], out)
    assert (both.written, both.kept) == (1, 1)
    assert len(Bags.open(out).counts) == 2
    for given in (x, y, [y, x]):
        again = summary_of(run, given, out)
        assert again.written == 0
    assert len(list(out.glob("*.h5"))) == 2
    together = tmp_path / "together"
    summary_of(run, [x, y], together)
    assert summary_of(run, x, together).kept == 1
    assert len(list(together.glob("*.h5"))) == 2


def test_one_that_cannot_be_put_into_scratch_costs_itself(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slides").mkdir()
    for name in ("a", "bad", "c"):
        write_tiff(tmp_path / "slides" / f"{name}.tif", tissue(300, 300, seed=len(name)))
    get = UrlStorage.get

    def refuse(self: UrlStorage, name: str, local: Path) -> None:
        if name == "bad.tif":
            raise OSError(36, "File name too long", str(local))
        get(self, name, local)

    monkeypatch.setattr(UrlStorage, "get", refuse)

    def bad_first(_: random.Random, todo: list[Any]) -> None:
        todo.sort(key=lambda target: target.name != "bad")

    monkeypatch.setattr("random.SystemRandom.shuffle", bad_first)
    summary = summary_of(run, f"file://{tmp_path}/slides", tmp_path / "features")
    assert (summary.written, list(summary.failed)) == (2, ["bad"])
    assert "bad.tif: cannot be written to `scratch` (File name too long" in summary.failed["bad"]


@pytest.mark.parametrize("at_url", [False, True], ids=["folder", "URL"])
def test_the_command_tells_what_it_did_not_take(tmp_path: Path, run: Path, at_url: bool) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    write_tiff(slides / "a.tif", tissue(300, 300, seed=1))
    if not at_url:  # which slides at a URL are the same is not known before they are fetched
        shutil.copy(slides / "a.tif", slides / "copy of a.tif")
    (slides / "b.isyntax").write_text("Philips' own")
    place = f"file://{slides}" if at_url else str(slides)
    done = CliRunner().invoke(app, ["embed", str(run), place, "--out", str(tmp_path / "features")])
    assert done.exit_code == 0, done.output
    assert "1 .isyntax (slides of a format that is not read" in done.stderr
    assert ("1 duplicate, taken once:" in done.stderr) != at_url


def test_doubts_about_a_mask_are_told(tmp_path: Path, run: Path) -> None:
    pixels = tissue(400, 400, seed=1, margin=100)
    write_tiff(tmp_path / "a.tif", pixels)
    inside = np.zeros((400, 400), np.uint8)
    inside[100:300, 100:300] = 255
    Image.fromarray(255 - inside).save(tmp_path / "mask.png")  # the wrong way round
    arguments = ["embed", str(run), str(tmp_path / "a.tif"), "--masks", str(tmp_path / "mask.png")]
    done = CliRunner().invoke(app, [*arguments, "--tile", "64", "--out", str(tmp_path / "features")])
    assert done.exit_code == 0, done.output
    assert "About the masks:" in done.stderr
    assert "a: of what it calls tissue" in done.stderr


def test_ranks_of_one_machine_share_its_cores(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    class Watched(TileStream):
        def __init__(self, *given: Any, **settings: Any) -> None:
            super().__init__(*given, **settings)
            threads.extend(task.threads for task in self.tasks)

    monkeypatch.setattr(slide_run, "TileStream", Watched)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    write_tiff(tmp_path / "a.tif", tissue(300, 300, seed=1))
    summary_of(run, tmp_path / "a.tif", tmp_path / "features", workers=1, threads=1)
    assert threads == [2]

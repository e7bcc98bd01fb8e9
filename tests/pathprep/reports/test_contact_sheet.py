"""Tiles on the page, before and after their stain was changed, as far as their slides are still there."""

import json
import signal
from pathlib import Path
from typing import cast

import numpy as np
from helpers.markers import slide_marker
from helpers.reports import SIDE, Shard, pixels_of, read
from helpers.slides import tissue

from pathprep import stain
from pathprep.dataset.marker import SlideRecord
from pathprep.dataset.reader import Dataset
from pathprep.images import jpeg
from pathprep.reports import contact_sheet, measure, slide_pixels
from pathprep.reports.page import SAMPLE, report
from pathprep.reports.slide_pixels import Wanted
from pathprep.storage.seals import sealed


def test_sheet_shows_tiles_before_and_after(made: Shard, archive: Path) -> None:
    dataset = Dataset(made("bake"))
    tiles = measure.measure(dataset, "second", 0, 3).sample
    shown = contact_sheet.sheet(dataset, tiles)
    assert shown.problems == {}
    original = tissue(384, 512, 2)
    for tile in tiles:
        before = original[tile.y : tile.y + SIDE, tile.x : tile.x + SIDE]
        after = jpeg.decode(dataset.read("second", tile.offset, tile.length))
        assert np.abs(pixels_of(shown.pairs[tile].before) - before).mean() < 8  # coded as JPEG twice
        assert np.abs(pixels_of(shown.pairs[tile].after) - after).mean() < 6
        assert np.abs(pixels_of(shown.pairs[tile].after) - before).mean() > 12
    dataset.close()


def test_sheet_applies_stored_fits(made: Shard) -> None:
    dataset = Dataset(made("fit"))
    tile = measure.measure(dataset, "second", 0, 1).sample[0]
    pair = contact_sheet.sheet(dataset, [tile]).pairs[tile]
    stored = jpeg.decode(dataset.read("second", tile.offset, tile.length))
    assert np.abs(pixels_of(pair.before) - stored).mean() < 6
    target = stain.Target.default()
    he, max_c = np.array(tile.he).reshape(3, 2), np.array(tile.max_c)
    matrix = target.he @ np.diag(target.max_c / max_c) @ np.linalg.pinv(he)
    density = -np.log((stored + 1.0) / 240)
    expected = np.clip(240 * np.exp(-density @ matrix.T), 0, 255)
    assert np.abs(pixels_of(pair.after) - expected).mean() < 6
    dataset.close()


def test_sheet_without_stain(made: Shard, tmp_path: Path) -> None:
    page = read(report(made("none"), tmp_path / "page.html"))
    assert "made without stain normalisation (--stain none)" in page.text
    assert "Stain was not measured" in page.text
    assert len([picture for picture in page.pictures if "as stored" in str(picture["alt"])]) == SAMPLE


def test_slides_that_are_gone_or_changed(dataset: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "first.tif")
    for name, change in (("first", {"path": gone}), ("second", {"size": 1})):
        marker = json.loads((dataset / "slides" / f"{name}.json").read_text())
        marker["source"] |= change
        (dataset / "slides" / f"{name}.json").write_text(json.dumps(sealed(marker)))
    page = read(report(dataset, tmp_path / "page.html"))
    assert "first: the slide file first.tif is no longer where it was" in page.text
    assert "second.tif has another size than when it was cut" in page.text
    alts = [str(picture["alt"]) for picture in page.pictures]
    for name, kinds in (("first", {"after"}), ("second", {"after"}), ("third", {"before", "after"})):
        assert {alt.rpartition(", ")[2] for alt in alts if f"of {name}," in alt} == kinds


def test_reader_that_crashes_costs_one_slide(archive: Path) -> None:
    path = archive / "second.tif"
    source = SlideRecord(str(path), path.stat().st_size)

    def wants(name: str, boxes: list[tuple[int, int, int]]) -> Wanted:
        return Wanted(slide_marker("b", slide=name, source=source, reader="auto"), boxes)

    # consumed in the child only, which it kills
    deadly = cast("list[tuple[int, int, int]]", map(signal.raise_signal, [signal.SIGKILL]))
    wanted = [
        wants("dies", deadly),
        wants("outside", [(4096, 0, 64)]),
        wants("lives", [(0, 0, 64), (64, 0, 128)]),
    ]
    dies, outside, lives = slide_pixels.read(wanted, 64)
    assert "crashed on" in dies.problem
    assert "leaves level 0" in outside.problem
    assert (dies.pictures, outside.pictures, lives.problem) == ([], [], "")
    assert [picture.shape for picture in lives.pictures] == [(64, 64, 3), (64, 64, 3)]

"""A tile is what the slide has at its place, resampled as `pathprep shard` does, and passes the HSV rule."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import flawed, tissue, write_tiff
from helpers.surveyed import survey

import pathprep
from pathprep.errors import UnreadableSlide
from pathprep.kernels.tiling_reference import in_hsv_box, resample
from pathprep.slides.slide import Slide
from pathprep.surveys.folder import Survey
from pathtrain.data.online.slide_reader import Rules, SlideReader

RULES = Rules(seed=4, tile=64, min_tissue=0.4, hsv=0.3, tries=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(survey(tmp_path_factory.mktemp("reader")))


def read(made: Survey, rules: Rules = RULES) -> SlideReader:
    return SlideReader(made.root, made.contents, rules)


@pytest.mark.parametrize("mpp", [0.5, 0.7, 1.0, 2.0])
def test_pixels_are_the_slides_at_that_place(made: Survey, mpp: float) -> None:
    reader, out = read(made), np.empty((64, 64, 3), np.uint8)
    for position in range(6):
        drawn = reader.draw("c", mpp, position, 0, out)
        with Slide(made.slides["c"].path) as slide:
            downsample = slide.levels[drawn.level].downsample * drawn.by
            box = [round(value / downsample) for value in (drawn.x, drawn.y, drawn.side, drawn.side)]
            whole = slide.read(drawn.level, *box, by=drawn.by)
        assert drawn.by == (2 if mpp == 2.0 else 1)  # half of level 1, which has 1 MPP
        np.testing.assert_array_equal(out, resample(whole, 64))
        assert drawn.hsv == pytest.approx(in_hsv_box(out).mean(), abs=1e-6)
        assert drawn.tissue >= 0.4
        assert drawn.mpp == pytest.approx(mpp, rel=0.01)
        np.testing.assert_array_equal(reader.at(drawn), out)
    reader.close()


def test_a_finer_mpp_than_the_slides_is_enlarged_smoothly(made: Survey) -> None:
    reader, out = read(made), np.empty((64, 64, 3), np.uint8)
    drawn = reader.draw("c", 0.25, 3, 0, out)
    assert (drawn.level, drawn.side) == (0, 32)
    with Slide(made.slides["c"].path) as slide:
        whole = slide.read(0, drawn.x, drawn.y, 32, 32)
    halved = resample(out, 32).astype(int)
    assert np.abs(halved - whole).mean() < 3
    reader.close()


def test_places_are_tried_by_the_hsv_rule(tmp_path: Path) -> None:
    """Brown columns, and others that are no tissue: what is drawn keeps away from them."""
    path = write_tiff(tmp_path / "s.tif", flawed(), mpp=0.5)
    pathprep.survey(path, tmp_path / "survey", workers=1)
    made = Survey(tmp_path / "survey")
    out = np.empty((64, 64, 3), np.uint8)
    strict = read(made, replace(RULES, hsv=0.6, tries=8))
    drawn = [strict.draw("s", 0.5, position, 0, out) for position in range(40)]
    assert sum(each.hsv >= 0.6 for each in drawn) > 30
    assert any(each.tries > 1 for each in drawn)
    any_of_them = read(made, replace(RULES, hsv=0.0))
    loose = [any_of_them.draw("s", 0.5, position, 0, out) for position in range(40)]
    assert {each.tries for each in loose} == {1}
    impossible = read(made, replace(RULES, hsv=1.0, tries=3))
    short = 0
    for position in range(20):
        best = impossible.draw("s", 0.5, position, 0, out)
        # the best's pixels, not the last's
        assert best.hsv == pytest.approx(in_hsv_box(out).mean(), abs=1e-6)
        assert best.tries == 3 or best.hsv == 1
        short += best.hsv < 1
    assert short


def test_the_same_place_in_any_order(made: Survey) -> None:
    out = np.empty((64, 64, 3), np.uint8)
    one, other = read(made), read(made)
    forth = [(one.draw(name, 0.5, p, 0, out), out.copy()) for p in range(5) for name in "abcd"]
    back = [(other.draw(name, 0.5, p, 0, out), out.copy()) for p in range(4, -1, -1) for name in "dcba"]
    for (mine, mine_pixels), (theirs, their_pixels) in zip(forth, reversed(back), strict=True):
        assert mine == theirs
        np.testing.assert_array_equal(mine_pixels, their_pixels)


@pytest.mark.parametrize("change", ["longer", "other ends", "gone", "survey"])
def test_a_slide_that_has_changed_is_refused(made: Survey, tmp_path: Path, change: str) -> None:
    shutil.copytree(made.root.parent / "slides", tmp_path / "slides")
    pathprep.survey(tmp_path / "slides", tmp_path / "survey", workers=1)
    copy = Survey(tmp_path / "survey")
    reader, path = read(copy), tmp_path / "slides" / "a.tif"
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    elif change == "other ends":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif change == "gone":
        path.unlink()
    else:
        (copy.root / "slides" / "a.json").unlink()
    words = {
        "longer": "bytes, .* when it was surveyed",
        "other ends": "first or last bytes have changed",
        "gone": "is not there",
        "survey": "not what it was when the run began",
    }
    with pytest.raises(UnreadableSlide, match=words[change]):
        reader.draw("a", 0.5, 0, 0, np.empty((64, 64, 3), np.uint8))


def test_a_slide_that_was_touched_alone_is_read(made: Survey, tmp_path: Path) -> None:
    shutil.copytree(made.root.parent / "slides", tmp_path / "slides")
    pathprep.survey(tmp_path / "slides", tmp_path / "survey", workers=1)
    (tmp_path / "slides" / "a.tif").touch()
    read(Survey(tmp_path / "survey")).draw("a", 0.5, 0, 0, np.empty((64, 64, 3), np.uint8))


def test_few_slides_are_held_open(made: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathtrain.data.online.slide_reader.OPEN", 2)
    reader, out = read(made), np.empty((64, 64, 3), np.uint8)
    for name in "abcdabcd":
        reader.draw(name, 0.5, 0, 0, out)
        assert len(reader._open) <= 2
    reader.close()


def test_white_where_the_scanner_stored_nothing_is_no_tissue(tmp_path: Path) -> None:
    """A margin of bare glass: no tile of it alone."""
    write_tiff(tmp_path / "s.tif", tissue(500, 500, seed=1, margin=150), mpp=0.5)
    pathprep.survey(tmp_path / "s.tif", tmp_path / "survey", workers=1)
    reader, out = read(Survey(tmp_path / "survey")), np.empty((64, 64, 3), np.uint8)
    for position in range(20):
        reader.draw("s", 0.5, position, 0, out)
        assert out.mean() < 225

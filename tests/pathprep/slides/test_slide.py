"""One interface over both readers: pixels, levels, resolution with its source, errors that name the fix."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from helpers.slides import tissue, write_tiff

from pathprep.errors import MppError, UnreadableSlide
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.readers import choose, open_reader
from pathprep.slides.slide import Slide


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", tissue(700, 900), levels=3)


def test_both_readers_give_the_same_pixels(tiff: Path) -> None:
    cucim, other = open_reader(tiff, "cucim"), open_reader(tiff, "openslide")
    np.testing.assert_allclose(cucim.levels, other.levels)
    for level, x, y in [(0, 0, 0), (0, 241, 17), (1, 33, 50), (2, 3, 9)]:
        np.testing.assert_array_equal(cucim.read(level, x, y, 200, 120), other.read(level, x, y, 200, 120))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "reader", "size", "mpp", "source"),
    [
        ("slides/CMU-1-Small-Region.svs", "tiff", (2220, 2967), 0.499, "aperio.MPP"),
        ("slides/TCGA-CR-7395-01A-01-TS1.svs", "cucim", (4443, 3567), 0.25, "--default-mpp"),
        ("slides/camelyon-dicom.dcm", "openslide", (1152, 700), 28.9685, "dicom metadata"),
        ("cohort/train-00.tif", "tiff", (2048, 2048), 0.5, "TIFF resolution tags"),
    ],
)
def test_real_slides(
    data: Path, name: str, reader: str, size: tuple[int, int], mpp: float, source: str
) -> None:
    with Slide(data / name) as slide, openslide.OpenSlide(data / name) as peer:
        assert (slide.reader, (slide.width, slide.height)) == (reader, size)
        assert slide.mpp(MppRules(default=0.25, high=50.0)) == (pytest.approx(mpp), source)
        theirs = np.asarray(peer.read_region((300, 250), 0, (500, 400)).convert("RGB"))
        np.testing.assert_array_equal(slide.read(0, 300, 250, 500, 400), theirs)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["broken.svs", "truncated.svs"])
def test_bad_slides_are_refused_by_name(data: Path, name: str) -> None:
    with pytest.raises(UnreadableSlide, match=name):
        Slide(data / "bad" / name)


def test_absent_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSlide, match="no such file"):
        Slide(tmp_path / "none.svs")
    (tmp_path / "empty.svs").touch()
    with pytest.raises(UnreadableSlide, match=r"empty\.svs: the file is empty"):
        Slide(tmp_path / "empty.svs")


def test_aperio_mpp_comes_from_the_description(tmp_path: Path) -> None:
    text = "Aperio Image Library v1\r\n300x300 (240x240) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4650"
    path = write_tiff(tmp_path / "a.svs", tissue(300, 300), mpp=None, description=text)
    with Slide(path) as slide:
        assert slide.mpp(MppRules(default=0.25)) == (0.465, "aperio.MPP")


@pytest.mark.parametrize(
    ("mpp", "rules", "message"),
    [
        (None, MppRules(), r"does not state its MPP; give `default_mpp`"),
        (
            352.0,
            MppRules(default=0.25),
            r"352 MPP \(TIFF resolution tags: 28.* per cm\) is outside .* mpp column",
        ),
        (0.001, MppRules(), r"outside 0.05 to 10"),
        ((0.25, 0.5), MppRules(), r"not square \(0.25 x 0.5 MPP.* mpp column"),
        (0.5, MppRules(override=99.0), r"99 MPP \(CSV column\) is outside"),
    ],
)
def test_doubtful_mpp_is_an_error_with_its_fix(
    tmp_path: Path, mpp: float | tuple[float, float] | None, rules: MppRules, message: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(300, 300), mpp=mpp)
    with Slide(path) as slide, pytest.raises(MppError, match=message):
        slide.mpp(rules)


def test_mpp_precedence(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(300, 300), mpp=(0.25, 0.251))
    with Slide(path) as slide:
        assert slide.mpp(MppRules(default=1.0)) == (pytest.approx(0.2505), "TIFF resolution tags")
        assert slide.mpp(MppRules(override=0.3, default=1.0)) == (0.3, "CSV column")


def test_files_that_cucim_gets_wrong_go_to_openslide(tmp_path: Path) -> None:
    path = tmp_path / "deflate.tif"
    tifffile.imwrite(path, tissue(256, 256), photometric="rgb", tile=(256, 256), compression="zlib")
    assert choose(path) == "openslide"
    with pytest.raises(UnreadableSlide, match="reader cucim does not read it .its compression is 8"):
        open_reader(path, "cucim")
    (tmp_path / "text.svs").write_text("no TIFF")
    assert choose(tmp_path / "text.svs") == "openslide"


def test_cucim_after_torch_is_refused_not_hung(tiff: Path) -> None:
    code = "import sys, torch; from pathlib import Path; from pathprep.slides.slide import Slide; "
    code += "Slide(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tiff)], capture_output=True, check=False)
    if b"UsageError" not in done.stderr:  # with a GPU it works
        assert done.returncode == 0
    else:
        assert b"open the first slide before importing torch" in done.stderr


def test_reading_outside_is_an_error_not_a_fill(tiff: Path) -> None:
    with Slide(tiff) as slide:
        with pytest.raises(UnreadableSlide, match="leaves level 0"):
            slide.read(0, 800, 0, 101, 10)
        with pytest.raises(UnreadableSlide, match="leaves level 1"):
            slide.read(1, -1, 0, 10, 10)


@pytest.mark.parametrize("levels", [1, 3])
def test_overview_is_the_area_average(tmp_path: Path, levels: int) -> None:
    pixels = tissue(640, 800)
    path = write_tiff(tmp_path / "a.tif", pixels, levels=levels)
    with Slide(path) as slide:
        small = slide.overview(8.0)
    expected = pixels.reshape(80, 8, 100, 8, 3).mean((1, 3))
    assert small.shape == (80, 100, 3)
    # the levels of this file were made by dropping pixels, so the average is near, not equal
    assert np.abs(small - expected).mean() < (1.5 if levels == 1 else 12)


def test_overview_in_strips_equals_one_piece(monkeypatch: pytest.MonkeyPatch, tiff: Path) -> None:
    with Slide(tiff) as slide:
        whole = slide.overview(3.7)
        monkeypatch.setattr("pathprep.slides.slide.STRIP_PIXELS", 900 * 40)
        np.testing.assert_array_equal(slide.overview(3.7), whole)

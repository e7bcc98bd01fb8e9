"""CZI by Zeiss' own library: pieces where the microscope saw them, colours, resolution; what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue
from pylibCZIrw import czi

import pathprep
from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.readers import choose
from pathprep.slides.readers.czi import CziReader
from pathprep.slides.slide import Slide

PIECES = ((-700, -300), (324, -300), (900, 1200))  # the stage's coordinates may be negative
SIDE = 1024


def pixels() -> np.ndarray:
    return np.asarray(tissue(SIDE, SIDE))


@pytest.fixture(scope="module", params=["uncompressed:", "zstd1:ExplicitLevel=3"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes, as ZEN's library writes them."""
    path = tmp_path_factory.mktemp("czi") / "a.czi"
    with czi.create_czi(str(path), compression_options=request.param) as file:
        for scene, place in enumerate(PIECES):
            bgr = np.ascontiguousarray(pixels()[:, :, ::-1])
            file.write(bgr, location=place, plane={"C": 0, "T": 0, "Z": 0}, scene=scene)
        file.write_metadata(document_name="a", channel_names={0: "TL"}, scale_x=0.22e-6, scale_y=0.22e-6)
    return path


def test_pieces_colours_and_resolution(made: Path) -> None:
    with Slide(made, "czi") as slide:
        assert (slide.width, slide.height) == (900 + 700 + SIDE, 1200 + 300 + SIDE)
        mpp = slide.mpp(MppRules(None, None, 0.05, 10.0))
        assert (mpp.value, mpp.source) == (pytest.approx(0.22), "zeiss metadata")
        first = slide.read(0, 0, 0, 200, 100)
        last = slide.read(0, slide.width - 100, slide.height - 100, 100, 100)
        between = slide.read(0, 0, 1100, 200, 200)
    np.testing.assert_array_equal(first, pixels()[:100, :200])
    np.testing.assert_array_equal(last, pixels()[-100:, -100:])
    assert (between == 255).all()


def test_auto_takes_openslide_where_it_can(made: Path) -> None:
    reader = choose(made)
    assert reader in ("openslide", "czi")
    with Slide(made) as slide:
        assert slide.reader == reader
        assert slide.read(0, 100, 100, 64, 64).std() > 1


def test_a_run_reads_it(made: Path, tmp_path: Path) -> None:
    summary = pathprep.shard(
        made, tmp_path / "dataset", workers=1, forecast=False, reader="czi", min_tissue=0.3
    )
    (marker,) = summary.markers.values()
    assert marker.reader == "czi"
    assert marker.counts["kept"] > 3


def test_without_the_library_the_fix_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    with pytest.raises(UnreadableSlide, match=r"install with the extra czi: pip install 'pathprep\[czi\]'"):
        CziReader(made)


def test_planes_and_channels_are_refused(tmp_path: Path) -> None:
    planes, grey = tmp_path / "planes.czi", tmp_path / "grey.czi"
    with czi.create_czi(str(planes)) as file:
        for z in range(3):
            file.write(np.zeros((64, 64, 3), np.uint8), plane={"C": 0, "Z": z, "T": 0})
    with czi.create_czi(str(grey)) as file:
        for channel in range(2):
            file.write(np.zeros((64, 64, 1), np.uint8), plane={"C": channel, "Z": 0, "T": 0})
    with pytest.raises(UnreadableSlide, match=r"several planes .3 of Z.*export one from ZEN"):
        CziReader(planes)
    with pytest.raises(UnreadableSlide, match=r"its channels are Gray8, Gray8, one of Bgr24 is read"):
        CziReader(grey)


def test_a_damaged_file_says_so(made: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.czi"
    cut.write_bytes(made.read_bytes()[:20_000])
    with pytest.raises(UnreadableSlide, match=r"cut\.czi: "):
        Slide(cut).read(0, 0, 0, 64, 64)


@pytest.mark.realdata
def test_a_file_of_a_microscope_that_openslide_refuses(data: Path) -> None:
    """It has a dimension T, which OpenSlide does not know."""
    path = data / "formats" / "real" / "RGB-8bit.czi"
    with Slide(path) as slide:
        assert (slide.reader, slide.width, slide.height) == ("czi", 924, 624)
        assert slide.mpp(MppRules(None, None, 0.05, 10.0)).value == pytest.approx(1.08333, 1e-4)
        assert slide.read(0, 0, 0, 924, 624).std() > 5

"""Inputs of public bug reports on drawing patches from slides, each as its reporter met it.

- histolab#193: random tiles gather on the slide's border
- histolab#295: their corners lie on a grid, that of the thumbnail's pixels
- histolab#238: at level 1 some come 127 x 129 px instead of 128 x 128
- histolab#611: with a high share of tissue they gather at its top
- pathml#240, tiatoolbox#105: places of a level are taken for those of level 0
- wsinfer#141, tiffslide#27: past the edge come black, white or fewer pixels
- slideflow#269, tiatoolbox#628: no MPP, or one in another place, in tens of a run's slides
"""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import Pixels, tissue, write_tiff

import pathprep
from pathprep.kernels.tiling_reference import resample
from pathprep.surveys.folder import Survey
from pathtrain.data.online.slide_reader import Drawn, Rules, SlideReader

RULES = Rules(seed=2, tile=128, min_tissue=0.8, hsv=0.0, tries=1)


def coded(height: int, width: int) -> Pixels:
    """Pixels that say where they are: red across, green down; all of it tissue by its saturation."""
    y, x = np.mgrid[:height, :width]
    shades = [40 + 200 * x / width, 40 + 200 * y / height, np.full(x.shape, 20)]
    return np.stack(shades, -1).astype(np.uint8)


def drawn(path: Path, count: int, mpp: float, rules: Rules = RULES) -> list[tuple[Drawn, Pixels]]:
    """Tiles of a slide, surveyed beside it."""
    root = path.parent / "survey"
    pathprep.survey(path, root, workers=1)
    survey = Survey(root)
    reader, out = SlideReader(root, survey.contents, rules), np.empty((rules.tile, rules.tile, 3), np.uint8)
    try:
        found = [(reader.draw(path.stem, mpp, p, 0, out), out.copy()) for p in range(count)]
    finally:
        reader.close()
    return found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Drawn, Pixels]]:
    """300 tiles of a slide that is tissue but for a margin, at a level of its own whose size was rounded."""
    pixels = tissue(2051, 3003, seed=4, margin=200)
    path = write_tiff(tmp_path_factory.mktemp("big") / "s.tif", pixels, levels=3, mpp=0.25)
    return drawn(path, 300, 0.5)


def test_not_on_the_border(big: list[tuple[Drawn, Pixels]]) -> None:
    x, y = (np.array([getattr(each, axis) for each, _ in big]) for axis in "xy")
    side = big[0][0].side
    assert np.mean((x < 20) | (y < 20) | (x + side > 2983) | (y + side > 2031)) < 0.02


def test_not_on_a_grid(big: list[tuple[Drawn, Pixels]]) -> None:
    """Corners fall on all pixels of the level that is read (2 of level 0), not on those of an overview."""
    for axis in "xy":
        rest = np.array([getattr(each, axis) for each, _ in big]) // 2 % 16
        assert np.bincount(rest, minlength=16).min() > 4


def test_not_at_the_top_of_the_tissue(big: list[tuple[Drawn, Pixels]]) -> None:
    y = np.array([each.y for each, _ in big])
    thirds = np.histogram(y, [150, 600, 1150, 1700])[0] / len(y)
    assert thirds.min() > 0.15


def test_each_has_its_size_and_its_tissue(big: list[tuple[Drawn, Pixels]]) -> None:
    assert {each.level for each, _ in big} == {1}
    assert {pixels.shape for _, pixels in big} == {(128, 128, 3)}
    assert {each.side for each, _ in big} == {256}
    assert min(each.tissue for each, _ in big) >= 0.8


@pytest.mark.parametrize(("mpp", "level"), [(0.25, 0), (0.5, 1), (1.0, 2)])
def test_a_place_is_of_level_0_at_each_level(tmp_path: Path, mpp: float, level: int) -> None:
    whole = coded(1200, 1600)
    path = write_tiff(tmp_path / "s.tif", whole, levels=3, mpp=0.25)
    for each, pixels in drawn(path, 8, mpp):
        assert each.level == level
        expected = resample(np.ascontiguousarray(whole[each.y :, each.x :][: each.side, : each.side]), 128)
        assert np.abs(pixels.astype(int) - expected).mean() < 6  # JPEG, and levels that were only subsampled


def test_nothing_from_past_the_edge(tmp_path: Path) -> None:
    """A slide hardly larger than its tile, with an odd size at every level: no black, no white."""
    path = write_tiff(tmp_path / "s.tif", coded(515, 517), levels=3, mpp=0.25)
    for mpp in (0.25, 0.5, 1.0):
        for _, pixels in drawn(path, 20, mpp):
            assert pixels.shape == (128, 128, 3)
            assert pixels[..., :2].min() > 20
            assert pixels[..., 2].max() < 80


def test_an_mpp_that_is_missing_or_elsewhere(tmp_path: Path) -> None:
    """One slide states none, one has it in Aperio's text alone, one is a CSV's: the first is named."""
    texts = {"none": None, "aperio": "Aperio Image\n|AppMag = 20|MPP = 0.5", "csv": None}
    for seed, (name, text) in enumerate(texts.items()):
        write_tiff(tmp_path / f"{name}.svs", tissue(500, 500, seed), mpp=None, description=text)
    listed = tmp_path / "slides.csv"
    listed.write_text("slide,mpp\nnone.svs,\naperio.svs,\ncsv.svs,0.25\n")
    done = pathprep.survey(listed, tmp_path / "survey", workers=1)
    assert {name: slide.mpp for name, slide in done.made.items()} == {"aperio": 0.5, "csv": 0.25}
    assert "does not state its MPP; give" in done.failures["none"].error

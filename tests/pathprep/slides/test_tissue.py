"""Tissue detection, and the share of tissue per grid cell."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue as tissue_pixels
from skimage import filters

from pathprep.params.tissue import TissueParams
from pathprep.slides import tissue
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.slide import Slide


def test_finds_the_piece_of_tissue_and_its_hole() -> None:
    pixels = tissue_pixels(400, 500, margin=80)
    pixels[180:230, 200:260] = 242
    mask = tissue.segment(pixels, 8.0, TissueParams()).mask
    truth = np.zeros((400, 500), bool)
    truth[80:-80, 80:-80] = True
    truth[180:230, 200:260] = False
    overlap = (mask & truth).sum() / (mask | truth).sum()
    assert overlap > 0.95


@pytest.mark.parametrize("side", [1, 3, 4, 7])
@pytest.mark.parametrize("shape", [(50, 61), (3, 5), (7, 7), (1, 9)])
def test_counting_finds_what_a_median_filter_finds(shape: tuple[int, int], side: int) -> None:
    values = np.random.default_rng(0).integers(0, 20, shape).astype(np.uint8)
    smooth = filters.rank.median(values, np.ones((side, side), np.uint8))
    for threshold in (0, 8, 12):
        np.testing.assert_array_equal(tissue.median_above(values, threshold, side), smooth > threshold)


@pytest.mark.parametrize("glass", [(245, 232, 238), (232, 238, 245), (240, 240, 225)])
def test_coloured_glass_is_not_tissue(glass: tuple[int, int, int]) -> None:
    pixels = tissue_pixels(400, 500, margin=80)
    cast = (pixels * (np.array(glass) / 242)).clip(0, 255).astype(np.uint8)
    plain = tissue.segment(pixels, 8.0, TissueParams()).mask
    mask = tissue.segment(cast, 8.0, TissueParams()).mask
    assert (mask & plain).sum() / (mask | plain).sum() > 0.97


def test_pale_tissue_that_fills_the_view_stays_tissue() -> None:
    rng = np.random.default_rng(0)
    pale = np.clip(np.array([238, 212, 230]) + rng.normal(0, 4, (300, 300, 3)), 0, 255).astype(np.uint8)
    assert tissue.segment(pale, 8.0, TissueParams()).mask.mean() > 0.95


def test_small_pieces_go_and_small_holes_close() -> None:
    pixels = np.full((300, 300, 3), 242, np.uint8)
    pixels[50:150, 50:150] = (200, 120, 170)
    pixels[200:208, 200:208] = (200, 120, 170)  # 8 x 8 px of 8 um: under one tile's area
    pixels[95:102, 95:102] = 242  # a small hole
    found = tissue.segment(pixels, 8.0, TissueParams(median=1))
    mask = found.mask
    assert found.pieces == 1
    assert found.small[204, 204]
    assert not (found.small & mask).any()
    whole = tissue.segment(pixels, 8.0, TissueParams(median=1, min_piece=1000)).mask
    assert whole[204, 204]
    assert mask[98, 98]
    assert not mask[204, 204]
    assert mask[50:150, 50:150].all()


def test_otsu_and_an_all_white_slide() -> None:
    pixels = tissue_pixels(300, 300, margin=60)
    mask = tissue.segment(pixels, 8.0, TissueParams(method="otsu")).mask
    assert 0.2 < mask.mean() < 0.45
    white = np.full((100, 100, 3), 255, np.uint8)
    for method in ("threshold", "otsu"):
        assert not tissue.segment(white, 8.0, TissueParams(method=method)).mask.any()


def test_a_small_slide_is_searched_at_the_scale_of_a_large_one() -> None:
    pixels = tissue_pixels(1024, 1024, margin=200)
    picture, scale = tissue.search_picture(pixels, 1024, 1024, 0.25)
    assert picture.shape == (32, 32, 3)
    assert scale == 8.0
    # 8 mm and more: the overview as it is, to the bit
    for width, height in ((32768, 100), (40001, 32003), (1000, 32768)):
        downsample = tissue.overview_downsample(width, height, 0.25)
        overview = np.zeros((max(1, round(height / downsample)), round(width / downsample), 3), np.uint8)
        assert tissue.search_picture(overview, width, height, 0.25)[0] is overview
    # coarser than that already
    assert tissue.search_picture(pixels[:64, :64], 64, 64, 10.0)[1] == 10.0


def test_a_piece_that_is_most_of_a_small_slide_stays() -> None:
    pixels = np.full((32, 32, 3), 242, np.uint8)  # 256 um
    pixels[10:22, 10:22] = (200, 120, 170)  # 96 x 96 um
    assert tissue.segment(pixels, 8.0, TissueParams()).mask[16, 16]
    large = np.pad(pixels, ((0, 200), (0, 200), (0, 0)), mode="edge")
    found = tissue.segment(large, 8.0, TissueParams())
    assert not found.mask.any()
    assert found.pieces == 1


def test_pale_stroma_with_nuclei_and_no_glass_in_view_is_tissue() -> None:
    """IHC: stroma hardly coloured (236, 235, 233), blue nuclei of 8 um on a quarter of it."""
    rng = np.random.default_rng(2)
    nuclei = rng.random((80, 80, 1)) < 0.25
    pixels = np.where(nuclei, (165, 195, 222), (236, 235, 233)) + rng.normal(0, 1, (80, 80, 3))
    assert tissue.segment(pixels.astype(np.uint8), 8.0, TissueParams()).mask.mean() > 0.95


def test_enlarged_masks_keep_their_places() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    large = tissue.enlarged(mask, (30, 41))
    assert large.shape == (30, 41)
    assert large[15, 25]
    assert large.mean() == pytest.approx(1 / 12, abs=0.01)
    assert tissue.enlarged(mask, (3, 4)) is mask


@pytest.mark.parametrize("radius", [150, 240, 400])
def test_the_edge_of_tissue_on_a_small_slide_is_that_of_its_overview(radius: int) -> None:
    """A disc of 110 to 300 um, overview of 0.75 um/px: at 8 um/px alone it would be up to 8 % too large."""
    rows, columns = np.ogrid[:1000, :1000]
    disc = (rows - 500) ** 2 + (columns - 500) ** 2 <= radius**2
    pixels = np.where(disc[:, :, None], tissue_pixels(1000, 1000, margin=0), np.uint8(242)).astype(np.uint8)
    found = tissue.segment(*tissue.search_picture(pixels, 1000, 1000, 0.75), TissueParams())
    mask = tissue.on(pixels, found, TissueParams())
    assert mask.shape == disc.shape
    assert abs(mask.mean() / disc.mean() - 1) < 0.02
    assert (mask != disc).sum() / disc.sum() < 0.04


def test_without_glass_in_view_the_edge_is_as_it_was_found() -> None:
    rng = np.random.default_rng(2)
    nuclei = np.kron(rng.random((80, 80)) < 0.25, np.ones((8, 8), bool))[:, :, None]
    pixels = np.where(nuclei, (165, 195, 222), (236, 235, 233)) + rng.normal(0, 1, (640, 640, 1))
    picture, scale = tissue.search_picture(pixels.astype(np.uint8), 640, 640, 1.0)
    found = tissue.segment(picture, scale, TissueParams())
    assert found.glass is None
    mask = tissue.on(pixels.astype(np.uint8), found, TissueParams())
    np.testing.assert_array_equal(mask, tissue.enlarged(found.mask, (640, 640)))


@pytest.mark.realdata
def test_real_slides(data: Path) -> None:
    shares = {"slides/CMU-1-Small-Region.svs": (0.3, 0.5), "slides/TCGA-CR-7395-01A-01-TS1.svs": (0.55, 0.75)}
    for path in sorted((data / "slides" / "monuseg").glob("*.tif")):
        shares[str(path.relative_to(data))] = (0.9, 1.0)  # fields within tissue
    for name, (low, high) in shares.items():
        with Slide(data / name) as slide:
            mpp = slide.mpp(MppRules(default=0.25)).value
            downsample = tissue.overview_downsample(slide.width, slide.height, mpp)
            picture = tissue.search_picture(slide.overview(downsample), slide.width, slide.height, mpp)
            mask = tissue.segment(*picture, TissueParams()).mask
        assert low < mask.mean() <= high, name


def test_fractions_equal_counting_every_pixel() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((37, 53)) < 0.5
    width, height, side, stride = 53 * 7 + 3, 37 * 7 + 5, 61, 50
    columns, rows = (width - side) // stride + 1, (height - side) // stride + 1
    share = tissue.fractions(mask, width, height, columns, rows, side, stride)
    fine = 20  # the mask drawn 20 times larger; cells cut from it
    big = np.kron(mask, np.ones((fine, fine)))
    sx, sy = 53 * fine / width, 37 * fine / height
    for row in range(rows):
        for column in range(columns):
            x, y = column * stride, row * stride
            cell = big[round(y * sy) : round((y + side) * sy), round(x * sx) : round((x + side) * sx)]
            assert share[row, column] == pytest.approx(cell.mean(), abs=0.02)


def test_fractions_of_full_and_empty_masks_are_exact() -> None:
    for value in (0, 1):
        share = tissue.fractions(np.full((40, 50), bool(value)), 1003, 807, 7, 6, 128, 128)
        np.testing.assert_allclose(share, value, atol=1e-12)

"""Tissue detection, and the share of tissue per grid cell."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue as tissue_pixels
from scipy import ndimage
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


def _on_glass(paint: np.ndarray, glass: tuple[float, ...] = (242, 242, 242)) -> np.ndarray:
    """400 x 400 px of 8 um: a field of paint (200, 200, 3) on glass, with a scanner's noise."""
    pixels = np.empty((400, 400, 3))
    pixels[:] = glass
    pixels[100:300, 100:300] = paint
    noise = np.random.default_rng(3).normal(0, 1.0, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


TRUTH = np.zeros((400, 400), bool)
TRUTH[100:300, 100:300] = True


def _recall_and_precision(pixels: np.ndarray, params: TissueParams) -> tuple[float, float]:
    mask = tissue.segment(pixels, 8.0, params).mask
    return float((mask & TRUTH).sum() / TRUTH.sum()), float((mask & TRUTH).sum() / max(1, mask.sum()))


def _fat(stain: tuple[int, int, int]) -> np.ndarray:
    """Fat cells of 48 um: walls a pixel wide, of one colour; between them it is as bright as glass."""
    walls = np.zeros((200, 200), bool)
    walls[::6] = walls[:, ::6] = True
    return np.where(walls[:, :, None], np.array(stain), 242)


def test_fat_is_tissue() -> None:
    """choosehappy/HistoQC#121, mahmoodlab/CLAM#116: fat and pale parts are missed, holes everywhere.

    The mean colour is about (230, 223, 229): a median of the saturation is that of glass.
    """
    pixels = _on_glass(_fat((206, 182, 202)))
    assert np.abs(pixels[110:290, 110:290].mean((0, 1)) - (230, 223, 229)).max() < 3
    recall, precision = _recall_and_precision(pixels, TissueParams())
    assert recall > 0.97
    assert precision > 0.97
    assert _recall_and_precision(pixels, TissueParams("threshold"))[0] < 0.2


@pytest.mark.parametrize("glass", [(242, 242, 242), (226, 232, 246), (199, 205, 210)])
def test_negative_tissue_beside_dark_ihc_is_tissue(glass: tuple[int, int, int]) -> None:
    """mahmoodlab/CLAM#43, PyHIST#21: a threshold between dark DAB and glass loses the rest."""
    paint = np.full((200, 200, 3), (229, 233, 238)) * (np.array(glass) / 242)  # faint haematoxylin
    paint[20:80, 20:80] = (110, 70, 45)
    pixels = _on_glass(paint, glass)
    recall, precision = _recall_and_precision(pixels, TissueParams())
    assert recall > 0.97
    assert precision > 0.97
    assert _recall_and_precision(pixels, TissueParams("otsu"))[0] < 0.2


def test_the_black_frame_of_a_slide_is_not_tissue() -> None:
    """clemsgrs/hs2p#14: black rings and frames, whose saturation is noise, are taken for tissue."""
    pixels = _on_glass(np.full((200, 200, 3), (205, 150, 190)))
    rng = np.random.default_rng(1)
    pixels[:30] = rng.integers(2, 12, (30, 400, 3))
    rows, columns = np.ogrid[:400, :400]
    ring = np.abs(np.hypot(rows - 350, columns - 200) - 35) < 5
    pixels[ring] = rng.integers(2, 12, (int(ring.sum()), 3))
    recall, precision = _recall_and_precision(pixels, TissueParams())
    assert recall > 0.99
    assert precision > 0.97
    assert _recall_and_precision(pixels, TissueParams("threshold"))[1] < 0.8


def test_an_eosin_that_has_bled_into_the_mountant_is_glass() -> None:
    """A glow as coloured as pale tissue on one side of the piece, smooth over a millimetre."""
    rows, columns = np.mgrid[:400, :400]
    glow = 22 * np.exp(-(((rows - 200) / 140) ** 2) - ((columns - 330) / 110) ** 2)
    glass = np.stack([242 - 0.1 * glow, 242 - glow, 242 - 0.4 * glow], -1)
    pixels = _on_glass(np.full((200, 200, 3), (190, 130, 180)))
    pixels[~TRUTH] = (glass + np.random.default_rng(0).normal(0, 0.8, glass.shape))[~TRUTH].astype(np.uint8)
    recall, precision = _recall_and_precision(pixels, TissueParams())
    assert recall > 0.98
    assert precision > 0.95
    assert _recall_and_precision(pixels, TissueParams("threshold"))[1] < 0.85


def test_the_closing_is_scipys_and_counts_the_border_as_going_on() -> None:
    rng = np.random.default_rng(0)
    for side in (1, 2, 4, 9):
        mask = rng.random((60, 71)) < 0.2
        padded = np.pad(mask, side, mode="edge")
        wanted = ndimage.binary_closing(padded, np.ones((side, side), bool))
        np.testing.assert_array_equal(
            tissue._closed(mask, side), wanted[side:-side, side:-side] if side > 1 else mask
        )


def test_means_are_those_of_the_part_in_view() -> None:
    values = np.random.default_rng(0).integers(0, 20, (300, 41)).astype(np.uint8)
    for side in (3, 7):
        half = side // 2
        wanted = [
            values[max(0, r - half) : r + half + 1, max(0, c - half) : c + half + 1].mean() > 9.7
            for r, c in np.ndindex(values.shape)
        ]
        np.testing.assert_array_equal(tissue.mean_above(values, 9.7, side).ravel(), wanted)


def test_the_former_default_is_the_threshold_with_its_build_id() -> None:
    assert TissueParams("threshold").as_dict() == {
        "method": "threshold", "threshold": 8, "median": 7, "closing": 4, "min_piece": None,
        "max_hole": 4096.0,
    }  # fmt: skip
    assert TissueParams(threshold=5, closing=9).as_dict() == TissueParams().as_dict()

"""Glass of any tint and brightness, without a cliff behind which everything is tissue."""

import numpy as np
import pytest
from helpers.slides import tissue as tissue_pixels

from pathprep.params.tissue import TissueParams
from pathprep.slides import tissue
from pathprep.slides.glass import glass_colour

PLAIN = tissue_pixels(160, 200, margin=40)
SHARE = float(tissue.segment(PLAIN, 8.0, TissueParams()).mask.mean())


def share_on(glass: tuple[float, float, float]) -> float:
    """Share of tissue with the light of this glass, and a scanner's noise."""
    noise = np.random.default_rng(0).normal(0, 1.0, (*PLAIN.shape[:2], 1))
    pixels = np.clip(PLAIN / 242 * np.array(glass) + noise, 0, 255).astype(np.uint8)
    return float(tissue.segment(pixels, 8.0, TissueParams()).mask.mean())


HUES = {
    "blue": (1, 0.6, 0),
    "yellow": (0, 0.3, 1),
    "green": (1, 0, 0.8),
    "pink": (0, 1, 0.4),
    "grey": (0, 0, 0),
}


@pytest.mark.parametrize("hue", HUES)
def test_the_share_of_tissue_is_continuous_as_a_tint_grows(hue: str) -> None:
    # 0 to 60 grey levels in the most absorbed channel; a saturation of 20 used to be the cliff
    shares = [share_on(tuple(245 - tint * part for part in HUES[hue])) for tint in range(0, 61, 4)]
    assert np.abs(np.diff(shares)).max() < 0.02
    assert np.abs(np.array(shares) - SHARE).max() < 0.05


def test_the_share_of_tissue_is_continuous_as_glass_darkens() -> None:
    shares = [share_on((light, light, light)) for light in range(254, 149, -7)]
    assert np.abs(np.diff(shares)).max() < 0.02
    assert np.abs(np.array(shares) - SHARE).max() < 0.05


@pytest.mark.parametrize("glass", [(243, 243, 243), (226, 232, 246), (250, 240, 225), (199, 205, 210)])
def test_bare_glass_alone_has_its_colour(glass: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).normal(0, 1.2, (60, 60, 1))
    bare = np.clip(np.array(glass) + noise, 0, 255).astype(np.uint8)
    found = glass_colour(bare)
    assert found is not None
    assert np.abs(found - glass).max() <= 4
    assert not tissue.segment(bare, 8.0, TissueParams()).mask.any()


def test_no_glass_in_pale_tissue() -> None:
    rng = np.random.default_rng(0)
    pale = np.clip(np.array([238, 212, 230]) + rng.normal(0, 4, (100, 100, 3)), 0, 255).astype(np.uint8)
    assert glass_colour(pale) is None
    # so even that it is one colour: on glass there would be something
    assert glass_colour(np.full((100, 100, 3), (238, 212, 230), np.uint8)) is None


def test_bare_glass_that_is_a_little_pink_is_glass() -> None:
    assert glass_colour(np.full((60, 60, 3), (239, 222, 234), np.uint8)) is not None


def test_no_glass_in_the_dark() -> None:
    assert glass_colour(np.full((50, 50, 3), 20, np.uint8)) is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (2, 2, 3)])
def test_views_of_a_few_pixels(shape: tuple[int, int, int]) -> None:
    found = glass_colour(np.full(shape, 240, np.uint8))
    assert found is not None
    assert found.tolist() == [240, 240, 240]

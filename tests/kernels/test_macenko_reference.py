from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from pathprep.kernels import macenko_reference as reference

Tile = npt.NDArray[np.uint8]

TARGET_HE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
TARGET_MAX_C = np.array([1.9705, 1.0308])


def assert_equals_torchstain(tile: Tile, alpha: float = 1.0, beta: float = 0.15) -> None:
    found = reference.fit(tile, alpha=alpha, beta=beta)
    assert found.fitted
    theirs = NumpyMacenkoNormalizer()
    theirs.fit(tile, alpha=alpha, beta=beta)
    np.testing.assert_allclose(found.he, theirs.HERef, atol=1e-9)
    np.testing.assert_allclose(found.max_c, theirs.maxCRef, rtol=1e-9)
    matrix = reference.matrix(found.he, found.max_c, TARGET_HE, TARGET_MAX_C)
    expected, _, _ = NumpyMacenkoNormalizer().normalize(tile, alpha=alpha, beta=beta, stains=False)
    ours = reference.apply(tile, matrix).astype(int)
    assert np.abs(ours - expected).max() <= 1  # float64 rounding at a truncation


@pytest.mark.parametrize("options", [{}, {"alpha": 5.0}, {"beta": 0.3}])
def test_equals_torchstain(stained: Tile, options: dict[str, Any]) -> None:
    for tile in stained:
        assert_equals_torchstain(tile, **options)


def test_finds_the_stains_that_made_the_tile(stained: Tile) -> None:
    from_paint = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])
    from_paint /= np.linalg.norm(from_paint, axis=0)
    found = reference.fit(stained[0])
    cosines = (found.he * from_paint).sum(axis=0)
    assert np.degrees(np.arccos(cosines)).max() < 4.0


def test_keep_any_takes_pixels_that_one_channel_absorbs(stained: Tile) -> None:
    some = reference.fit(stained[1], keep_any=True)
    every = reference.fit(stained[1], keep_any=False)
    od = reference.optical_density(stained[1])
    assert some.tissue_pixels == (od >= 0.15).any(axis=2).sum()
    assert every.tissue_pixels == (od >= 0.15).all(axis=2).sum()


def test_identity_copies_although_the_formula_adds_a_level(stained: Tile) -> None:
    np.testing.assert_array_equal(reference.apply(stained[0], np.eye(3)), stained[0])
    almost = reference.apply(stained[0], np.eye(3) * (1 + 1e-12))
    assert (almost.astype(int) - stained[0]).max() == 1


@pytest.mark.realdata
def test_equals_torchstain_on_real_tiles(data: Path) -> None:
    from openslide import OpenSlide

    for path in sorted((data / "slides" / "monuseg").glob("*.tif")):
        with OpenSlide(path) as slide:
            assert_equals_torchstain(np.array(slide.read_region((100, 300), 0, (256, 256)).convert("RGB")))

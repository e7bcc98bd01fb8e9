"""Each perturbation does what its strength says, the same for every strength of a tile, and nothing at 0."""

import numpy as np
import numpy.typing as npt
import pytest
from helpers.slides import tissue
from scipy.ndimage import gaussian_filter

from pathprep.kernels.macenko_reference import optical_density
from pathtrain.evaluate.shifts.perturb_kinds import Given, centre, perturbed, stains_of
from pathtrain.params.perturbation import STRENGTHS

TILE = np.ascontiguousarray(tissue(96, 96, seed=3))
FIT, OWN = stains_of(TILE)


def given(seed: int = 0, mpp: float = 0.5) -> Given:
    return Given(np.random.default_rng(seed), FIT, mpp)


def change(
    kind: str, strength: float, seed: int = 0, tile: npt.NDArray[np.uint8] = TILE
) -> npt.NDArray[np.uint8]:
    return perturbed(tile, kind, strength, given(seed))


def density(tile: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(P, 2) amounts of the tile's two stains, of pixels that are not clipped."""
    return optical_density(tile).reshape(-1, 3) @ np.linalg.pinv(FIT.he[0]).T


@pytest.mark.parametrize("kind", STRENGTHS)
def test_nothing_at_strength_0_and_the_same_again(kind: str) -> None:
    assert OWN
    assert change(kind, 0) is TILE
    strength = STRENGTHS[kind][0]
    first = change(kind, strength, seed=5)
    np.testing.assert_array_equal(first, change(kind, strength, seed=5))
    assert first.dtype == np.uint8
    assert first.shape != TILE.shape or (first != TILE).any()


@pytest.mark.parametrize("kind", ["stain", "shift", "light", "gamma", "blur", "jpeg", "noise", "cast"])
def test_more_strength_changes_more(kind: str) -> None:
    far = [np.abs(change(kind, s, seed=1).astype(float) - TILE).mean() for s in STRENGTHS[kind]]
    assert far == sorted(far)
    assert far[-1] > 1.2 * far[0]


def test_amounts_of_stain_change_by_the_share() -> None:
    tissue_only = (TILE < 200).all(axis=2).ravel()
    for seed in range(4):
        before, after = (density(each)[tissue_only] for each in (TILE, change("stain", 0.1, seed)))
        share = np.median(after / before, axis=0) - 1
        assert np.sqrt((share**2).mean()) == pytest.approx(0.1, abs=0.02)


def test_a_shift_is_the_same_density_everywhere() -> None:
    for seed in range(4):
        moved = density(change("shift", 0.1, seed)) - density(TILE)
        inside = np.median(moved, axis=0)
        assert np.sqrt((inside**2).mean()) == pytest.approx(0.1, abs=0.02)


def test_stain_vectors_turn_by_the_angle() -> None:
    """A tile of one stain alone, of which each pixel's density is along its vector."""
    for column in (0, 1):
        amounts = np.linspace(0.3, 1.2, 64)[:, None] * FIT.he[0][:, column]
        tile = np.repeat(np.clip(240 * np.exp(-amounts) - 1, 0, 255)[:, None], 64, axis=1).astype(np.uint8)
        found = optical_density(change("cast", 10, seed=2, tile=tile))[:, 0].mean(axis=0)
        was = optical_density(tile)[:, 0].mean(axis=0)
        cosine = found @ was / np.linalg.norm(found) / np.linalg.norm(was)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(10, abs=1.0)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(was), rel=0.05)


def test_light_and_gamma_are_of_the_levels() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert {int(change("light", 0.2, seed, grey)[0, 0, 0]) for seed in range(8)} == {80, 120}
    expected = {round(255 * (100 / 255) ** np.exp(sign * 0.4)) for sign in (-1, 1)}
    assert {int(change("gamma", 0.4, seed, grey)[0, 0, 0]) for seed in range(8)} == expected
    assert change("light", 0.2, 0, np.full((8, 8, 3), 250, np.uint8)).max() <= 255


def test_blur_is_in_micrometres() -> None:
    for mpp in (0.25, 0.5):
        found = perturbed(TILE, "blur", 1.0, given(mpp=mpp)).astype(float)
        expected = gaussian_filter(TILE.astype(float), (1 / mpp, 1 / mpp, 0), mode="mirror", truncate=3)
        assert np.abs(found - expected).max() < 1.5
    wide = np.ascontiguousarray(TILE[:50, :77])  # of no side that the kernel likes
    found = perturbed(wide, "blur", 0.5, given()).astype(float)
    assert (
        np.abs(found - gaussian_filter(wide.astype(float), (1, 1, 0), mode="mirror", truncate=3)).max() < 1.5
    )


def test_noise_and_mpp() -> None:
    grey = np.full((128, 128, 3), 120, np.uint8)
    noise = change("noise", 5, 0, grey).astype(float) - 120
    assert noise.std() == pytest.approx(5, rel=0.05)
    assert abs(noise.mean()) < 0.1
    assert change("mpp", 0.8).shape == (61, 61, 3)  # 64 % of 96 px
    assert change("mpp", 1.25).shape == TILE.shape
    np.testing.assert_array_equal(centre(TILE, 0.5), TILE[24:72, 24:72])


def test_tiles_without_stain_take_the_references() -> None:
    fit, own = stains_of(np.full((32, 32, 3), 245, np.uint8))
    assert not own
    assert fit.he.shape == (1, 3, 2)
    white = np.full((32, 32, 3), 245, np.uint8)
    np.testing.assert_array_equal(
        perturbed(white, "stain", 0.05, Given(np.random.default_rng(0), fit, None)).shape, (32, 32, 3)
    )

"""Fits that would spoil a tile are not fits: one stain alone, a background without light."""

import numpy as np
import pytest

from pathprep import stain
from pathprep.kernels import macenko_cpu
from pathprep.stain import Status, Target, plausible

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
HE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def nuclei(noise: float, seed: int = 0) -> np.ndarray:
    """Haematoxylin alone on a fifth of white glass."""
    rng = np.random.default_rng(seed)
    amounts = np.where(rng.random((128, 128, 1)) < 0.2, rng.uniform(0.3, 1.5, (128, 128, 1)), 0.0)
    grey = 255 * np.exp(-amounts * HAEMATOXYLIN) + rng.normal(0, noise, (128, 128, 3))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def fluorescence() -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 12, (128, 128, 3))
    pixels[:, :, 1] += rng.integers(0, 15, (128, 128))
    pixels[40:80, 40:80, 2] += rng.integers(50, 180, (40, 40))
    return pixels.astype(np.uint8)


def both(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma([0.8, 2.0], [0.7, 0.35], (128, 128, 2))
    amounts[:40] *= 0.02
    return (250 * np.exp(-amounts @ HE)).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.5, 1, 2, 3, 4, 6])
def test_nuclei_alone_are_no_pair_of_stains_or_leave_glass_white(noise: float) -> None:
    tile = nuclei(noise)
    painted = stain.normalize(tile[None])[0]
    assert painted[tile.min(2) > 245].mean(0).min() > 220


@pytest.mark.parametrize("degrees", [8, 10])
def test_a_fit_that_paints_glass_is_refused(degrees: float) -> None:
    # one stain, split along what is grey in it: beyond the least angle
    one = HAEMATOXYLIN / np.linalg.norm(HAEMATOXYLIN)
    aside = 1 - (one.sum()) * one
    aside /= np.linalg.norm(aside)
    turn = np.radians(degrees / 2)
    he = np.stack([np.cos(turn) * one - np.sin(turn) * aside, np.cos(turn) * one + np.sin(turn) * aside], 1)
    max_c, tiles = np.array([[0.8, 1.6]]), [both()[None]]
    white = np.full((1, 1, 1, 3), 255, np.uint8)
    fits = stain.StainFit(he[None], max_c, np.ones(1, np.int64), np.zeros(1, np.uint8))
    painted = stain.apply(white, stain.matrix(fits, Target.default()))
    assert painted.min() < 225
    assert plausible.refused(np, tiles, he[None], max_c, 240.0).all()
    ordinary = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])
    ordinary = ordinary / np.linalg.norm(ordinary, axis=0)
    assert not plausible.refused(np, tiles, ordinary[None], np.array([[1.9, 1.0]]), 240.0).any()


def test_a_dark_background_is_not_fitted() -> None:
    tiles = np.stack([fluorescence(), both()])
    assert macenko_cpu.fit(tiles)[3].all()  # the kernels alone would
    assert stain.fit(tiles).status.tolist() == [Status.UNFITTED, Status.FITTED]
    np.testing.assert_array_equal(stain.normalize(tiles)[0], tiles[0])
    # half as much light is still light
    half = (both() * 0.5).astype(np.uint8)
    assert stain.fit(half[None], io=120).status.tolist() == [Status.FITTED]


def test_one_call_and_three_agree_on_what_is_refused() -> None:
    tiles = np.stack([fluorescence(), both(1), nuclei(2.0), nuclei(0.5), both(2)])
    expected = stain.apply(tiles, stain.matrix(stain.fit(tiles), Target.default()))
    np.testing.assert_array_equal(stain.normalize(tiles), expected)
    for one, other in zip(stain.normalize(list(tiles)), expected, strict=True):
        np.testing.assert_array_equal(one, other)

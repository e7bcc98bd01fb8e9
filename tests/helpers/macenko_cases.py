"""Tiles that are hard for Macenko, and what a fast version may differ from the reference by."""

from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from pathprep.kernels import macenko_reference as reference

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

MAX_DEGREES = 0.05
MAX_C_SHARE = 0.002
ONE_LEVEL_SHARE = 0.9999


def degrees(a: Floats, b: Floats) -> Floats:
    """Angles between unit columns, exact for small ones."""
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=0) / 2, 1)))


def assert_levels(found: Tile, expected: Tile) -> None:
    """One grey level on 99.99 % of the pixel values, two everywhere."""
    difference = np.abs(found.astype(int) - expected)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= 2, f"{found[worst]} for {expected[worst]} at {worst}"
    assert (difference <= 1).mean() >= ONE_LEVEL_SHARE


def assert_fit(he: Floats, max_c: Floats, tissue_pixels: int, fitted: bool, expected: reference.Fit) -> None:
    """A fit (3, 2), (2,) is the reference's, or both have none."""
    assert tissue_pixels == expected.tissue_pixels
    assert fitted == expected.fitted
    if not expected.fitted:
        assert not he.any()
        assert not max_c.any()
        return
    assert degrees(he, expected.he).max() < MAX_DEGREES
    np.testing.assert_allclose(max_c, expected.max_c, rtol=MAX_C_SHARE)


def flat(*colour: int) -> Tile:
    return np.full((64, 64, 3), colour, np.uint8)


def few(count: int) -> Tile:
    tile = flat(245, 245, 245)
    tile.reshape(-1, 3)[:count] = np.random.default_rng(0).integers(20, 180, (count, 3))
    return tile


def grey_ramp() -> Tile:
    return np.repeat(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64, 1), 3, axis=2)


def little_of_each() -> Tile:
    """1.2 % tissue, half of it pure haematoxylin and half pure eosin: maxC of both is that of glass."""
    he = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])
    amounts = np.random.default_rng(0).uniform(0.7, 1.2, (50, 1)) * np.repeat(np.eye(2), 25, axis=0)
    tile = flat(243, 243, 243)
    tile.reshape(-1, 3)[: 2 * 50] = np.rint(240 * np.exp(-np.tile(amounts, (2, 1)) @ he.T) - 1)
    return np.concatenate([tile, flat(243, 243, 243)])


def one_stain(strong: int) -> Tile:
    """Amounts of a single stain that one channel absorbs ten times as much as the others."""
    od = 0.2 + np.linspace(0, 1.5, 64 * 64)[:, None] * np.where(np.arange(3) == strong, 1.0, 0.1)
    return np.rint(240 * np.exp(-od) - 1).astype(np.uint8).reshape(64, 64, 3)


def specks(pixels: int) -> Tile:
    """Real stains in a few pixels of tinted glass: maxC, the 99th percentile, would be that of the glass."""
    tile = np.full((256, 256, 3), (214, 197, 217), np.uint8)
    amounts = np.random.default_rng(0).uniform(0.3, 1.5, (pixels, 2))
    od = amounts @ np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]]).T
    tile.reshape(-1, 3)[:pixels] = np.rint(240 * np.exp(-od) - 1)
    return tile


def pointing_away() -> Tile:
    """Stains that replace each other, with a covariance whose second eigenvector Jacobi's method turns to the
    empty side: without a choice of its sign the cut of the angle falls among the data."""
    second, largest = np.array([0.926, 0.227, 0.300]), np.array([0.376, -0.606, -0.701])
    second /= np.linalg.norm(second)
    largest -= second * (largest @ second)
    largest /= np.linalg.norm(largest)
    axes = np.stack([np.cross(second, largest), second, largest])
    spread = np.sqrt(3 * np.array([2e-4, 2.4e-3, 8.8e-3]))
    od = 1.2 * second + np.random.default_rng(0).uniform(-spread, spread, (64 * 64, 3)) @ axes
    return np.rint(reference.IO * np.exp(-od) - 1).astype(np.uint8).reshape(64, 64, 3)


DEGENERATE = {
    "white": flat(255, 255, 255),
    "empty field": flat(240, 240, 240),
    "black": flat(0, 0, 0),
    "flat pink": flat(220, 120, 170),
    "flat tissue": flat(150, 80, 140),
    "flat with noise": flat(150, 80, 140) + np.random.default_rng(0).integers(0, 3, (64, 64, 3), np.uint8),
    "one tissue pixel": few(1),
    "three tissue pixels": few(3),
    "too few tissue pixels": few(99),
    "grey ramp": grey_ramp(),
    "two colours": np.where(np.arange(64)[:, None, None] < 32, flat(150, 80, 140), flat(90, 40, 110)),
    "saturated": (np.random.default_rng(0).integers(0, 2, (64, 64, 3)) * 255).astype(np.uint8),
    "all colours": np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8),
    **{f"one stain, channel {channel}": one_stain(channel) for channel in range(3)},
    "specks on tinted glass": specks(590),
    "little of each stain": little_of_each(),
    "one pixel": flat(120, 60, 130)[:1, :1],
}


@st.composite
def adversarial(draw: st.DrawFn) -> Tile:
    """Tiles of a few colours with noise, of any small size; many have an implausible or no fit."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    colours = np.array(draw(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=6)))
    noise = draw(st.sampled_from([0, 1, 4, 20, 80]))
    tile = colours[rng.integers(0, len(colours), (height, width))] + rng.integers(
        -noise, noise + 1, (height, width, 3)
    )
    return np.clip(tile, 0, 255).astype(np.uint8)


def is_decided(tile: Tile) -> bool:
    """Whether rounding cannot change the answer: no limit is near, and the plane is not arbitrary."""
    od = reference.optical_density(tile).reshape(-1, 3)
    tissue = od[(od >= reference.BETA).all(axis=1)]
    if len(tissue) < reference.LIMITS.tissue_pixels:
        return True
    variances = np.linalg.eigvalsh(np.cov(tissue.T))
    if variances[1] - variances[0] < 1e-3 * variances[1]:
        return False
    # Counts are exact: their limits stay as they are.
    loose, tight = ([limit * (1 - s * 1e-3) for limit in reference.LIMITS] for s in (1, -1))
    loose[5], tight[5] = tight[5], loose[5]  # the upper limit
    loose[6], tight[6] = tight[6], loose[6]  # a negative one
    answers = []
    for limits in (loose, tight):
        with patch.object(reference, "LIMITS", reference.Limits(*reference.LIMITS[:2], *limits[2:])):
            answers.append(reference.fit(tile))
    if answers[0].fitted and abs(answers[0].he[0, 0] - answers[0].he[0, 1]) < 1e-4:
        return False  # which of them is haematoxylin
    return answers[0].fitted == answers[1].fitted

"""The numba kernels against the float64 reference."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pathprep.kernels import macenko_apply_cpu, macenko_cpu
from pathprep.kernels import macenko_reference as reference

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

TARGET_HE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
TARGET_MAX_C = np.array([1.9705, 1.0308])

MAX_DEGREES = 0.05
MAX_C_SHARE = 0.002
ONE_LEVEL_SHARE = 0.9999


def degrees(a: Floats, b: Floats) -> Floats:
    """Angles between unit columns, exact for small ones."""
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=0) / 2, 1)))


def assert_levels(found: Tile, expected: Tile) -> None:
    difference = np.abs(found.astype(int) - expected)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= 2, f"{found[worst]} for {expected[worst]} at {worst}"
    assert (difference <= 1).mean() >= ONE_LEVEL_SHARE


def assert_matches(tile: Tile, keep_any: bool = False, **options: Any) -> None:
    expected = reference.fit(tile, keep_any, **options)
    he, max_c, tissue_pixels, fitted = macenko_cpu.fit(tile[None], keep_any, **options)
    assert tissue_pixels[0] == expected.tissue_pixels
    assert fitted[0] == expected.fitted
    assert np.isfinite(he).all()
    assert np.isfinite(max_c).all()
    if not expected.fitted:
        assert not he.any()
        assert not max_c.any()
        return
    assert degrees(he[0], expected.he).max() < MAX_DEGREES
    np.testing.assert_allclose(max_c[0], expected.max_c, rtol=MAX_C_SHARE)
    matrix = reference.matrix(he[0], max_c[0], TARGET_HE, TARGET_MAX_C)
    exact = reference.matrix(expected.he, expected.max_c, TARGET_HE, TARGET_MAX_C)
    assert_levels(macenko_apply_cpu.apply(tile[None], matrix[None])[0], reference.apply(tile, exact))


@pytest.mark.parametrize("options", [{}, {"keep_any": True}, {"alpha": 10.0}, {"alpha": 0.0}, {"io": 255.0}])
def test_fit_matches_reference(stained: Tile, options: dict[str, Any]) -> None:
    for tile in stained:
        assert_matches(tile, **options)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 211), (13, 17), (224, 224), (300, 513), (1100, 1000)]
)
def test_any_size(stained: Tile, height: int, width: int) -> None:
    pixels = np.concatenate([tile.reshape(-1, 3) for tile in stained[:2]])
    tile = np.resize(pixels, (height, width, 3))
    assert_matches(tile)


def flat(*colour: int) -> Tile:
    return np.full((64, 64, 3), colour, np.uint8)


def few(count: int) -> Tile:
    tile = flat(245, 245, 245)
    tile.reshape(-1, 3)[:count] = np.random.default_rng(0).integers(20, 180, (count, 3))
    return tile


def grey_ramp() -> Tile:
    return np.repeat(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64, 1), 3, axis=2)


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
    "one pixel": flat(120, 60, 130)[:1, :1],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tiles_are_refused_not_raised_on(name: str) -> None:
    tile = DEGENERATE[name]
    he, max_c, tissue_pixels, fitted = macenko_cpu.fit(tile[None])
    assert not fitted[0]
    assert not he.any()
    assert not max_c.any()
    assert tissue_pixels[0] == (reference.optical_density(tile) >= reference.BETA).all(axis=2).sum()
    assert not reference.fit(tile).fitted


def test_specks_on_tinted_glass_are_refused(stained: Tile) -> None:
    """Real stains in 0.9 % of the pixels: maxC, the 99th percentile, would be that of the glass."""
    tile = np.full((256, 256, 3), (214, 197, 217), np.uint8)
    pixels = stained[0].reshape(-1, 3)
    tile.reshape(-1, 3)[:590] = pixels[(pixels < 180).all(axis=1)][:590]
    assert macenko_cpu.fit(tile[None])[2][0] == 590
    assert not macenko_cpu.fit(tile[None])[3][0]
    assert_matches(tile)


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


@settings(max_examples=200, deadline=None)
@given(adversarial())
def test_adversarial_tiles_match_reference(tile: Tile) -> None:
    he, max_c, _, _ = macenko_cpu.fit(tile[None])
    assert np.isfinite(he).all()
    assert np.isfinite(max_c).all()
    assume(is_decided(tile))
    assert_matches(tile)


@pytest.mark.parametrize("colours", [((200, 120, 5), (200, 120, 15)), ((30, 190, 190), (45, 190, 190))])
def test_the_sample_cannot_mislead(stained: Tile, colours: tuple[Any, Any]) -> None:
    # A tail's limit is guessed from every 65th pixel. Let those, and only those, be of two colours beyond
    # all others: the guess then falls between the two, and fewer pixels lie beyond it than the rank asks.
    tile = np.resize(stained[0], (256, 256, 3)).copy()
    pixels = tile.reshape(-1, 3)
    pixels[::130], pixels[65::130] = colours
    assert_matches(tile)


@pytest.mark.parametrize("channels", list(permutations(range(3))))
def test_stains_that_replace_each_other(channels: tuple[int, ...]) -> None:
    """Most variance lies between the stains, so the largest axis has pixels on both sides of it, and an
    eigenvector of the wrong sign would put the cut of the angle among them."""
    he = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])[list(channels)]
    he /= np.linalg.norm(he, axis=0)
    if he[0, 0] < he[0, 1]:
        he = he[:, ::-1]
    rng = np.random.default_rng(0)
    share, amount = rng.uniform(0, 1, (64 * 64, 1)), rng.uniform(1.4, 1.6, (64 * 64, 1))
    od = np.hstack([share, 1 - share]) * amount @ he.T
    tile = np.rint(reference.IO * np.exp(-od) - 1).astype(np.uint8).reshape(64, 64, 3)
    assert degrees(reference.fit(tile).he, he).max() < 1
    assert_matches(tile)


def test_order_of_pixels_changes_no_bit(stained: Tile) -> None:
    rng = np.random.default_rng(1)
    first = macenko_cpu.fit(stained)
    mixed = np.stack([rng.permutation(tile.reshape(-1, 3)).reshape(tile.shape) for tile in stained])
    for a, b in zip(first, macenko_cpu.fit(mixed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_and_threads_change_no_bit(stained: Tile) -> None:
    tiles = np.concatenate(
        [stained, DEGENERATE["white"].repeat(2, axis=0)[None, :96, :].repeat(2, axis=2)[:, :, :96]]
    )
    together = macenko_cpu.fit(tiles)
    matrices = np.random.default_rng(0).normal(0, 0.3, (len(tiles), 3, 3)) + np.eye(3)
    applied = macenko_apply_cpu.apply(tiles, matrices)

    def alone(i: int) -> tuple[Any, Any]:
        return macenko_cpu.fit(tiles[i : i + 1]), macenko_apply_cpu.apply(
            tiles[i : i + 1], matrices[i : i + 1]
        )

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(alone, list(range(len(tiles))) * 8))
    for k, (fit, pixels) in enumerate(results):
        i = k % len(tiles)
        for a, b in zip(fit, together, strict=True):
            np.testing.assert_array_equal(a[0], b[i])
        np.testing.assert_array_equal(pixels[0], applied[i])


def test_own_fit_as_target_is_the_identity(stained: Tile) -> None:
    he, max_c, _, fitted = macenko_cpu.fit(stained)
    assert fitted.all()
    for tile, h, c in zip(stained, he, max_c, strict=True):
        matrix = reference.matrix(h, c, h, c)
        same = macenko_apply_cpu.apply(tile[None], matrix[None])[0].astype(int)
        # In the plane of the stains; what lies beside it (noise) is projected on it by the method itself.
        exact = reference.apply(tile, matrix).astype(int)
        assert np.abs(same - exact).max() <= 2
        assert np.abs(same - tile)[tile.min(axis=2) > 40].mean() < 2


def test_plane_colours_survive_their_own_fit(stained: Tile) -> None:
    he, max_c, _, _ = macenko_cpu.fit(stained[:1])
    amounts = np.random.default_rng(0).uniform(0.05, 1.5, (96 * 96, 2))
    clean = np.clip(np.rint(reference.IO * np.exp(-amounts @ he[0].T) - 1), 0, 255).astype(np.uint8)
    clean = clean.reshape(1, 96, 96, 3)
    matrix = reference.matrix(he[0], max_c[0], he[0], max_c[0])
    assert np.abs(macenko_apply_cpu.apply(clean, matrix[None]).astype(int) - clean).max() <= 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=9, max_size=9), st.sampled_from([200.0, 240.0, 255.0]))
def test_apply_matches_reference_for_any_matrix(values: list[float], io: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    tile = np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=1).reshape(16, 16, 3)
    matrix = np.array(values).reshape(3, 3)
    assert_levels(macenko_apply_cpu.apply(tile[None], matrix[None], io)[0], reference.apply(tile, matrix, io))


def test_identity_copies(stained: Tile) -> None:
    np.testing.assert_array_equal(macenko_apply_cpu.apply(stained, np.tile(np.eye(3), (4, 1, 1))), stained)


def test_no_tiles() -> None:
    none = np.empty((0, 8, 8, 3), np.uint8)
    assert [len(part) for part in macenko_cpu.fit(none)] == [0, 0, 0, 0]
    assert macenko_apply_cpu.apply(none, np.empty((0, 3, 3))).shape == none.shape


@pytest.mark.realdata
def test_real_tiles_match_reference(data: Path) -> None:
    from openslide import OpenSlide

    for path in sorted((data / "slides" / "monuseg").glob("*.tif")):
        with OpenSlide(path) as slide:
            field = np.array(slide.read_region((0, 0), 0, (1000, 1000)).convert("RGB"))
        for y, x in [(0, 0), (0, 744), (372, 372), (744, 0)]:
            tile = field[y : y + 256, x : x + 256]
            assert reference.fit(tile).fitted
            assert_matches(tile)


@pytest.mark.realdata
def test_real_tiles_with_little_tissue_match_reference(data: Path) -> None:
    from openslide import OpenSlide

    with OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        block = np.array(slide.read_region((0, 0), 0, (2048, 1024)).convert("RGB"))
    fitted = 0
    for y in range(0, 1024, 256):
        for x in range(0, 2048, 256):
            tile = block[y : y + 256, x : x + 256]
            assert_matches(tile)
            fitted += reference.fit(tile).fitted
    assert 0 < fitted < 32

"""The numba kernels against the float64 reference."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.macenko_cases import (
    DEGENERATE,
    adversarial,
    assert_fit,
    assert_levels,
    degrees,
    is_decided,
    pointing_away,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pathprep.kernels import macenko_cpu
from pathprep.kernels import macenko_reference as reference
from pathprep.kernels.threads_cpu import THREAD_PIXELS

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

TARGET_HE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
TARGET_MAX_C = np.array([1.9705, 1.0308])


def assert_matches(tile: Tile, keep_any: bool = False, **options: Any) -> None:
    expected = reference.fit(tile, keep_any, **options)
    he, max_c, tissue_pixels, fitted = macenko_cpu.fit(tile[None], keep_any, **options)
    assert_fit(he[0], max_c[0], tissue_pixels[0], fitted[0], expected)
    if not expected.fitted:
        return
    matrix = reference.matrix(he[0], max_c[0], TARGET_HE, TARGET_MAX_C)
    exact = reference.matrix(expected.he, expected.max_c, TARGET_HE, TARGET_MAX_C)
    assert_levels(macenko_cpu.apply(tile[None], matrix[None])[0], reference.apply(tile, exact))


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


def test_second_eigenvector_that_points_away_from_the_data() -> None:
    tile = pointing_away()
    od = reference.optical_density(tile).reshape(-1, 3)
    tissue = od[(od >= reference.BETA).all(axis=1)]
    found = macenko_cpu._eigen(np.cov(tissue.T))[1][:, 1]
    assert found @ tissue.mean(axis=0) < -1, "the tile no longer provokes it: find another"
    assert reference.fit(tile).fitted
    assert_matches(tile)


@pytest.mark.parametrize("io", [1.0, 200.0, 240.0, 256.0])
def test_optical_density(io: float) -> None:
    table = macenko_cpu.density_table(io)
    exact = reference.optical_density(np.arange(256), io)
    np.testing.assert_allclose(table, exact, rtol=0, atol=1e-6)
    assert (np.diff(table) < 0).all()  # else a threshold of OD would not part the grey levels


def test_order_of_pixels_changes_no_bit(stained: Tile) -> None:
    rng = np.random.default_rng(1)
    first = macenko_cpu.fit(stained)
    mixed = np.stack([rng.permutation(tile.reshape(-1, 3)).reshape(tile.shape) for tile in stained])
    for a, b in zip(first, macenko_cpu.fit(mixed), strict=True):
        np.testing.assert_array_equal(a, b)


def white(stained: Tile) -> Tile:
    return np.full_like(stained[:1], 255)


def exact_matrices(fits: macenko_cpu.Fits) -> Floats:
    """Of a batch, to TARGET, by the closed form in float64; identities where there is no fit."""
    he, max_c, _, fitted = fits
    he, max_c = np.where(fitted[:, None, None], he, np.eye(3)[:, :2]), np.where(fitted[:, None], max_c, 1)
    h, e = he[:, :, 0], he[:, :, 1]
    hh, across, ee = (h * h).sum(1)[:, None], (h * e).sum(1)[:, None], (e * e).sum(1)[:, None]
    to = TARGET_HE * (TARGET_MAX_C / max_c)[:, None, :]
    to_h = (ee * h - across * e) / (hh * ee - across * across)
    to_e = (hh * e - across * h) / (hh * ee - across * across)
    matrices = to[:, :, :1] * to_h[:, None, :] + to[:, :, 1:] * to_e[:, None, :]
    return np.where(fitted[:, None, None], matrices, np.eye(3))


def test_batch_and_callers_threads_change_no_bit(stained: Tile) -> None:
    tiles = np.concatenate([stained, white(stained)])
    together = macenko_cpu.fit(tiles)
    matrices = np.random.default_rng(0).normal(0, 0.3, (len(tiles), 3, 3)) + np.eye(3)
    applied = macenko_cpu.apply(tiles, matrices)

    def alone(i: int) -> tuple[Any, Any]:
        return macenko_cpu.fit(tiles[i : i + 1]), macenko_cpu.apply(tiles[i : i + 1], matrices[i : i + 1])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(alone, list(range(len(tiles))) * 8))
    for k, (fit, pixels) in enumerate(results):
        i = k % len(tiles)
        for a, b in zip(fit, together, strict=True):
            np.testing.assert_array_equal(a[0], b[i])
        np.testing.assert_array_equal(pixels[0], applied[i])


@pytest.mark.parametrize("threads", [None, 2, 5])
def test_threads_change_no_bit(stained: Tile, threads: int | None) -> None:
    tiles = np.concatenate([stained, white(stained)] * 60)
    assert tiles.size // 3 > 4 * THREAD_PIXELS  # enough work for five
    fits = macenko_cpu.fit(tiles[:5])
    matrices = exact_matrices(fits)
    applied = macenko_cpu.apply(tiles[:5], matrices)
    for a, b in zip(macenko_cpu.fit(tiles, threads=threads), fits, strict=True):
        np.testing.assert_array_equal(a, np.concatenate([b] * 60))
    found = macenko_cpu.apply(tiles, np.concatenate([matrices] * 60), threads=threads)
    np.testing.assert_array_equal(found, np.concatenate([applied] * 60))
    pixels, again = macenko_cpu.normalize(tiles, TARGET_HE, TARGET_MAX_C, threads=threads)
    np.testing.assert_array_equal(pixels, found)
    for a, b in zip(again, fits, strict=True):
        np.testing.assert_array_equal(a, np.concatenate([b] * 60))


@pytest.mark.parametrize(
    "options", [{}, {"keep_any": True}, {"alpha": 10.0}, {"beta": 0.3}, {"io": 255.0}], ids=str
)
def test_normalize_is_fit_matrix_apply_to_the_bit(stained: Tile, options: dict[str, Any]) -> None:
    tiles = np.concatenate([stained, white(stained)])
    fits = macenko_cpu.fit(tiles, **options)
    assert list(fits[3]) == [True, True, True, True, False]
    matrices = exact_matrices(fits)
    for matrix, he, max_c in zip(matrices[:4], *fits[:2], strict=False):
        exact = reference.matrix(he, max_c, TARGET_HE, TARGET_MAX_C)
        np.testing.assert_allclose(matrix, exact, rtol=0, atol=1e-12)
    pixels, found = macenko_cpu.normalize(tiles, TARGET_HE, TARGET_MAX_C, **options)
    for a, b in zip(found, fits, strict=True):
        np.testing.assert_array_equal(a, b)
    expected = macenko_cpu.apply(tiles, matrices, options.get("io", reference.IO))
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(pixels[4], tiles[4])
    for i in range(4):  # and alone, of any layout
        alone, _ = macenko_cpu.normalize(tiles[i : i + 1, :, ::-1], TARGET_HE, TARGET_MAX_C, **options)
        np.testing.assert_array_equal(alone[0], expected[i, :, ::-1])


def test_own_fit_as_target_is_the_identity(stained: Tile) -> None:
    he, max_c, _, fitted = macenko_cpu.fit(stained)
    assert fitted.all()
    for tile, h, c in zip(stained, he, max_c, strict=True):
        matrix = reference.matrix(h, c, h, c)
        same = macenko_cpu.apply(tile[None], matrix[None])[0].astype(int)
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
    assert np.abs(macenko_cpu.apply(clean, matrix[None]).astype(int) - clean).max() <= 2


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([9, 12]).flatmap(lambda n: st.lists(st.floats(-30, 30), min_size=n, max_size=n)),
    st.sampled_from([200.0, 240.0, 255.0]),
)
def test_apply_matches_reference_for_any_matrix(values: list[float], io: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    tile = np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=1).reshape(16, 16, 3)
    matrix = np.array(values).reshape(3, -1)
    assert_levels(macenko_cpu.apply(tile[None], matrix[None], io)[0], reference.apply(tile, matrix, io))


def test_apply_is_off_by_a_level_in_few_pixels(stained: Tile) -> None:
    """What polynomial and rounding leave: 1e-3 of a level, seen where the exact value lies that close."""
    for tile in stained:
        fit = reference.fit(tile)
        matrix = reference.matrix(fit.he, fit.max_c, TARGET_HE, TARGET_MAX_C)
        same = macenko_cpu.apply(tile[None], matrix[None])[0] == reference.apply(tile, matrix)
        assert same.mean() > 0.998


@pytest.mark.parametrize("io", [200, 230, 240, 255])
def test_empty_field_stays_io_to_the_level(io: int) -> None:
    """OD 0, so I0 exactly, whatever the matrix: a hair below it would be truncated."""
    field = np.full((100, 4, 4, 3), io - 1, np.uint8)
    matrices = np.random.default_rng(0).uniform(-2, 2, (100, 3, 3))
    assert (macenko_cpu.apply(field, matrices, float(io)) == io).all()


def test_matrices_that_are_not_finite_give_black_or_white(stained: Tile) -> None:
    matrices = np.array([np.full((3, 3), value) for value in (np.nan, np.inf, -np.inf, 1e30)])
    pixels = macenko_cpu.apply(np.full_like(stained, 100), matrices)
    assert [np.unique(tile).tolist() for tile in pixels] == [[255], [0], [255], [0]]


def test_identity_copies(stained: Tile) -> None:
    np.testing.assert_array_equal(macenko_cpu.apply(stained, np.tile(np.eye(3), (4, 1, 1))), stained)


def test_no_tiles() -> None:
    none = np.empty((0, 8, 8, 3), np.uint8)
    assert [len(part) for part in macenko_cpu.fit(none)] == [0, 0, 0, 0]
    assert macenko_cpu.apply(none, np.empty((0, 3, 3))).shape == none.shape
    assert macenko_cpu.normalize(none, TARGET_HE, TARGET_MAX_C)[0].shape == none.shape


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

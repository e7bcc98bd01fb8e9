from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pathprep.kernels import macenko_reference
from pathprep.kernels import tiling_reference as reference
from pathprep.kernels.tiling_cpu import cut

Tile = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def block(stained: Tile) -> Tile:
    """330 x 300 px of tissue, noise, white, black and saturated colour."""
    block = np.random.default_rng(0).integers(0, 256, (300, 330, 3)).astype(np.uint8)
    block[:96, :96] = stained[0]
    block[:96, 96:192] = stained[3]
    block[100:200, :100] = 255
    block[200:300, :100] = 0
    block[100:200, 100:200] = (255, 0, 0)
    return block


SHAPES = [(96, 96), (96, 48), (97, 96), (190, 64), (64, 63), (150, 1), (3, 2), (2, 2), (1, 1), (300, 7)]


@pytest.mark.parametrize(("side", "stored"), SHAPES)
def test_matches_reference(block: Tile, side: int, stored: int) -> None:
    corners = [(0, 0), (330 - side, 300 - side), ((330 - side) // 2, (300 - side) // 3), (0, 300 - side)]
    origins = np.array(corners, np.int32)
    tiles, figures = cut(block, origins, side, stored)
    expected_tiles, expected_figures = reference.cut(block, origins, side, stored)
    np.testing.assert_array_equal(tiles, expected_tiles)
    np.testing.assert_allclose(figures, expected_figures, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_matches_reference_at_any_scale(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    side = data.draw(st.integers(1, min(height, width)))
    stored = data.draw(st.integers(1, side))
    x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    levels = data.draw(st.sampled_from([2, 256]))
    block = (rng.integers(0, levels, (height, width, 3)) * (255 // (levels - 1))).astype(np.uint8)
    origins = np.array([[x, y]], np.int32)
    tiles, figures = cut(block, origins, side, stored)
    expected_tiles, expected_figures = reference.cut(block, origins, side, stored)
    np.testing.assert_array_equal(tiles, expected_tiles)
    np.testing.assert_allclose(figures, expected_figures, rtol=1e-5, atol=1e-6)


def test_equal_sizes_copy(block: Tile) -> None:
    tiles, _ = cut(block, np.array([[5, 7]], np.int32), 96, 96)
    np.testing.assert_array_equal(tiles[0], block[7:103, 5:101])


def test_halving_is_the_mean_of_four(block: Tile) -> None:
    tiles, _ = cut(block, np.array([[0, 0]], np.int32), 96, 48)
    four = block[:96, :96].reshape(48, 2, 48, 2, 3).sum(axis=(1, 3), dtype=int)
    np.testing.assert_array_equal(tiles[0], (four + 2) // 4)


def test_reference_keeps_the_mean_of_a_tile(block: Tile) -> None:
    for side, stored in SHAPES:
        tile = block[50 : 50 + side, 30 : 30 + side] if side < 250 else block[:side, :side]
        means = reference.resample(tile, stored).mean(axis=(0, 1)) - tile.mean(axis=(0, 1))
        assert np.abs(means).max() <= 0.5


def test_figures_of_known_tiles() -> None:
    block = np.zeros((8, 32, 3), np.uint8)
    block[:, 0:8] = 255
    block[:, 8:16] = (255, 0, 0)
    block[:, 16:24] = np.indices((8, 8)).sum(axis=0)[..., None] % 2 * 255  # a chessboard
    block[:, 24:32] = np.arange(8)[:, None] * 10  # a ramp: its second derivative is nothing
    _, figures = cut(block, np.array([[0, 0], [8, 0], [16, 0], [24, 0]], np.int32), 8, 8)
    # Chessboard: the Laplacian is 4 x 255 up or down, half of each over the inner 6 x 6.
    expected = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0.5, (4 * 255) ** 2, 0.5], [0, 0, 0, 1]]
    np.testing.assert_allclose(figures, expected, rtol=1e-5)


def test_stained_is_what_macenko_counts(stained: Tile) -> None:
    for tile in stained:
        figures = cut(tile, np.array([[0, 0]], np.int32), 96, 96)[1]
        assert figures[0, 3] == np.float32(macenko_reference.fit(tile).tissue_pixels / 96**2)


def test_blur_lowers_focus(stained: Tile) -> None:
    field = np.resize(stained[0], (96, 96, 3))
    sharp = cut(field, np.array([[0, 0]], np.int32), 96, 96)[1][0, 2]
    blurred = reference.resample(field, 24).repeat(4, axis=0).repeat(4, axis=1)
    assert cut(blurred, np.array([[0, 0]], np.int32), 96, 96)[1][0, 2] < sharp / 4


def test_views_are_cut_like_copies(block: Tile) -> None:
    view = block[20:280, 10:310]
    assert not view.flags.c_contiguous
    origins = np.array([[3, 5]], np.int32)
    for a, b in zip(cut(view, origins, 97, 64), cut(view.copy(), origins, 97, 64), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_and_threads_change_no_bit(block: Tile) -> None:
    origins = np.random.default_rng(0).integers(0, 190, (12, 2)).astype(np.int32)
    tiles, figures = cut(block, origins, 107, 61)

    def alone(i: int) -> tuple[Any, Any]:
        return cut(block, origins[i : i + 1], 107, 61)

    with ThreadPoolExecutor(4) as pool:
        for i, (tile, figure) in enumerate(pool.map(alone, range(12))):
            np.testing.assert_array_equal(tile[0], tiles[i])
            np.testing.assert_array_equal(figure[0], figures[i])


def test_no_origins(block: Tile) -> None:
    tiles, figures = cut(block, np.empty((0, 2), np.int32), 64, 32)
    assert tiles.shape == (0, 32, 32, 3)
    assert figures.shape == (0, 4)


@pytest.mark.parametrize(("side", "stored"), [(64, 65), (0, 0), (64, 0), (9000, 256)])
def test_impossible_sizes_are_refused(block: Tile, side: int, stored: int) -> None:
    with pytest.raises(ValueError, match=f"stored {stored}, side {side}"):
        cut(block, np.array([[0, 0]], np.int32), side, stored)


@pytest.mark.parametrize("origin", [(-1, 0), (0, -1), (267, 0), (0, 237), (2**31 - 32, 0), (0, 2**31 - 1)])
def test_tiles_outside_the_block_are_refused(block: Tile, origin: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="leaves the block of 330 x 300"):
        cut(block, np.array([(0, 0), origin], np.int32), 64, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([[0], [9]], np.int32),
        np.zeros((1, 3), np.int32),
        np.zeros(2, np.int32),
        np.zeros((1, 2)),
        np.zeros((1, 2), np.uint64),
    ],
)
def test_other_origins_are_refused(block: Tile, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected origins \(T, 2\) of int32"):
        cut(block, wrong, 64, 32)


@pytest.mark.parametrize(
    "wrong", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3))]
)
def test_other_arrays_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a block \(H, W, 3\) of uint8"):
        cut(wrong, np.array([[0, 0]], np.int32), 32, 32)


@pytest.mark.realdata
def test_matches_reference_on_a_real_slide(data: Path) -> None:
    from openslide import OpenSlide

    with OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        block = np.array(slide.read_region((700, 300), 0, (800, 700)).convert("RGB"))
    origins = np.array([[0, 0], [256, 180], [288, 188]], np.int32)
    for side in (256, 507, 512):
        tiles, figures = cut(block, origins, side, 256)
        expected_tiles, expected_figures = reference.cut(block, origins, side, 256)
        np.testing.assert_array_equal(tiles, expected_tiles)
        np.testing.assert_allclose(figures, expected_figures, rtol=1e-5)

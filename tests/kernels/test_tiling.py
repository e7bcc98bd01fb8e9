from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv
from PIL import Image

from pathprep.kernels import macenko_reference
from pathprep.kernels import tiling_reference as reference
from pathprep.kernels.tiling_cpu import cut, hsv_share, reduce

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


@pytest.mark.parametrize(("side", "stored"), SHAPES)
def test_a_whole_block_and_its_hsv_share_match_the_reference(block: Tile, side: int, stored: int) -> None:
    part, out = np.ascontiguousarray(block[:side, :side]), np.empty((stored, stored, 3), np.uint8)
    reduce(part, out)
    np.testing.assert_array_equal(out, reference.resample(part, stored))
    assert hsv_share(out) == pytest.approx(reference.in_hsv_box(out).mean(), abs=1e-12)
    assert hsv_share(block) == pytest.approx(reference.in_hsv_box(block).mean(), abs=1e-12)


def test_what_is_not_contiguous_or_too_small_is_not_reduced(block: Tile) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        reduce(block[:96, :96], np.empty((48, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="97"):
        reduce(np.ascontiguousarray(block[:96, :96]), np.empty((97, 97, 3), np.uint8))


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
    expected = [
        [0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 1],  # red as no blood is
        [0, 0.5, (4 * 255) ** 2, 0.5, 0, 0.5],
        [0, 0, 0, 1, 0, 6 / 8],
    ]
    np.testing.assert_allclose(figures, expected, rtol=1e-5)


def test_stained_is_what_macenko_counts(stained: Tile) -> None:
    for tile in stained:
        figures = cut(tile, np.array([[0, 0]], np.int32), 96, 96)[1]
        assert figures[0, 3] == np.float32(macenko_reference.fit(tile).tissue_pixels / 96**2)


def test_every_kind_of_colour_is_counted_like_the_reference() -> None:
    """Four levels around every number in the rules, and random colours, 64 of a kind to a tile."""
    edges = [
        0,
        1,
        24,
        25,
        26,
        58,
        59,
        60,
        61,
        78,
        79,
        80,
        101,
        102,
        103,
        104,
        109,
        110,
        111,
        128,
        200,
        254,
        255,
    ]
    lattice = np.stack(np.meshgrid(edges, edges, np.arange(256), indexing="ij"), -1).reshape(-1, 3)
    noise = np.random.default_rng(0).integers(0, 256, (400_000, 3))
    colours = np.concatenate([lattice, noise])
    colours = colours[: len(colours) // 64 * 64].astype(np.uint8)
    strip = colours.reshape(-1, 8, 8, 3)
    block = strip.reshape(-1, 8, 3)
    origins = np.stack([np.zeros(len(strip)), 8 * np.arange(len(strip))], 1).astype(np.int32)
    figures = cut(block, origins, 8, 8)[1]
    np.testing.assert_array_equal(64 * figures[:, 4], reference.in_hsv_box(strip).sum(axis=(1, 2)))
    np.testing.assert_array_equal(64 * figures[:, 5], reference.is_pen(strip).sum(axis=(1, 2)))


def test_hsv_box_is_the_rounded_hsv_of_another_library() -> None:
    levels = np.arange(0, 256, 3)
    colours = np.stack(np.meshgrid(levels, levels, np.arange(256), indexing="ij"), -1).astype(np.uint8)
    hue, saturation, value = np.moveaxis(rgb_to_hsv(colours / 255.0), -1, 0)
    hue, saturation, value = 180 * hue, 255 * saturation, 255 * value
    # where floating point decides a half, it cannot speak against integers
    tie = (np.abs(hue - 89.5) < 1e-9) | (np.abs(hue - 179.5) < 1e-9) | (np.abs(saturation - 7.5) < 1e-9)
    assert tie.mean() < 0.002
    rounded = np.floor(hue + 0.5) % 180  # OpenCV's 180 is 0
    expected = (rounded >= 90) & (np.floor(saturation + 0.5) >= 8) & (np.round(value) >= 103)
    np.testing.assert_array_equal(reference.in_hsv_box(colours)[~tie], expected[~tie])
    assert 0.3 < expected.mean() < 0.6
    # halves go up, as OpenCV has it: hue 179 and saturation 7.5 of 255 are inside, hue 359 is not
    halves = np.array([[0, 240, 236], [132, 136, 136], [240, 0, 4]], np.uint8)
    assert reference.in_hsv_box(halves).tolist() == [True, True, False]


# Inks of felt-tip pens as scanners see them
INKS = {
    "green": (30, 120, 70),
    "turquoise": (20, 130, 140),
    "blue": (37, 95, 160),
    "light blue": (95, 165, 205),
    "dark blue": (26, 70, 140),
    "red": (190, 30, 45),
    "dark red": (130, 22, 34),
    "black": (38, 35, 40),
}


@pytest.mark.parametrize("ink", INKS)
def test_pen_strokes_are_seen(stained: Tile, ink: str) -> None:
    field = np.resize(stained[0], (96, 96, 3))
    rows, columns = np.indices((96, 96))
    stroke = np.abs(rows - 48 - 10 * np.sin(columns / 15)) < 12
    painted = field.copy()
    noise = np.random.default_rng(0).normal(0, 3, (96, 96, 3))
    painted[stroke] = np.clip(np.rint(INKS[ink] + noise), 0, 255)[stroke].astype(np.uint8)
    pen = [cut(tile, np.array([[0, 0]], np.int32), 96, 96)[1][0, 5] for tile in (field, painted)]
    assert pen[0] < 0.001
    assert pen[1] - pen[0] == pytest.approx(stroke.mean(), rel=0.1)


def test_stains_and_blood_are_no_pen() -> None:
    for stain, most in (
        ((0.65, 0.70, 0.29), 2.5),  # haematoxylin (Ruifrok and Johnston 2001)
        ((0.07, 0.99, 0.11), 2.5),  # eosin
        ((0.27, 0.57, 0.78), 2.5),  # DAB
        ((0.17, 0.70, 0.65), 1.5),  # red cells, as in a tile of lung
    ):
        density = np.linspace(0, most, 200)[:, None]
        pixels = np.rint(240 * np.exp(-density * stain)).astype(np.uint8)
        visible = pixels[pixels.max(axis=-1) >= 60]  # below, nothing is left of a colour
        assert not reference.is_pen(visible[None]).any()


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
    assert figures.shape == (0, 6)


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


@pytest.mark.realdata
def test_pen_on_real_tiles(data: Path) -> None:
    """Little but blood in 50 tiles of lung and colon; green surgical ink on a slide of Aperio's."""
    from openslide import OpenSlide

    origin = np.zeros((1, 2), np.int32)
    files = sorted((data / "tiles" / "train").glob("*/*.*"))
    pens = [
        cut(np.asarray(Image.open(file).convert("RGB")), origin, 224, 224)[1][0, 5] for file in files[::40]
    ]
    assert len(pens) >= 40
    assert np.median(pens) < 0.0001
    assert max(pens) < 0.02
    with OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        width, height = slide.dimensions
        block = np.array(slide.read_region((0, 0), 0, (width, height)).convert("RGB"))
    corners = np.mgrid[0 : width - 256 : 256, 0 : height - 256 : 256].reshape(2, -1).T.astype(np.int32)
    pens = cut(block, corners, 256, 256)[1][:, 5]
    assert 0.04 < pens.max() < 0.06
    assert np.median(pens) < 0.005

"""The CUDA tiling kernel against the reference: through a CPU build of its source, and on a GPU."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.cuda_shim import Shim, ShimDevice
from hypothesis import given, settings
from hypothesis import strategies as st

from pathprep.kernels import cuda, tiling_cuda
from pathprep.kernels import tiling_reference as reference

Tile = npt.NDArray[np.uint8]
Cut = Callable[..., tuple[Any, Any]]

KERNELS = ["tiling_copy", "tiling_halve", "tiling_area", "tiling_figures"]
SHAPES = [
    (1, 1), (2, 2), (3, 2), (7, 5), (17, 16), (97, 97), (64, 32), (66, 33), (100, 64), (150, 1), (240, 224),
    (256, 128), (257, 3), (300, 129), (200, 200),
]  # fmt: skip


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    return Shim(Path(cuda.__file__).parent / "tiling.cu", KERNELS, tmp_path_factory.mktemp("shim"))


def on_cpu(shim: Shim, seed: int = 0) -> Cut:
    device = ShimDevice(shim, seed=seed)
    return lambda block, origins, side, stored: tiling_cuda.cut(block, origins, side, stored, device)


def on_gpu() -> Cut:
    import cupy

    def cut(block: Tile, origins: Any, side: int, stored: int) -> tuple[Any, Any]:
        tiles, figures = tiling_cuda.cut(cupy.asarray(block), origins, side, stored)
        return tiles.get(), figures.get()

    return cut


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def cut(request: pytest.FixtureRequest) -> Cut:
    return on_gpu() if request.param == "gpu" else on_cpu(request.getfixturevalue("shim"))


@pytest.fixture(scope="module")
def block(stained: Tile) -> Tile:
    """331 x 300 px of tissue, noise, white, black and saturated colour; its rows are 993 bytes."""
    block = np.random.default_rng(0).integers(0, 256, (300, 331, 3)).astype(np.uint8)
    block[:96, :96] = stained[0]
    block[:96, 96:192] = stained[3]
    block[100:200, :100] = 255
    block[200:300, :100] = 0
    block[100:200, 100:200] = (255, 0, 0)
    return block


def assert_matches(cut: Cut, block: Tile, origins: Any, side: int, stored: int) -> None:
    origins = np.array(origins, np.int32)
    tiles, figures = cut(block, origins, side, stored)
    expected_tiles, expected_figures = reference.cut(block, origins, side, stored)
    np.testing.assert_array_equal(tiles, expected_tiles)
    np.testing.assert_allclose(figures, expected_figures, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "stored"), SHAPES)
def test_matches_reference(cut: Cut, block: Tile, side: int, stored: int) -> None:
    right, bottom = 331 - side, 300 - side
    corners = [(0, 0), (right, bottom), (right // 2, bottom // 3), (0, bottom), (right, 0), (right // 2, 0)]
    assert_matches(cut, block, corners, side, stored)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_matches_reference_at_any_scale(shim: Shim, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    side = data.draw(st.integers(1, min(height, width)))
    stored = data.draw(st.sampled_from([side, max(side // 2, 1)]) | st.integers(1, side))
    x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    levels = data.draw(st.sampled_from([2, 256]))
    block = (rng.integers(0, levels, (height, width, 3)) * (255 // (levels - 1))).astype(np.uint8)
    assert_matches(on_cpu(shim), block, [[x, y]], side, stored)


@pytest.mark.parametrize(("side", "stored"), [(8192, 1), (8191, 2), (4096, 15)])
def test_large_sums_do_not_overflow(cut: Cut, side: int, stored: int) -> None:
    tiles, figures = cut(np.full((side, side, 3), 255, np.uint8), np.zeros((1, 2), np.int32), side, stored)
    assert (tiles == 255).all()
    np.testing.assert_array_equal(figures, [[0, 1, 0, 0, 0, 0]])


def test_colours_are_counted_like_the_reference(cut: Cut) -> None:
    """Every level of blue at the numbers of the rules, a row of 64 x 16 colours to a tile."""
    edges = [0, 24, 25, 26, 59, 60, 79, 80, 102, 103, 104, 109, 110, 111, 200, 255]
    colours = np.stack(np.meshgrid(edges, edges, np.arange(256), indexing="ij"), -1).astype(np.uint8)
    block = colours.reshape(-1, 32, 3)
    origins = np.stack([np.zeros(64), 32 * np.arange(64)], 1).astype(np.int32)
    figures = cut(block, origins, 32, 32)[1]
    tiles = block.reshape(64, 32, 32, 3)
    np.testing.assert_array_equal(1024 * figures[:, 4], reference.in_hsv_box(tiles).sum(axis=(1, 2)))
    np.testing.assert_array_equal(1024 * figures[:, 5], reference.is_pen(tiles).sum(axis=(1, 2)))


def test_rows_that_lie_apart(cut: Cut, block: Tile) -> None:
    view = block[20:280, 10:310]
    assert not view.flags.c_contiguous
    for side, stored in ((97, 64), (128, 64), (99, 99)):
        assert_matches(cut, view, [[3, 5], [0, 0]], side, stored)
    assert_matches(cut, block[::-1], [[3, 5]], 97, 64)
    assert_matches(cut, np.ascontiguousarray(block.transpose(1, 0, 2)).transpose(1, 0, 2), [[3, 5]], 97, 64)


def test_order_of_threads_changes_no_bit(shim: Shim, block: Tile) -> None:
    origins = np.random.default_rng(0).integers(0, 150, (5, 2)).astype(np.int32)
    for side, stored in ((128, 128), (128, 64), (107, 61)):
        usual = on_cpu(shim)(block, origins, side, stored)
        for seed in (1, 2):
            for a, b in zip(usual, on_cpu(shim, seed)(block, origins, side, stored), strict=True):
                np.testing.assert_array_equal(a, b)


def test_more_tiles_than_a_launch_can_have(shim: Shim, block: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling_cuda, "MOST_TILES", 2)
    assert_matches(on_cpu(shim), block, [[k, 2 * k] for k in range(5)], 40, 20)


def test_no_origins(cut: Cut, block: Tile) -> None:
    tiles, figures = cut(block, np.empty((0, 2), np.int32), 64, 32)
    assert (tiles.shape, figures.shape) == ((0, 32, 32, 3), (0, 6))


def test_what_cannot_be_cut_is_refused(cut: Cut, block: Tile) -> None:
    with pytest.raises(ValueError, match="leaves the block of 331 x 300"):
        cut(block, np.array([[0, 0], [268, 0]], np.int32), 64, 32)
    with pytest.raises(ValueError, match="stored 65, side 64"):
        cut(block, np.zeros((1, 2), np.int32), 64, 65)


@pytest.mark.realdata
def test_matches_reference_on_a_real_slide(cut: Cut, data: Path) -> None:
    from openslide import OpenSlide

    with OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        block = np.array(slide.read_region((700, 300), 0, (800, 700)).convert("RGB"))
    for side in (256, 507, 512):
        assert_matches(cut, block, [[0, 0], [256, 180], [288, 188]], side, 256)

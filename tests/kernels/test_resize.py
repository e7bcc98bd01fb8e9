"""Resizing of a crop box: the float64 reference against Pillow, the compiled version against it."""

import numpy as np
import pytest
from PIL import Image

from pathprep.kernels import resize_cpu
from pathprep.kernels import resize_reference as reference
from pathprep.kernels.resize_reference import Bytes

# Sides of the tile, start, end, size of the view
CASES = [
    ((96, 96), (0, 0), (1, 1), 64),
    ((96, 96), (0, 0), (1, 1), 96),
    ((97, 61), (0.305, 0.411), (0.52, 0.633), 64),  # enlarged
    ((200, 300), (0.1, 0.2), (0.95, 0.9), 40),
    ((200, 300), (0.95, 0.2), (0.1, 0.9), 37),  # mirrored top and bottom
    ((64, 250), (0.7, 1), (1, 0.7), 33),  # left and right, at the corner
    ((500, 31), (0, 0), (1, 1), 7),  # 71 times smaller along y
    ((5, 4), (0, 0.2), (1, 0.9), 24),
    ((2, 2), (0, 0), (1, 1), 9),  # fewer numbers in a row than the kernel takes at once
    ((1, 1), (0.2, 0.1), (0.9, 0.8), 8),
]  # fmt: skip


def noise(height: int, width: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def compiled(tile: Bytes, start: object, end: object, size: int, turned: bool = False) -> Bytes:
    side = resize_cpu.padded(size)
    planes = np.full((3, side, side), np.nan, np.float32)
    resize_cpu.apply(tile, *map(float, (*start, *end)), turned, size, planes)  # type: ignore[misc]
    assert np.isfinite(planes[:, :size]).all()
    found = planes[:, :size, :size].transpose(1, 2, 0)
    assert np.array_equal(found, found.astype(np.uint8))
    return found.astype(np.uint8)


@pytest.mark.parametrize("case", [case for case in CASES if min(case[0]) > 5])
def test_the_reference_is_pillows_bicubic(case: tuple) -> None:
    """Within 2 levels, 1 on nearly all: Pillow rounds between its passes. It cuts the cubic off at the tile's
    border, where DALI goes on with the edge: compared where the cubic lies within."""
    (height, width), start, end, size = case
    if start[0] > end[0] or start[1] > end[1]:
        pytest.skip("Pillow has no mirrored box")
    tile = 64 + noise(height, width) // 2  # not cut off between the passes
    box = (width * start[1], height * start[0], width * end[1], height * end[0])
    theirs = np.asarray(Image.fromarray(tile).resize((size, size), Image.Resampling.BICUBIC, box))
    inside = [
        (np.abs(reference.weights(length * low, length * high, length, size))[:, [0, -1]] == 0).all(axis=1)
        for length, low, high in zip((height, width), start, end, strict=True)
    ]
    different = np.abs(reference.apply(tile, start, end, size).astype(int) - theirs)[np.ix_(*inside)]
    if different.size:
        assert different.max() <= 2
        assert (different > 1).mean() < 0.01


@pytest.mark.parametrize("case", CASES)
def test_compiled_is_the_reference(case: tuple) -> None:
    """But where float32 rounds to the next level."""
    shape, start, end, size = case
    tile = noise(*shape)
    expected, found = reference.apply(tile, start, end, size), compiled(tile, start, end, size)
    different = np.abs(found.astype(int) - expected)
    assert different.max() <= 1
    assert (different > 0).mean() < 5e-3
    assert np.array_equal(compiled(tile, start, end, size, turned=True), found.transpose(1, 0, 2))


def test_a_box_mirrored_is_the_mirrored_view() -> None:
    tile = noise(120, 90)
    straight = compiled(tile, (0.2, 0.1), (0.9, 0.8), 32)
    assert np.array_equal(compiled(tile, (0.9, 0.1), (0.2, 0.8), 32)[::-1], straight)
    assert np.array_equal(compiled(tile, (0.2, 0.8), (0.9, 0.1), 32)[:, ::-1], straight)


def test_nothing_beside_the_tile_is_read_or_beside_the_view_written() -> None:
    """The last bytes of the tile's memory and the planes are each other's neighbours' only here."""
    memory = np.full(40 * 30 * 3 + 64, 255, np.uint8)
    tile = memory[: 40 * 30 * 3].reshape(40, 30, 3)
    tile[:] = 7
    assert (compiled(tile, (0.5, 0.5), (1, 1), 21) == 7).all()
    planes = np.full(2 * 3 * 24 * 24, -1, np.float32)
    resize_cpu.apply(tile, 0.0, 0.0, 1.0, 1.0, False, 21, planes[: 3 * 24 * 24].reshape(3, 24, 24))
    assert (planes[3 * 24 * 24 :] == -1).all()

"""The CUDA kernel that applies matrices, against the float64 reference; see test_macenko_cuda.py."""

import numpy as np
import pytest
from helpers.macenko_cases import (
    assert_levels,
)
from helpers.macenko_cuda import Runner, Tile, ragged
from hypothesis import given, settings
from hypothesis import strategies as st

from pathprep.kernels import macenko_reference as reference


@settings(max_examples=100, deadline=None)
@given(
    values=st.sampled_from([9, 12]).flatmap(lambda n: st.lists(st.floats(-30, 30), min_size=n, max_size=n)),
    io=st.sampled_from([200.0, 240.0, 255.0]),
)
def test_apply_matches_reference_for_any_matrix(applier: Runner, values: list[float], io: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    tile = np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=1).reshape(16, 16, 3)
    tile = np.tile(tile, (2, 2, 1))  # two strips of 512
    matrix = np.array(values).reshape(3, -1)
    assert_levels(applier.apply([tile], matrix[None], io)[0], reference.apply(tile, matrix, io))


def test_apply_to_any_sizes(runner: Runner, stained: Tile) -> None:
    tiles = ragged(stained)
    matrices = np.random.default_rng(0).normal(0, 0.3, (len(tiles), 3, 3)) + np.eye(3)
    for tile, matrix, found in zip(tiles, matrices, runner.apply(tiles, matrices), strict=True):
        expected = reference.apply(tile, matrix)
        assert_levels(found, expected)
        assert (found == expected).mean() > 0.99  # truncated, not rounded


@pytest.mark.parametrize("io", [200, 230, 240, 255])
def test_empty_field_stays_io_to_the_level(runner: Runner, io: int) -> None:
    """OD 0, so I0 exactly, whatever the matrix: a hair below it would be truncated."""
    field = np.full((32, 32, 3), io - 1, np.uint8)
    matrices = np.random.default_rng(0).uniform(-2, 2, (100, 3, 3))
    assert (np.stack(runner.apply([field] * 100, matrices, float(io))) == io).all()


def test_identity_copies(runner: Runner, stained: Tile) -> None:
    tiles = ragged(stained)
    for tile, found in zip(tiles, runner.apply(tiles, np.tile(np.eye(3), (len(tiles), 1, 1))), strict=True):
        np.testing.assert_array_equal(found, tile)


def test_matrices_that_are_not_finite_give_bytes(runner: Runner, stained: Tile) -> None:
    found = runner.apply([stained[0]], np.full((1, 3, 3), np.nan))[0]
    assert (found == 255).all()
    matrix = np.eye(3) * 0.9
    matrix[1, 2] = np.inf  # one row, one channel
    found = runner.apply([stained[0]], matrix[None])[0]
    assert set(np.unique(found[..., 1])) == {0, 255}
    assert_levels(found[..., ::2], reference.apply(stained[0], np.eye(3) * 0.9)[..., ::2])

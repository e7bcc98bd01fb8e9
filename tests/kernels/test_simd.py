"""What compiled code does to LANES numbers at once, against numpy."""

import numpy as np

from pathprep.kernels.compiled import jit
from pathprep.kernels.simd import LANES, add, levels, load, load_bytes, mul, splat, store, transpose


@jit
def sums(array: np.ndarray, pixels: np.ndarray, at: int, factor: float, out: np.ndarray) -> None:
    store(out, at, add(mul(splat(factor), load(array, at)), load_bytes(pixels, at + 1)))


@jit
def rounded(array: np.ndarray, out: np.ndarray) -> None:
    for at in range(0, len(array), LANES):
        store(out, at, levels(load(array, at)))


@jit
def turned(array: np.ndarray, at: int, step: int, out: np.ndarray, to: int, pace: int) -> None:
    transpose(array, at, step, out, to, pace)


def test_a_product_and_a_sum_are_each_rounded() -> None:
    """Not fused, which would round once."""
    rng = np.random.default_rng(0)
    array, pixels = rng.normal(0, 100, 40).astype(np.float32), rng.integers(0, 256, 40, np.uint8)
    for at in (0, 3, 40 - LANES - 1):
        out = np.full(40, -1, np.float32)
        sums(array, pixels, at, 1.1, out)
        here = slice(at, at + LANES)
        expected = np.float32(1.1) * array[here] + pixels[at + 1 : at + 1 + LANES].astype(np.float32)
        assert np.array_equal(out[here], expected)
        assert (np.delete(out, here) == -1).all()


def test_levels_are_the_nearest_of_0_to_255() -> None:
    values = [-7, -0.5, 0, 0.49, 0.5, 1.5, 127.49, 254.5, 254.49, 255.4, 255.5, 256, 1e9, -1e9, 3, 99.5]
    out = np.empty(len(values), np.float32)
    rounded(np.array(values, np.float32), out)
    assert np.array_equal(out, np.clip(np.floor(np.array(values) + 0.5), 0, 255))


def test_a_square_is_transposed_where_it_lies() -> None:
    picture = np.arange(20 * 31, dtype=np.float32)
    out = np.full(17 * 23, -1, np.float32)
    turned(picture, 2 * 31 + 5, 31, out, 3 * 23 + 4, 23)
    found = out.reshape(17, 23)
    square = slice(3, 3 + LANES), slice(4, 4 + LANES)
    assert np.array_equal(found[square], picture.reshape(20, 31)[2 : 2 + LANES, 5 : 5 + LANES].T)
    found[square] = -1
    assert (found == -1).all()

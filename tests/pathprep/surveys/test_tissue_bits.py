"""Masks in few bytes: what is asked of the bits is what the mask itself says."""

import base64
import zlib
from dataclasses import replace

import numpy as np
import pytest

from pathprep.slides import tissue
from pathprep.surveys.tissue_bits import PackedMask


@pytest.fixture(scope="module")
def mask() -> tissue.Mask:
    rng = np.random.default_rng(3)
    return np.kron(rng.random((9, 7)) < 0.5, np.ones((5, 3), bool))[:, :19]  # a width that ends within a byte


def test_back_and_forth(mask: tissue.Mask) -> None:
    packed = PackedMask.of(mask)
    assert (packed.width, packed.height, packed.tissue) == (19, 45, mask.sum())
    np.testing.assert_array_equal(packed.unpacked().mask(), mask)


def test_every_pixel_of_tissue_has_its_number(mask: tissue.Mask) -> None:
    bits = PackedMask.of(mask).unpacked()
    rows, columns = np.nonzero(mask)
    assert [bits.pixel(n) for n in range(bits.count)] == list(
        zip(columns.tolist(), rows.tolist(), strict=True)
    )


def test_shares_are_those_of_the_tiling(mask: tissue.Mask) -> None:
    """tissue.fractions, which `pathprep shard` counts by, is the oracle; boxes beyond the edge too."""
    bits, scale = PackedMask.of(mask).unpacked(), 7.3
    width, height = round(19 * scale), round(45 * scale)
    for side, stride in ((31, 17), (12, 12), (100, 40), (2, 3)):
        columns, rows = (max(0, (length - side) // stride + 1) for length in (width, height))
        expected = tissue.fractions(mask, width, height, columns, rows, side, stride)
        x, y = 19 / width, 45 / height
        found = [
            [
                bits.share(c * stride * x, r * stride * y, (c * stride + side) * x, (r * stride + side) * y)
                for c in range(columns)
            ]
            for r in range(rows)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert bits.share(18.5, 44.5, 20.5, 46.5) == pytest.approx(mask[44, 18] * 0.25 / 4)


@pytest.mark.parametrize("data", ["", "!!", base64.b64encode(b"x").decode()])
def test_damaged_bytes(mask: tissue.Mask, data: str) -> None:
    with pytest.raises(ValueError, match="mask|base64|padding"):
        replace(PackedMask.of(mask), data=data).unpacked()


def test_bytes_of_another_size_and_count(mask: tissue.Mask) -> None:
    packed = PackedMask.of(mask)
    bomb = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    for wrong in (replace(packed, height=44), replace(packed, data=bomb), replace(packed, tissue=1)):
        with pytest.raises(ValueError, match="its mask has"):
            wrong.unpacked()


def test_a_slide_without_tissue() -> None:
    bits = PackedMask.of(np.zeros((4, 9), bool)).unpacked()
    assert bits.count == 0
    assert bits.share(0, 0, 9, 4) == 0

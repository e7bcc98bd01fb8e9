"""Local binary patterns against scikit-image's, colours against numpy's."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.feature import local_binary_pattern

from pathtrain.features.texture import COLOURS, PATTERNS, SCALES, colours, patterns


@pytest.mark.parametrize(("height", "width"), [(40, 40), (31, 64)])
def test_patterns_are_those_of_scikit_image(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    pixels[1, :20] = 90  # flat, where all are equal
    found = patterns(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()
    assert found.shape == (2, PATTERNS)
    for number, image in enumerate(pixels):
        grey = np.rint(rgb2gray(image) * 255).astype(np.uint8)
        expected = []
        for points, radius in SCALES:
            codes = local_binary_pattern(grey, points, radius, "uniform")[radius:-radius, radius:-radius]
            expected.append(np.bincount(codes.astype(int).ravel(), minlength=points + 2) / codes.size)
        # a pixel or two where a circle's point is as bright as the centre but for rounding
        np.testing.assert_allclose(
            found[number], np.concatenate(expected), atol=0.002 if number == 0 else 0.02
        )


def test_turned_by_a_quarter_and_brighter_is_the_same_texture() -> None:
    image = torch.from_numpy(np.random.default_rng(1).integers(20, 120, (1, 1, 48, 48)) / 255).float()
    image = image.expand(1, 3, 48, 48)
    expected = patterns(image)
    torch.testing.assert_close(patterns(torch.rot90(image, 1, (2, 3))), expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(patterns(image + 100 / 255), expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(expected[:, : SCALES[0][0] + 2].sum(), torch.tensor(1.0))


def test_colours_are_means_and_sds() -> None:
    images = torch.rand(3, 3, 20, 30)
    found = colours(images).numpy()
    assert found.shape == (3, COLOURS)
    np.testing.assert_allclose(found[:, :3], images.mean(dim=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(found[:, 3:], images.numpy().std(axis=(2, 3)), atol=1e-6)

"""The compiled blur against scipy's Gaussian in float64."""

import numpy as np
import pytest
from scipy import ndimage

from pathprep.kernels import blur_cpu


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("shape", [(40, 56), (5, 4), (1, 9)])
def test_it_is_a_gaussian_of_three_sigma_mirrored_at_the_border(sigma: float, shape: tuple[int, int]) -> None:
    height, width = shape
    planes = np.random.default_rng(1).integers(0, 256, (3, height + 3, -(-width // 8) * 8)).astype(np.float32)
    view, out = planes[:, :height, :width], np.full_like(planes, -1)
    reach = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(
        view.astype(float), (0, sigma, sigma), mode="mirror", radius=(0, reach, reach)
    )
    blur_cpu.apply(planes, height, width, sigma, out)
    found = out[:, :height, :width]
    assert np.abs(found - expected).max() < 0.51
    assert np.array_equal(found, found.round())

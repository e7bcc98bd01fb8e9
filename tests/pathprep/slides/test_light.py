"""The light behind a slide: the colour of its glass at every place."""

import numpy as np

from pathprep.slides.light import Light, light, whitened

GLASS = np.array([240, 236, 242], np.int32)


def _gradient() -> np.ndarray:
    """Glass that is darker and pinker to the right, with tissue in the middle."""
    columns = np.arange(500)[None, :, None]
    pixels = (
        GLASS
        - columns * np.array([0.01, 0.03, 0.015])
        + np.random.default_rng(0).normal(0, 0.7, (400, 500, 3))
    )
    pixels[100:300, 200:300] = np.random.default_rng(1).uniform(90, 210, (200, 100, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def test_it_follows_the_glass_also_under_tissue() -> None:
    pixels = _gradient()
    found = light(pixels, 8.0, GLASS)
    seen = found.rows(slice(0, 400), (400, 500))
    wanted = GLASS - 0.5 - np.arange(500)[None, :, None] * np.array([0.01, 0.03, 0.015])
    assert np.abs(seen - wanted).max() < 1.5
    assert 0 < found.noise <= 3
    np.testing.assert_allclose(found.rows(slice(130, 170), (400, 500)), seen[130:170], rtol=1e-5)


def test_where_there_is_no_calm_glass_it_is_the_slides() -> None:
    rough = np.random.default_rng(0).integers(60, 200, (90, 90, 3)).astype(np.uint8)
    assert np.abs(light(rough, 8.0, GLASS).colours - GLASS).max() < 1e-3
    assert light(rough[:1, :1], 8.0, GLASS).colours.shape == (1, 1, 3)


def test_white_is_white() -> None:
    even = Light.even(GLASS).rows(slice(0, 5), (5, 6))
    np.testing.assert_allclose(
        whitened(np.broadcast_to(GLASS.astype(np.uint8), (5, 6, 3)), even), 255, rtol=1e-5
    )


def test_white_where_nothing_was_scanned_is_not_the_only_glass() -> None:
    pixels = np.full((300, 400, 3), 255, np.uint8)
    noise = np.random.default_rng(0).normal(0, 1, (200, 300, 3))
    pixels[50:250, 50:350] = (np.array([240, 231, 238]) + noise).astype(np.uint8)
    found = light(pixels, 8.0, np.array([255, 255, 255], np.int32)).rows(slice(140, 160), (300, 400))
    assert np.abs(found[:, 150:250] - (240, 231, 238)).max() < 2


def test_a_flat_pale_piece_is_not_glass_because_it_is_calm() -> None:
    pixels = np.clip(242 + np.random.default_rng(0).normal(0, 1, (300, 400, 3)), 0, 255).astype(np.uint8)
    pixels[100:200, 100:300] = pixels[100:200, 100:300] - np.array([13, 9, 4], np.uint8)
    found = light(pixels, 8.0, np.array([242, 242, 242], np.int32)).rows(slice(140, 160), (300, 400))
    assert np.abs(found - 241.5).max() < 2

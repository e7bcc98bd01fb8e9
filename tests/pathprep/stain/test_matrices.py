"""Normalising, jitter and HED jitter as matrices in optical density."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import combine_stains, hed_from_rgb, rgb_from_hed, separate_stains

from pathprep import stain
from pathprep.kernels import macenko_reference as reference
from pathprep.stain import Jitter, StainFit, Status, Target

Floats = npt.NDArray[np.float64]

COUNT = 200


@pytest.fixture(scope="module")
def fits() -> StainFit:
    """Fits of all statuses; the vectors of two plausible stains, moved a little."""
    rng = np.random.default_rng(0)
    he = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]]) + rng.normal(0, 0.05, (COUNT, 3, 2))
    he /= np.linalg.norm(he, axis=1, keepdims=True)
    max_c = rng.uniform(0.5, 3, (COUNT, 2))
    status = rng.integers(0, 3, COUNT).astype(np.uint8)
    unfitted = status == Status.UNFITTED
    he[unfitted], max_c[unfitted] = 0, 0
    return StainFit(he, max_c, np.full(COUNT, 1000), status)


def degrees(a: Floats, b: Floats) -> Floats:
    """Angles between vectors (..., 3)."""
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_normalising_is_the_references_matrix(fits: StainFit) -> None:
    target = Target.default()
    for he, max_c, status, found in zip(
        fits.he, fits.max_c, fits.status, stain.matrix(fits, target), strict=True
    ):
        if status == Status.UNFITTED:
            np.testing.assert_array_equal(found, np.eye(3))
        else:
            np.testing.assert_allclose(
                found, reference.matrix(he, max_c, target.he, target.max_c), rtol=1e-10, atol=1e-12
            )


def test_a_tiles_own_stains_change_nothing(fits: StainFit) -> None:
    np.testing.assert_allclose(stain.matrix(fits), np.tile(np.eye(3), (COUNT, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("target", [None, Target.default()])
def test_jitter_of_nothing_changes_nothing(fits: StainFit, target: Target | None) -> None:
    rng = np.random.default_rng(0)
    found = stain.matrix(fits, target, Jitter(0.0, 0.0), rng)
    np.testing.assert_allclose(found[:, :, :3], stain.matrix(fits, target), atol=1e-12)
    assert not found[:, :, 3].any()


def test_jitter_scales_concentrations_within_its_range(fits: StainFit) -> None:
    use = fits.status != Status.UNFITTED
    found = stain.matrix(fits, None, Jitter(0.2), np.random.default_rng(0))
    np.testing.assert_array_equal(found[~use], np.tile(np.eye(3, 4), ((~use).sum(), 1, 1)))
    found = found[:, :, :3]
    for k in range(2):  # a stain's vector is scaled and keeps its direction
        moved = np.einsum("nij,nj->ni", found[use], fits.he[use, :, k])
        gain = np.linalg.norm(moved, axis=1)
        assert degrees(moved, fits.he[use, :, k]).max() < 1e-4
        assert 0.8 <= gain.min() < 0.85
        assert 1.15 < gain.max() <= 1.2
    normal = np.cross(fits.he[use, :, 0], fits.he[use, :, 1])
    np.testing.assert_allclose(np.einsum("nij,nj->ni", found[use], normal), normal, atol=1e-12)


@pytest.mark.parametrize("target", [None, Target.default()])
def test_jitter_turns_vectors_within_its_range(fits: StainFit, target: Target | None) -> None:
    use = fits.status != Status.UNFITTED
    found = stain.matrix(fits, target, Jitter(0.0, 6.0), np.random.default_rng(0))[:, :, :3]
    for k in range(2):
        start = fits.he[use, :, k] if target is None else target.he[None, :, k]
        turned = np.einsum("nij,nj->ni", found[use], fits.he[use, :, k])
        angles = degrees(turned, start)
        assert 4 < angles.max() <= 6 + 1e-6
        assert angles.min() < 2
        if target is None:  # turned, not scaled
            np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("target", [None, Target.default()])
def test_shift_adds_to_the_concentrations(fits: StainFit, target: Target | None) -> None:
    """Written out for each tile, with all of jitter: unmix, g c + s, mix with the turned vectors."""
    numbers = np.random.default_rng(3).uniform(-1, 1, (COUNT, stain.NUMBERS))
    found = stain.matrix(fits, target, Jitter(0.2, 5, 0.3), numbers)
    turned = stain.matrix(fits, target, Jitter(0.0, 5), numbers)[
        :, :, :3
    ]  # no gains: unmixed vectors, turned
    od = np.random.default_rng(4).uniform(0, 2, (50, 3))
    for number, he, max_c, status, m, t in zip(
        numbers, fits.he, fits.max_c, fits.status, found, turned, strict=True
    ):
        if status == Status.UNFITTED:
            np.testing.assert_array_equal(m, np.eye(3, 4))
            continue
        amounts = np.linalg.pinv(he) @ od.T
        scale = np.ones(2) if target is None else target.max_c / max_c
        moved = t @ he / scale  # where each unit vector goes
        mixed = moved @ ((1 + 0.2 * number[:2])[:, None] * scale[:, None] * amounts + 0.3 * number[6:, None])
        beyond = 0.0 if target is not None else (od.T - he @ amounts)
        np.testing.assert_allclose(m[:, :3] @ od.T + m[:, 3:], mixed + beyond, atol=1e-9)


def test_numbers_may_be_given_instead_of_a_generator(fits: StainFit) -> None:
    numbers = np.random.default_rng(3).uniform(-1, 1, (COUNT, stain.NUMBERS))
    one = stain.matrix(fits, Target.default(), Jitter(0.1, 3), np.random.default_rng(3))
    np.testing.assert_array_equal(one, stain.matrix(fits, Target.default(), Jitter(0.1, 3), numbers))


def test_hed_jitter_is_scikit_images() -> None:
    """Its rgb2hed and hed2rgb, the channels scaled and shifted between them."""
    numbers = np.random.default_rng(1).uniform(-1, 1, (5, 6))
    unit = -np.log(1e-6) * np.linalg.norm(stain.matrices.RUIFROK, axis=1)  # OD of their unit of each stain
    grey = np.random.default_rng(2).uniform(0.05, 1, (1000, 3))
    for number, found in zip(numbers, stain.hed(5, Jitter(0.2, shift=0.1), numbers), strict=True):
        scaled = separate_stains(grey, hed_from_rgb) * (1 + 0.2 * number[:3]) + 0.1 * number[3:] / unit
        kept = (separate_stains(grey, hed_from_rgb) > 0).all(axis=1)  # elsewhere theirs are clipped
        expected = -np.log(combine_stains(scaled, rgb_from_hed)[kept])
        exact = -np.log(grey[kept]) @ found[:, :3].T + found[:, 3]
        inside = (exact > 1e-3).all(axis=1)
        assert inside.sum() > 50
        np.testing.assert_allclose(exact[inside], expected[inside], rtol=1e-6)


def test_hed_jitter_of_nothing_is_the_identity() -> None:
    found = stain.hed(4, Jitter(0.0), np.random.default_rng(0))
    np.testing.assert_allclose(found, np.tile(np.eye(3, 4), (4, 1, 1)), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda fits: stain.matrix(fits, None, Jitter()), "give both or neither"),
        (lambda fits: stain.matrix(fits, None, None, np.random.default_rng(0)), "give both or neither"),
        (lambda fits: stain.matrix(fits, None, Jitter(), np.zeros((COUNT, 5))), r"expected \(200, 8\)"),
        (lambda _: stain.hed(3, Jitter(), np.zeros((3, 2))), r"expected \(3, 6\)"),
        (lambda _: stain.hed(3, Jitter(), None), "needs an rng"),
        (lambda _: stain.hed(3, Jitter(0.1, 3), np.random.default_rng(0)), "turns no vectors"),
        (lambda _: Jitter(shift=2), "shift is 2"),
        (lambda _: Jitter(-0.1), "0 to 1"),
        (lambda _: Jitter(0.1, 90), "0 to 45"),
    ],
)
def test_wrong_arguments(fits: StainFit, call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(fits)

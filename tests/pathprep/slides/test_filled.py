"""Many polygons at once: each as if it were alone, at a cost that does not grow with the picture."""

import time

import numpy as np
import numpy.typing as npt
import pytest

from pathprep.slides import filled
from pathprep.slides.filled import fill, fill_all

Ring = npt.NDArray[np.float64]


def inside(ring: Ring, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centre an odd number of edges lies to the left of, edge by edge."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    odd = np.zeros(shape, bool)
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if ay != by:
            odd ^= ((ay <= y) != (by <= y)) & (ax + (y - ay) * (bx - ax) / (by - ay) <= x)
    return odd


def expected(polygons: list[list[Ring]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    total = np.zeros(shape, bool)
    for outline, *holes in polygons:
        drawn = inside(outline, shape)
        for hole in holes:
            drawn &= ~inside(hole, shape)
        total |= drawn
    return total


def scribble(rng: np.random.Generator, centre: Ring, radius: float) -> Ring:
    """A ring that mostly crosses itself; its points seldom lie on centres of pixels."""
    return np.round(centre + rng.uniform(-radius, radius, (int(rng.integers(3, 12)), 2)), 3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("held", [1 << 19, 20])
def test_overlaps_and_holes_are_as_of_each_polygon_alone(
    monkeypatch: pytest.MonkeyPatch, seed: int, held: int
) -> None:
    for name in ("POINTS", "CROSSINGS", "STRIP"):
        monkeypatch.setattr(filled, name, held)
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(20, 60)), int(rng.integers(20, 60))
    polygons = []
    for _ in range(int(rng.integers(1, 15))):
        centre, radius = rng.uniform(-10, 70, 2), float(rng.choice([4, 10, 60]))
        holes = [scribble(rng, centre, radius / 2) for _ in range(int(rng.integers(0, 4)))]
        polygons.append([scribble(rng, centre, radius), *holes])
    polygons = [each for each in polygons if inside(each[0], shape).any()]  # tiny ones: test_outlines
    mask = np.zeros(shape, bool)
    fill_all(mask, polygons, (0.0, 0.0), (1.0, 1.0))
    np.testing.assert_array_equal(mask, expected(polygons, shape))


def cells(count: int, width: int, height: int) -> list[Ring]:
    rng = np.random.default_rng(1)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    return [
        centre + circle * rng.uniform(0.7, 2)
        for centre in rng.uniform(5, (width - 5, height - 5), (count, 2))
    ]


@pytest.mark.parametrize("holes", [False, True])
def test_100_000_polygons_or_holes_take_seconds(holes: bool) -> None:
    """Each by itself on the whole picture, holes took three quarters of an hour."""
    width, height = 3000, 2500
    drawn = cells(100_000, width, height)
    mask = np.zeros((height, width), bool)
    start = time.process_time()
    if holes:
        fill(mask, [np.array([[0, 0], [width, 0], [width, height], [0, height]], float), *drawn])
    else:
        fill_all(mask, [[ring] for ring in drawn])
    assert time.process_time() - start < 20
    part = np.zeros((height, width), bool)
    fill_all(part, [[ring] for ring in drawn])
    np.testing.assert_array_equal(mask, ~part if holes else part)


def test_nothing_is_filled_by_nothing() -> None:
    mask = np.zeros((5, 5), bool)
    fill_all(mask, [])
    fill(mask, [np.array([[9, 9], [20, 9], [20, 20]], float)])
    assert not mask.any()

"""Copies through scanners: plismbench's two measures by their definition, and what it cannot be."""

import numpy as np
import pytest

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts.copies import TOP, Copies, pair, retrieved


def unit(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def plism(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Share of tiles with their copy among the k nearest of both slides, the mean of two directions."""
    both = np.concatenate([a, b]).astype(np.float64)
    n, cosine = len(a), both @ both.T
    hits = []
    for row in range(2 * n):
        order = [each for each in np.argsort(-cosine[row], kind="stable") if each != row][:k]
        hits.append((row + n if row < n else row - n) in order)
    return (np.mean(hits[:n]) + np.mean(hits[n:])) / 2


def tiles(
    scanners: int = 2, stains: int = 2, n: int = 30, shift: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, Copies]:
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(n, 8))
    points, scanner, stain, name = [], [], [], []
    for one in range(scanners):
        for two in range(stains):
            points.append(places + shift * rng.normal(size=8) + 0.3 * rng.normal(size=(n, 8)))
            scanner += [f"s{one}"] * n
            stain += [f"t{two}"] * n
            name += [str(each) for each in range(n)]
    made = Copies.of("tiles", ["scanner", "stain"], [scanner, stain], name, None)
    return np.concatenate(points).astype(np.float32), made


def test_both_measures_are_plismbenchs() -> None:
    points, _made = tiles()
    a, b = unit(points[:30]), unit(points[30:60])
    found = pair(a, b)
    assert found["cosine"].mean() == pytest.approx(np.mean((a.astype(float) * b).sum(axis=1)))
    for k in TOP:
        assert found[f"top{k}"].mean() == pytest.approx(plism(a, b, k))


def test_pairs_are_told_by_what_differs_and_the_leaderboard_is_the_mean_of_four_medians() -> None:
    points, made = tiles(scanners=3)
    found = retrieved(points, made)
    assert found.facts["pairs"] == 15
    slides = {slide: unit(points[number * 30 : number * 30 + 30]) for number, slide in enumerate(made.slides)}
    across = [
        plism(slides[one], slides[two], 10)
        for one in slides for two in slides
        if one < two and one[0] != two[0] and one[1] == two[1]
    ]  # fmt: skip
    assert len(across) == 6
    ones = np.ones((1, len(made.groups)))
    assert found.units["top10_scanner"].figure(ones)[0] == pytest.approx(np.mean(across))
    assert found.figures["top10_scanner_median"] == pytest.approx(np.median(across))
    four = [
        found.figures[f"{key}_median"] for key in ("cosine_all", "top10_scanner", "top10_stain", "top10_both")
    ]
    assert found.figures["leaderboard"] == pytest.approx(np.mean(four))


def test_exact_copies_are_nearest_even_where_other_tiles_are_alike() -> None:
    # plismbench drops the first neighbour as the tile itself, which a copy at distance 0 can be
    a = unit(np.random.default_rng(0).normal(size=(20, 8)))
    found = pair(a, a.copy())
    assert found["top1"].mean() == 1
    assert found["cosine"] == pytest.approx(np.ones(20))


def test_one_scanner_column_is_all_pairs() -> None:
    points, _ = tiles(stains=1)
    made = Copies.of("tiles", ["scanner"], [["a"] * 30 + ["b"] * 30], [str(n % 30) for n in range(60)], None)
    found = retrieved(points, made)
    assert set(found.units) == {"cosine_all", *(f"top{k}_all" for k in TOP)}
    assert "leaderboard" not in found.figures


def test_a_tile_twice_and_no_copies_say_so() -> None:
    with pytest.raises(UsageError, match="the tile 1 is twice at a"):
        Copies.of("tiles", ["scanner"], [["a", "a"]], ["1", "1"], None)
    with pytest.raises(UsageError, match="share two tiles"):
        Copies.of("tiles", ["scanner"], [["a", "b"]], ["1", "2"], None)

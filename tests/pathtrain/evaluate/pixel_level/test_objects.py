"""Panoptic quality, AJI and detection against brute force, torchmetrics and known answers."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.segmented import discs
from torchmetrics.functional.detection import panoptic_quality

from pathtrain.data.segmented.truth import IGNORED
from pathtrain.evaluate.pixel_level.objects import (
    Objects,
    aggregated_jaccard,
    classed,
    compare,
    found,
    overlaps,
    paired,
    quality,
)
from pathtrain.params.segmentation import ObjectParams

Ints = npt.NDArray[np.int32]
PARAMS = ObjectParams()


def drawn(seed: int, count: int = 5, side: int = 40) -> Ints:
    """Rectangles over each other, with gaps in their numbers."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((side, side), np.int32)
    for number in range(count):
        top, left = rng.integers(0, side - 8, 2)
        canvas[top : top + rng.integers(3, 14), left : left + rng.integers(3, 14)] = 3 * number + 2
    return canvas


def moved(true: Ints, seed: int) -> Ints:
    """The same, shifted by little, one object lost and one more."""
    guess = np.roll(true, (1, -1), (0, 1)) + 0
    guess[guess == guess.max()] = 0
    guess[-4:, -4:] = 90 + seed
    return guess


def brute_pq(true: Ints, guess: Ints) -> tuple[float, float, float]:
    numbers = [[n for n in np.unique(each) if n] for each in (true, guess)]
    met = []
    for first in numbers[0]:
        for second in numbers[1]:
            a, b = true == first, guess == second
            iou = (a & b).sum() / (a | b).sum()
            if iou > 0.5:
                met.append(iou)
    dq = len(met) / (len(met) + (len(numbers[0]) - len(met)) / 2 + (len(numbers[1]) - len(met)) / 2)
    sq = sum(met) / (len(met) + 1e-6)
    return dq, sq, dq * sq


def brute_aji(true: Ints, guess: Ints) -> float:
    left = [n for n in np.unique(guess) if n]
    shared = union = 0
    used = set()
    for first in [n for n in np.unique(true) if n]:
        a = true == first
        best = max(left, key=lambda n: ((a & (guess == n)).sum() / (a | (guess == n)).sum(), -n))
        b = guess == best
        if (a & b).any():
            shared, union = shared + (a & b).sum(), union + (a | b).sum()
            used.add(best)
        else:
            union += a.sum()
    union += sum((guess == n).sum() for n in left if n not in used)
    return float(shared / union)


@pytest.mark.parametrize("seed", range(8))
def test_quality_and_aji_are_those_of_brute_force(seed: int) -> None:
    true = drawn(seed)
    guess = moved(true, seed)
    pairs = overlaps(true, guess)
    dq, sq, pq, _ = quality(pairs)
    assert (dq, sq, pq) == pytest.approx(brute_pq(true, guess), abs=1e-12)
    assert aggregated_jaccard(pairs) == pytest.approx(brute_aji(true, guess), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_quality_is_that_of_torchmetrics(seed: int) -> None:
    true = drawn(seed)
    guess = moved(true, seed)

    def pairs_of(values: Ints) -> torch.Tensor:
        # one class of things, 0, and stuff, 1, for the background
        return torch.from_numpy(np.stack([values == 0, values], axis=-1).astype(np.int64))[None]

    theirs = panoptic_quality(
        pairs_of(guess), pairs_of(true), things={0}, stuffs={1}, return_per_class=True, return_sq_and_rq=True
    )[0]
    dq, sq, pq, _ = quality(overlaps(true, guess))
    assert (pq, sq, dq) == pytest.approx(theirs.tolist(), abs=1e-5)


def test_known_answers() -> None:
    true = drawn(1)
    same = overlaps(true, true)
    assert quality(same)[:3] == pytest.approx((1, 1, 1), abs=1e-6)
    assert aggregated_jaccard(same) == pytest.approx(1, abs=1e-6)
    nothing = overlaps(true, np.zeros_like(true))
    assert quality(nothing)[:3] == (0, 0, 0)
    assert aggregated_jaccard(nothing) == 0
    assert np.isnan(quality(overlaps(np.zeros_like(true), true))[2])
    assert np.isnan(aggregated_jaccard(overlaps(np.zeros_like(true), true)))
    half = np.zeros((4, 8), np.int32)
    half[:, :4] = 1  # of 32 px, 16; IoU exactly .5 is no pair
    whole = np.ones((4, 8), np.int32)
    assert quality(overlaps(half, whole))[2] == 0


def test_pairs_are_hover_nets_assignment() -> None:
    """Of least total distance, and only then by the radius: the near pair of a far assignment is lost."""
    true = np.array([[0.0, 0.0], [0.0, 10.0]])
    rows, columns = paired(true, np.array([[0.0, 9.0], [0.0, 30.0]]), 12)
    assert list(zip(rows, columns, strict=True)) == [(0, 0)]
    assert [len(each) for each in paired(true, np.zeros((0, 2)), 12)] == [0, 0]
    rows, columns = paired(true, true[::-1], 12)
    assert columns.tolist() == [1, 0]


def test_objects_have_the_class_of_most_pixels_and_ignored_ones_are_none() -> None:
    numbers = np.array([[5, 5, 5, 0, 9, 9, 2]], np.int32)
    classes = np.array([[1, 2, 2, 0, IGNORED, IGNORED, 3]], np.uint8)
    objects = classed(numbers, classes)
    assert objects.map.tolist() == [[2, 2, 2, 0, 0, 0, 1]]
    assert objects.classes.tolist() == [3, 2]
    assert classed(numbers, classes, smallest=2).classes.tolist() == [2]
    full = classed(np.ones((2, 2), np.int32), np.ones((2, 2), np.uint8))
    assert full.map.tolist() == [[1, 1], [1, 1]]
    assert len(classed(np.zeros((2, 2), np.int32), np.zeros((2, 2), np.uint8)).classes) == 0


def test_discs_are_found_again_and_touching_ones_parted() -> None:
    _, true, classes = discs(80, seed=3, count=9)
    objects = found(classes.astype(np.uint8), PARAMS)
    assert len(objects.classes) == 9
    assert quality(overlaps(true, objects.map))[:3] == pytest.approx((1, 1, 1), abs=1e-6)
    rows, columns = np.mgrid[:40, :60]
    both = sum((rows - 20) ** 2 + (columns - c) ** 2 <= 100 for c in (20, 37)) > 0
    assert len(found(both.astype(np.uint8), PARAMS).classes) == 2
    assert len(found(np.zeros((20, 20), np.uint8), PARAMS).classes) == 0


def test_figures_of_an_image() -> None:
    """Three true objects: one met, one met as another class, one lost; and one that is not there."""
    true = Objects(np.zeros((60, 60), np.int32), np.array([1, 2, 2]))
    guess = Objects(np.zeros((60, 60), np.int32), np.array([1, 1, 2]))
    for number, (row, column) in enumerate([(5, 5), (5, 30), (40, 5)], start=1):
        true.map[row : row + 8, column : column + 8] = number
    for number, (row, column) in enumerate([(5, 5), (5, 31), (50, 50)], start=1):
        guess.map[row : row + 8, column : column + 8] = number
    sums = compare(true, guess, 3, ObjectParams(radius=5))
    value = {key: above / below for key, (above, below) in sums.items() if len(above) == 1}
    iou = 56 / 72
    assert value["f1"] == value["f1_iou"] == pytest.approx(4 / 6)
    assert value["bpq"] == pytest.approx(4 / 6 * (1 + iou) / 2, abs=1e-6)
    # class 1: one met, one wrong; class 2: nothing of two met, one that is not there
    assert value["pq"] == pytest.approx((1 * 2 / 3 + 0) / 2, abs=1e-5)
    assert value["aji"] == pytest.approx((64 + 56) / (64 + 72 + 64 + 64), abs=1e-6)
    twice, counts = sums["f1_class"]
    assert (twice / counts).tolist() == pytest.approx([2 / (2 + 2), 0])
    assert counts.tolist() == [4, 4]

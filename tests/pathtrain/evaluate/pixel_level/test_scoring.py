"""Dice and IoU against brute force, torchmetrics and the published definition; windows and their sums."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.segmentation import dice_score, mean_iou

from pathtrain.data.segmented.truth import IGNORED, Truth
from pathtrain.evaluate.pixel_level.scoring import Guess, as_units, image_sums, together, window_dice
from pathtrain.evaluate.pixel_level.windows import Box, centre, random_crops, side_by_side
from pathtrain.params.segmentation import ObjectParams


def maps(seed: int, side: int = 12, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, (side, side)).astype(np.uint8)
    guess = np.where(rng.random((side, side)) < 0.6, true, rng.integers(0, classes, (side, side)))
    return guess.astype(np.uint8), true


@pytest.mark.parametrize("seed", range(4))
def test_a_windows_dice_is_torchmetrics_without_background(seed: int) -> None:
    guess, true = maps(seed)
    theirs = dice_score(
        torch.from_numpy(guess).long()[None],
        torch.from_numpy(true).long()[None],
        num_classes=4,
        include_background=False,
        average="macro",
        input_format="index",
    )
    assert window_dice(guess, true, 4) == pytest.approx(float(theirs), abs=1e-6)


def test_classes_that_a_window_lacks_do_not_count() -> None:
    guess, true = maps(0)
    true[true == 2] = 0
    expected = []
    for number in (1, 3):
        a, b = guess == number, true == number
        expected.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert window_dice(guess, true, 4) == pytest.approx(np.mean(expected))
    assert np.isnan(window_dice(guess, np.zeros_like(true), 4))


def test_ignored_pixels_count_as_background_as_published_and_nowhere_in_ours() -> None:
    guess, true = np.ones((2, 4), np.uint8), np.ones((2, 4), np.uint8)
    true[:, 2:] = IGNORED
    assert window_dice(guess, true, 2) == pytest.approx(2 * 4 / (4 + 8))
    sums = image_sums(Guess(Box(0, 0, 2, 4), guess, []), Truth(true, None), 2, ObjectParams(), True)
    assert [float((above / below)[0]) for above, below in (sums["dice_image"], sums["iou"])] == [1, 1]


def test_figures_of_images_are_those_of_brute_force() -> None:
    images, truths = [], []
    for seed in range(5):
        guess, true = maps(seed)
        if seed == 4:
            true[true == 3] = 0
        truths.append((guess, true))
        images.append(
            image_sums(
                Guess(Box(0, 0, 12, 12), guess, [0.5, float("nan")]),
                Truth(true, None),
                4,
                ObjectParams(),
                True,
            )
        )
    units = as_units(images, ["a", "a", "b", "b", "c"], [""] * 5)
    whole = {key: float(each.figure(np.ones((1, 3)))[0]) for key, each in units.items()}
    guesses, trues = (np.concatenate([pair[side] for pair in truths]) for side in (0, 1))
    each = [((guesses == c) & (trues == c)).sum() / ((guesses == c) | (trues == c)).sum() for c in (1, 2, 3)]
    assert whole["iou"] == pytest.approx(np.mean(each))
    theirs = mean_iou(
        torch.from_numpy(guesses).long()[None],
        torch.from_numpy(trues).long()[None],
        num_classes=4,
        include_background=False,
        input_format="index",
    )
    assert whole["iou"] == pytest.approx(float(theirs.mean()), abs=1e-6)
    dice = [
        np.mean(
            [
                2 * ((g == c) & (t == c)).sum() / ((g == c).sum() + (t == c).sum())
                for g, t in truths
                if (t == c).any()
            ]
        )
        for c in (1, 2, 3)
    ]
    assert whole["dice_image"] == pytest.approx(np.mean(dice))
    assert whole["dice"] == 0.5
    assert units["dice"].counts.tolist() == [[2], [2], [1]]
    np.testing.assert_allclose(together([units, units])["iou"].sums, units["iou"].sums)


def test_quality_is_the_mean_over_tissues() -> None:
    one = {"pq": (np.array([0.2]), np.array([1.0]))}
    other = {"pq": (np.array([0.8]), np.array([1.0]))}
    units = as_units([one, one, other], ["a", "b", "c"], ["Breast", "Breast", "Colon"])
    assert float(units["pq"].figure(np.ones((1, 3)))[0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1000, 1000, 250), (100, 70, 32), (35, 82, 250), (64, 64, 64)]
)
def test_windows_cover_an_image(height: int, width: int, side: int) -> None:
    boxes = side_by_side(height, width, side)
    seen = np.zeros((height, width), int)
    for box in boxes:
        assert box.height == box.width == min(side, height, width)
        seen[box.top : box.top + box.height, box.left : box.left + box.width] += 1
    assert seen.min() == 1
    if side == 250 and height == 1000:
        assert len(boxes) == 16
        assert seen.max() == 1


def test_overlaps_and_central_squares() -> None:
    assert [box.left for box in side_by_side(32, 80, 32, overlap=16)] == [0, 16, 32, 48]
    # 256 px of tiles by windows of 250 are one window, not four that are nearly the same
    assert side_by_side(256, 256, 250) == [Box(0, 0, 256, 256)]
    assert centre(35, 82) == [Box(0, 24, 35, 35)]


def test_random_crops_are_torchvisions() -> None:
    rng = np.random.default_rng(0)
    boxes = random_crops(80, 120, 400, rng)
    shares = np.array([box.height * box.width / 9600 for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert shares.min() > 0.07
    assert shares.max() <= 1.0
    assert abs(np.log(ratios).mean()) < 0.05
    assert all(box.top + box.height <= 80 and box.left + box.width <= 120 for box in boxes)
    narrow = random_crops(10, 200, 3, rng)  # no part of it has such a share and ratio at once, often
    assert all(0 < box.height <= 10 and 0 < box.width <= 200 for box in narrow)

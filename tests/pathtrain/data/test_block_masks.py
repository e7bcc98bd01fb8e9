"""Block masks: counts, ranks and parts, and the algorithm against lightly's and against plain Python."""

import math
import random
import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pathprep.kernels import block_masks_cpu
from pathtrain.data.block_masks import masks, patches
from pathtrain.data.order import hashed, positions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lightly's imports warn of their own age
    from lightly.models.utils import random_block_mask

Flags = npt.NDArray[np.bool_]
GRID, BATCH, CROPS = (16, 16), 48, 2


def step(number: int = 0, fill: bool = False, **more: object) -> Flags:
    wanted = {"batch": BATCH, "crops": CROPS, "grid": GRID, "share": 0.5, "ratio": (0.1, 0.5), "seed": 7}
    wanted |= more
    return masks(positions(number, BATCH), fill=fill, **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 48), (0.33, 31), (0.0, 0), (1.0, 96)])
def test_exactly_a_share_of_the_steps_crops_is_masked(share: float, expected: int) -> None:
    for number in range(3):
        found = step(number, share=share)
        assert found.shape == (BATCH, CROPS, 256)
        assert (found.sum(axis=-1) > 0).sum() == expected


def test_ratios_are_drawn_from_equal_bins() -> None:
    """Blocks can stay below; filled up, the counts are the bins' upper ends."""
    ends = np.sort((256 * (0.1 + 0.4 * np.arange(49) / 48)).astype(int))
    filled = np.sort(step(fill=True).sum(axis=-1).ravel())[BATCH:]
    assert np.array_equal(filled, ends[1:])
    assert patches(BATCH, CROPS, GRID, 0.5, (0.1, 0.5)) == (int(ends[1:].sum()), 128)
    plain = np.sort(step().sum(axis=-1).ravel())[BATCH:]
    assert (plain <= ends[1:]).all()
    assert plain.mean() > 0.85 * ends.mean()


@pytest.mark.parametrize("fill", [False, True])
def test_ranks_parts_and_other_steps(fill: bool) -> None:
    whole = step(3, fill)
    for rank in range(3):
        own = masks(positions(3, BATCH, rank, 3), BATCH, CROPS, GRID, 0.5, (0.1, 0.5), fill, 7)
        assert np.array_equal(own, whole[rank::3])
    both = np.concatenate([positions(3, BATCH)[40:], positions(4, BATCH)[:5]])
    found = masks(both, BATCH, CROPS, GRID, 0.5, (0.1, 0.5), fill, 7)
    assert np.array_equal(found, np.concatenate([whole[40:], step(4, fill)[:5]]))
    assert not np.array_equal(whole, step(4, fill))
    assert not np.array_equal(whole, step(3, fill, seed=8))


def test_every_crop_has_its_turn() -> None:
    often = np.mean([step(number).any(axis=-1) for number in range(400)], axis=0)
    assert np.abs(often - 0.5).max() < 5 * 0.5 / math.sqrt(400)
    together = np.mean([step(n)[:, 0].any(axis=-1) & step(n)[:, 1].any(axis=-1) for n in range(400)])
    assert together == pytest.approx(0.25, abs=0.02)  # of a tile's two crops


def shape_figures(found: Flags) -> tuple[float, float, float]:
    """Mean and deviation of the counts of masked crops, and how many neighbours of a masked patch are."""
    flat = found.reshape(-1, *GRID)
    flat = flat[flat.any(axis=(1, 2))]
    counts = flat.sum(axis=(1, 2))
    right, down = flat[:, :, :-1] & flat[:, :, 1:], flat[:, :-1] & flat[:, 1:]
    return counts.mean(), counts.std(), (right.sum() + down.sum()) / counts.sum()


def test_as_lightlys_in_distribution() -> None:
    random.seed(0)
    theirs = torch.cat([random_block_mask((96, *GRID), 0.5, 0.1, 0.5) for _ in range(60)]).numpy()
    ours = np.concatenate([step(number) for number in range(60)])
    for mine, other in zip(shape_figures(ours), shape_figures(theirs), strict=True):
        assert mine == pytest.approx(other, rel=0.02)
    where = [found.reshape(-1, 256).mean(axis=0) for found in (ours, theirs)]
    assert np.abs(where[0] - where[1]).max() < 5 * math.sqrt(2 * 0.14 * 0.86 / len(theirs))


class Numbers:
    """splitmix64 in Python's own integers."""

    def __init__(self, word: int) -> None:
        self.state = word

    def next(self) -> float:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        x = self.state
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return ((x ^ (x >> 31)) >> 11) / 2**53


def by_hand(target: int, word: int, rows: int, columns: int, fill: bool) -> Flags:
    numbers, found, count = Numbers(word), np.zeros((rows, columns), bool), 0
    while count < target:
        most = min(target - count, rows * columns // 2)
        before = count
        for _ in range(10):
            area = 4 + numbers.next() * (most - 4)
            aspect = 0.3 * (1 / 0.3 / 0.3) ** numbers.next()
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < rows and width < columns:
                top, left = (
                    int(numbers.next() * (rows - height + 1)),
                    int(numbers.next() * (columns - width + 1)),
                )
                box = found[top : top + height, left : left + width]
                if 0 < (~box).sum() <= most:
                    count += int((~box).sum())
                    box[:] = True
                    break
        if count == before:
            break
    if fill:
        free = np.flatnonzero(~found).tolist()
        for done in range(target - count):
            other = done + int(numbers.next() * (len(free) - done))
            free[done], free[other] = free[other], free[done]
            found.flat[free[done]] = True
    return found


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("grid", [(16, 16), (4, 9), (2, 2)])
def test_by_hand(fill: bool, grid: tuple[int, int]) -> None:
    targets = np.arange(0, grid[0] * grid[1] + 1)
    words = hashed(5, np.arange(len(targets)))
    found = np.zeros((len(targets), grid[0] * grid[1]), bool)
    block_masks_cpu.apply(targets, words, *grid, fill, found)
    for number, target in enumerate(targets):
        expected = by_hand(int(target), int(words[number]), *grid, fill)
        assert np.array_equal(found[number].reshape(grid), expected)
        assert found[number].sum() <= target
        assert not fill or found[number].sum() == target

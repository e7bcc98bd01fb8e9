"""Rectangles of masked patches on the CPU: DINOv2's algorithm, fed with numbers that follow from a word.

github.com/facebookresearch/dinov2, data/masking.py; filled up as dinov3's of the same name.
"""

import math

import numpy as np
import numpy.typing as npt

from pathprep.kernels.compiled import jit

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

LEAST = 4  # patches, of a block's drawn area
ASPECT = (0.3, 1 / 0.3)
TRIES = 10
# splitmix64's odd constants, as in pathprep.permutation
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@jit
def apply(targets: Ints, words: Words, rows: int, columns: int, fill: bool, out: Flags) -> None:
    """Mask patches of C crops.

    Args:
        targets: (C,) patches to mask in each.
        words: (C,) what each crop's numbers follow from.
        rows, columns: of patches, each above 1.
        fill: mask single patches at random where blocks end below the target.
        out: written: (C, rows * columns), all False before.
    """
    state = np.zeros(1, np.uint64)
    free = np.empty(rows * columns, np.int64)
    most = rows * columns // 2  # patches of a block
    for crop in range(len(targets)):
        state[0] = words[crop]
        mask = out[crop]
        missing = targets[crop]
        while missing > 0:
            new = _block(mask, rows, columns, min(missing, most), state)
            if new == 0:
                break
            missing -= new
        if fill and missing > 0:
            count = 0
            for patch in range(rows * columns):
                if not mask[patch]:
                    free[count] = patch
                    count += 1
            for done in range(missing):  # Fisher and Yates' shuffle, as far as needed
                other = done + int(_next(state) * (count - done))
                free[done], free[other] = free[other], free[done]
                mask[free[done]] = True


@jit
def _block(mask: Flags, rows: int, columns: int, most: int, state: Words) -> int:
    """Mask a rectangle that adds at most so many patches; how many it added, 0 if none of the tries fits."""
    for _ in range(TRIES):
        area = LEAST + _next(state) * (most - LEAST)
        low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
        aspect = math.exp(low + _next(state) * (high - low))
        height = int(math.sqrt(area * aspect) + 0.5)
        width = int(math.sqrt(area / aspect) + 0.5)
        if height >= rows or width >= columns:
            continue
        top = int(_next(state) * (rows - height + 1))
        left = int(_next(state) * (columns - width + 1))
        new = 0
        for y in range(top, top + height):
            for x in range(left, left + width):
                new += not mask[y * columns + x]
        if 0 < new <= most:
            for y in range(top, top + height):
                for x in range(left, left + width):
                    mask[y * columns + x] = True
            return new
    return 0


@jit
def _next(state: Words) -> float:
    """The next number in [0, 1) of a sequence (splitmix64; Steele, Lea and Flood 2014)."""
    state[0] += _GOLDEN
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) * 2.0**-53  # type: ignore[no-any-return]

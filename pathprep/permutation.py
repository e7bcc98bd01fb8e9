"""A keyed permutation of [0, N), evaluated at any place in O(1) time and memory: orders need not be stored.

It is a Feistel network over the next even number of bits (Luby and Rackoff 1988: a
bijection whatever its round function), with values outside [0, N) walked on until they fall inside
(Black and Rogaway 2002). The domain is less than 4 N, so a walk takes under 4 steps on average.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Odd 64-bit constants of splitmix64 (Steele, Lea and Flood 2014)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)

# 3 rounds already give pseudo-random permutations for ideal round functions and large domains; ours can
# have halves of a few bits, where more rounds are needed before pairs of outputs look independent.
_ROUNDS = 8


def hashed(*words: npt.ArrayLike) -> Words:
    """Hash integers to 64 well-mixed bits, element by element; arguments broadcast, their order matters."""
    state = np.zeros(1, np.uint64)
    for word in words:
        state = _mix(state ^ np.asarray(word).astype(np.uint64))
    return state


def _mix(x: Words) -> Words:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def permuted(position: npt.ArrayLike, count: int, seed: int) -> Ints:
    """Tile number at each position; positions may lie in different epochs.

    Args:
        position: integers from 0.
        count: tiles in the dataset, N.
        seed: of the run.
    """
    epoch, index = np.divmod(np.atleast_1d(np.asarray(position, np.int64)), count)
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [hashed(seed, epoch, round_) for round_ in range(_ROUNDS)]
    value = index.astype(np.uint64)
    outside = np.arange(len(value))
    while len(outside):
        left, right = value[outside] >> half, value[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key[outside]) & mask)
        value[outside] = (left << half) | right
        outside = outside[value[outside] >= count]
    return value.astype(np.int64)


def uniform(base: Words, count: int) -> npt.NDArray[np.float64]:
    """(B, count) numbers in [0, 1) from hashes (B,)."""
    slots = hashed(base[:, None], np.arange(count))
    return np.asarray((slots >> np.uint64(11)) * 2.0**-53, np.float64)

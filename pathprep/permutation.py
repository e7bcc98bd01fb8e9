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


def permuted(position: npt.ArrayLike, count: npt.ArrayLike, seed: npt.ArrayLike) -> Ints:
    """Tile number at each position; positions may lie in different epochs. Arguments broadcast.

    Args:
        position: integers from 0.
        count: tiles in the dataset, N, below 2^53; one number, or one for each position.
        seed: of the run; the same.
    """
    positions, counts = np.broadcast_arrays(
        np.atleast_1d(np.asarray(position, np.int64)), np.asarray(count, np.int64)
    )
    epoch, index = np.divmod(positions, counts)
    bits = np.frexp((counts - 1).astype(np.float64))[1]  # the bit length, exact below 2^53
    half = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [hashed(seed, epoch, round_) for round_ in range(_ROUNDS)]
    value = index.astype(np.uint64)
    outside = np.arange(len(value))
    while len(outside):
        shift, low = half[outside], mask[outside]
        left, right = value[outside] >> shift, value[outside] & low
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key[outside]) & low)
        value[outside] = (left << shift) | right
        outside = outside[value[outside] >= counts[outside].astype(np.uint64)]
    return value.astype(np.int64)


def uniform(base: Words, count: int) -> npt.NDArray[np.float64]:
    """(B, count) numbers in [0, 1) from hashes (B,)."""
    slots = hashed(base[:, None], np.arange(count))
    return np.asarray((slots >> np.uint64(11)) * 2.0**-53, np.float64)

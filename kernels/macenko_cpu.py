"""Fitting Macenko on the CPU: macenko_reference.py's steps 1 to 6, as passes that compile to SIMD.

No percentile is sorted for and no pixel takes an atan2 or a log:

- OD comes from a 256-entry table, rounded to 2^-20. Such a value is exact in float32 and as an integer,
  so the moments are integer sums: no rounding, the same bits in any order of pixels.
- phi is ranked by a pseudo-angle, y / (|x| + |y|) unfolded to four quadrants, which is monotone in it;
  only the order statistics at the two percentiles are turned into angles.
- An order statistic in a tail: every 65th or so pixel gives a threshold somewhat inside the tail, one
  pass keeps the few values beyond it, quickselect finds the exact rank among those. Should the sample
  have misled, the pass is repeated without a threshold: the answer never depends on the sample.

Everything runs on the caller's thread without the GIL and shares nothing, so threads scale and the bits do
not depend on them. Scratch is 20 bytes a pixel: three planes of OD, and room for two tails.
"""

import math
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from pathprep.kernels.macenko_reference import (
    ALPHA,
    BETA,
    CONCENTRATION_PERCENTILE,
    IO,
    LIMITS,
    Bytes,
    Floats,
    optical_density,
)

Singles = npt.NDArray[np.float32]

jit = nb.njit(nogil=True, cache=True, error_model="numpy")

SCALE = float(1 << 20)  # steps of optical density per unit; OD < 6 leaves it under 2^23: exact in float32
BLOCK = 2048  # pixels: five planes of float32 stay in the first-level cache
RUN = 64  # keys tested at once before any is looked at singly
SAMPLE = BLOCK // 2  # pixels that a tail's limit is guessed from; up to a BLOCK of them for small tiles
BINS = 512


@lru_cache
def tissue_threshold(beta: float, io: float) -> np.float32:
    """The table's entry that is tissue just so, compared exactly where beta itself would be rounded."""
    levels = int((optical_density(np.arange(256), io) >= beta).sum())  # OD falls with the grey level
    return density_table(io)[levels - 1] if levels else np.float32(np.inf)


@lru_cache
def density_table(io: float) -> Singles:
    """(256,) float32 optical density of each grey level, a multiple of 1 / SCALE."""
    return (np.rint(optical_density(np.arange(256), io) * SCALE) / SCALE).astype(np.float32)


@jit
def _planes(pixels: Bytes, table: Singles, r: Singles, g: Singles, b: Singles) -> None:
    """Optical density of flat RGB bytes as three planes."""
    for i in range(len(r)):
        r[i] = table[pixels[3 * i]]
        g[i] = table[pixels[3 * i + 1]]
        b[i] = table[pixels[3 * i + 2]]


@jit
def _kept(r: float, g: float, b: float, threshold: float, keep_any: bool) -> Any:
    if keep_any:
        return max(r, g, b) >= threshold
    return min(r, g, b) >= threshold


@jit
def _sums(r: Singles, g: Singles, b: Singles, threshold: float, keep_any: bool) -> tuple[Any, ...]:
    """Integer sums over a block's tissue: count, OD of each channel, and their six products."""
    scale, zero = np.float32(SCALE), np.float32(0)
    count = s0 = s1 = s2 = s00 = s01 = s02 = s11 = s12 = s22 = np.int64(0)
    for i in range(len(r)):
        kept = _kept(r[i], g[i], b[i], threshold, keep_any)
        x = np.int64(np.int32((r[i] if kept else zero) * scale))
        y = np.int64(np.int32((g[i] if kept else zero) * scale))
        z = np.int64(np.int32((b[i] if kept else zero) * scale))
        count += np.int64(kept)
        s0 += x
        s1 += y
        s2 += z
        s00 += x * x
        s01 += x * y
        s02 += x * z
        s11 += y * y
        s12 += y * z
        s22 += z * z
    return count, s0, s1, s2, s00, s01, s02, s11, s12, s22


@jit
def _moments(
    r: Singles, g: Singles, b: Singles, threshold: float, keep_any: bool
) -> tuple[int, Floats, Floats]:
    """Count, mean (3,) and covariance (3, 3) of tissue OD."""
    # Products summed over 2^24 pixels need 70 bits: each block's 57 are added in two halves.
    high, low = np.zeros(10, np.int64), np.zeros(10, np.int64)
    for start in range(0, len(r), BLOCK):
        stop = start + BLOCK
        sums = _sums(r[start:stop], g[start:stop], b[start:stop], threshold, keep_any)
        for k in range(10):
            high[k] += sums[k] >> 32
            low[k] += sums[k] & 0xFFFFFFFF
    total = high * 4294967296.0 + low
    count = low[0]  # below 2^32: it has no high half
    mean = total[1:4] / (SCALE * max(count, 1))
    covariance = np.empty((3, 3))
    k = 4
    for i in range(3):
        for j in range(i, 3):
            product = total[k] / (SCALE * SCALE) - count * mean[i] * mean[j]
            covariance[i, j] = covariance[j, i] = product / max(count - 1, 1)
            k += 1
    return count, mean, covariance


@jit
def _eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, ascending, and eigenvectors in columns, of a symmetric (3, 3), by cyclic Jacobi."""
    a, v = matrix.copy(), np.eye(3)
    for _ in range(12):  # converges quadratically: five or six sweeps reach float64
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                if theta < 0:
                    t = -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(3):
                    x, y = a[k, p], a[k, q]
                    a[k, p], a[k, q] = c * x - s * y, s * x + c * y
                for k in range(3):
                    x, y = a[p, k], a[q, k]
                    a[p, k], a[q, k] = c * x - s * y, s * x + c * y
                    x, y = v[k, p], v[k, q]
                    v[k, p], v[k, q] = c * x - s * y, s * x + c * y
    values = np.array([a[0, 0], a[1, 1], a[2, 2]])
    order = np.argsort(values)
    return values[order], v[:, order]


@jit
def _smallest(values: Singles, n: int, k: int) -> tuple[Any, Any]:
    """The k-th and (k + 1)-th smallest (from 0; the last twice at the end) of values[:n]; reorders them."""
    left, right = 0, n - 1
    while left < right:
        middle = (left + right) >> 1
        a, b, c = values[left], values[middle], values[right]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            break
    following = values[k]
    if k + 1 < n:
        following = values[k + 1]
        for i in range(k + 2, n):
            following = min(following, values[i])
    return values[k], following


@jit
def _guess(sample: Singles, n: int, share: float) -> Any:
    """A value that somewhat more than ``share`` of the population lies below, judged from sample[:n]."""
    if n < 64:
        return np.float32(np.inf)
    expected = n * share
    wanted = expected + 3.0 * np.sqrt(expected) + 4.0  # three standard deviations of a count
    low, high = sample[0], sample[0]
    for i in range(1, n):
        low, high = min(low, sample[i]), max(high, sample[i])
    if wanted >= n or not low < high:
        return np.float32(np.inf)
    bins = np.zeros(BINS, np.int32)
    step = np.float32(BINS - 1) / (high - low)
    for i in range(n):
        bins[np.int32((sample[i] - low) * step)] += 1
    seen = 0
    for k in range(BINS):
        seen += bins[k]
        if seen >= wanted:
            return low + np.float32(k + 1) / step
    return np.float32(np.inf)


@jit
def _angle_keys(
    r: Singles,
    g: Singles,
    b: Singles,
    w: Singles,
    threshold: float,
    keep_any: bool,
    one: Singles,
    two: Singles,
) -> None:
    """Pseudo-angle, -2 to 2, of the vector (w[0] . OD, w[1] . OD), and minus it; NaN for glass."""
    a0, a1, a2, b0, b1, b2 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    fold, nan, tiny = np.float32(2), np.float32(np.nan), np.float32(1e-30)
    for i in range(len(r)):
        x = a0 * r[i] + a1 * g[i] + a2 * b[i]
        y = b0 * r[i] + b1 * g[i] + b2 * b[i]
        angle = y / max(abs(x) + abs(y), tiny)
        behind = (fold if y >= 0 else -fold) - angle
        angle = behind if x < 0 else angle
        angle = angle if _kept(r[i], g[i], b[i], threshold, keep_any) else nan
        one[i] = angle
        two[i] = -angle


@jit
def _linear_keys(r: Singles, g: Singles, b: Singles, w: Singles, one: Singles, two: Singles) -> None:
    """w[0] . OD and w[1] . OD."""
    a0, a1, a2, b0, b1, b2 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    for i in range(len(r)):
        one[i] = a0 * r[i] + a1 * g[i] + a2 * b[i]
        two[i] = b0 * r[i] + b1 * g[i] + b2 * b[i]


@jit
def _gather(keys: Singles, limit: float, kept: Singles, count: int) -> int:
    """Append the keys up to the limit (NaN never is) to ``kept``, which holds ``count``; the new count."""
    for start in range(0, len(keys), RUN):
        run = keys[start : start + RUN]
        inside = np.int32(0)
        for i in range(len(run)):
            inside += np.int32(run[i] <= limit)
        if inside:
            for i in range(len(run)):
                kept[count] = run[i]
                count += run[i] <= limit
    return count


@jit
def _tails(
    r: Singles,
    g: Singles,
    b: Singles,
    w: Singles,
    angular: bool,
    threshold: float,
    keep_any: bool,
    population: int,
    percent: float,
    kept: Singles,
) -> tuple[Singles, float]:
    """The lower percentile of both keys, angular or linear, as its two neighbours in order.

    population is the number of keys that are not NaN; kept is scratch, (2, pixels + 1). Returns the
    neighbours (2 keys, 2) and the weight of the second in numpy's linear interpolation.
    """
    n = len(r)
    position = (population - 1) * percent / 100.0
    rank = int(position)
    one, two = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    counts, limits = np.zeros(2, np.int64), np.empty(2, np.float32)

    step = (n // SAMPLE) | 1  # odd, so as not to walk in time with rows or with JPEG's blocks
    rs, gs, bs = r[::step].copy(), g[::step].copy(), b[::step].copy()
    size = len(rs)
    if angular:
        _angle_keys(rs, gs, bs, w, threshold, keep_any, one, two)
    else:
        _linear_keys(rs, gs, bs, w, one, two)
    limits[0] = _guess(kept[0], _gather(one[:size], np.float32(np.inf), kept[0], 0), percent / 100.0)
    limits[1] = _guess(kept[1], _gather(two[:size], np.float32(np.inf), kept[1], 0), percent / 100.0)

    wanted = min(rank + 2, population)
    while min(counts) < wanted:
        counts[:] = 0
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            if angular:
                _angle_keys(r[start:stop], g[start:stop], b[start:stop], w, threshold, keep_any, one, two)
            else:
                _linear_keys(r[start:stop], g[start:stop], b[start:stop], w, one, two)
            counts[0] = _gather(one[: stop - start], limits[0], kept[0], counts[0])
            counts[1] = _gather(two[: stop - start], limits[1], kept[1], counts[1])
        limits[:] = np.inf  # for the second turn, if the sample misled
    found = np.empty((2, 2), np.float32)
    for k in range(2):
        found[k, 0], found[k, 1] = _smallest(kept[k], counts[k], rank)
    return found, position - rank


@jit
def _angle(pseudo: float) -> Any:
    """The angle in radians of a pseudo-angle."""
    p = np.float64(pseudo)
    if abs(p) <= 1.0:
        return np.arctan2(p, 1.0 - abs(p))
    return np.arctan2((2.0 if p > 0 else -2.0) - p, 1.0 - abs(p))


@jit
def _fit(
    od: tuple[Singles, Singles, Singles],
    count: int,
    mean: Floats,
    covariance: Floats,
    threshold: float,
    keep_any: bool,
    alpha: float,
    percentile: float,
    limits: tuple[float, ...],
    kept: Singles,
    he: Floats,
    max_c: Floats,
) -> bool:
    """Steps 3 to 6 on a tile's planes of OD; fills he and max_c, returns whether they are plausible."""
    share, pixels, variance, variance_ratio, min_angle, max_angle, component, concentration = limits
    r, g, b = od
    n = len(r)
    if count < max(pixels, share * n):
        return False
    variances, axes = _eigen(covariance)
    if variances[1] < max(variance, variance_ratio * variances[2]):
        return False
    second, largest = axes[:, 1].copy(), axes[:, 2].copy()
    if (second * mean).sum() < 0:  # the cut of the angle lies behind the data; largest only mirrors it
        second = -second

    w = np.empty((2, 3), np.float32)
    w[0], w[1] = second, largest
    found, weight = _tails(r, g, b, w, True, threshold, keep_any, count, alpha, kept)
    low = _angle(found[0, 0]) + weight * (_angle(found[0, 1]) - _angle(found[0, 0]))
    high = _angle(-found[1, 0]) + weight * (_angle(-found[1, 1]) - _angle(-found[1, 0]))
    one = second * np.cos(low) + largest * np.sin(low)
    two = second * np.cos(high) + largest * np.sin(high)
    if one[0] <= two[0]:
        one, two = two, one
    apart = np.degrees(high - low)
    if not min_angle <= apart <= max_angle or min(one.min(), two.min()) < component:
        return False

    across = (one * two).sum()  # both of unit length: pinv(HE) in closed form
    w[0] = (across * two - one) / (1.0 - across * across)  # minus the concentrations: upper tails
    w[1] = (across * one - two) / (1.0 - across * across)
    found, weight = _tails(r, g, b, w, False, threshold, keep_any, n, 100.0 - percentile, kept)
    c0 = -(found[0, 0] + weight * (found[0, 1] - found[0, 0]))
    c1 = -(found[1, 0] + weight * (found[1, 1] - found[1, 0]))
    if min(c0, c1) < concentration:
        return False
    he[:, 0], he[:, 1] = one, two
    max_c[0], max_c[1] = c0, c1
    return True


@jit
def _fit_batch(
    tiles: Bytes,
    table: Singles,
    threshold: float,
    keep_any: bool,
    alpha: float,
    percentile: float,
    limits: tuple[float, ...],
    he: Floats,
    max_c: Floats,
    tissue: npt.NDArray[np.int64],
    fitted: npt.NDArray[np.bool_],
) -> None:
    n = tiles.shape[1] // 3
    r, g, b = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    kept = np.empty((2, n + 1), np.float32)  # one more: a key is written before it is counted
    for t in range(len(tiles)):
        _planes(tiles[t], table, r, g, b)
        count, mean, covariance = _moments(r, g, b, threshold, keep_any)
        tissue[t] = count
        fitted[t] = _fit(
            (r, g, b),
            count,
            mean,
            covariance,
            threshold,
            keep_any,
            alpha,
            percentile,
            limits,
            kept,
            he[t],
            max_c[t],
        )


def fit(
    tiles: Bytes,
    keep_any: bool = False,
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    threads: int | None = 1,
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Steps 1 to 6 on tiles of one size (N, H, W, 3).

    Returns:
        he (N, 3, 2), max_c (N, 2), tissue_pixels (N,), fitted (N,): see ``macenko_reference.Fit``.
    """
    n = len(tiles)
    he, max_c = np.zeros((n, 3, 2)), np.zeros((n, 2))
    tissue, fitted = np.empty(n, np.int64), np.empty(n, np.bool_)
    table, threshold = density_table(io), tissue_threshold(beta, io)
    flat = np.ascontiguousarray(tiles).reshape(n, math.prod(tiles.shape[1:]))
    limits, percentile = tuple(LIMITS), CONCENTRATION_PERCENTILE
    _fit_batch(flat, table, threshold, keep_any, alpha, percentile, limits, he, max_c, tissue, fitted)
    return he, max_c, tissue, fitted

"""Macenko on the CPU: the steps of macenko_reference.py as passes that the compiler turns into SIMD.

No percentile is sorted for and no pixel takes an atan2, a log or an exp:

- OD comes from a 256-entry table, rounded to 2^-20. Such a value is exact in float32 and as an integer,
  so the moments are integer sums: no rounding, the same bits in any order of pixels.
- phi is ranked by a pseudo-angle, y / (|x| + |y|) unfolded to four quadrants, which is monotone in it;
  only the order statistics at the two percentiles are turned into angles.
- An order statistic in a tail: every 65th or so pixel gives a threshold somewhat inside the tail, one
  pass keeps the few values beyond it, quickselect finds the exact rank among those. Should the sample
  have misled, the pass is repeated without a threshold: the answer never depends on the sample.
- exp(x) = (1 + y + ... + y^4 / 24)^64 with y = x / 64: multiplications only, 4e-6 relative error.

Everything runs on the caller's thread without the GIL and shares nothing, so threads scale and the bits do
not depend on them. Scratch is 12 bytes a pixel for a fit and a few kilobytes for ``apply``.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from pathprep.kernels.macenko_reference import (
    ALPHA,
    BETA,
    CONCENTRATION_PERCENTILE,
    IO,
    MIN_ANGLE_DEGREES,
    MIN_COMPONENT,
    MIN_MAX_C,
    MIN_TISSUE_PIXELS,
    MIN_TISSUE_SHARE,
    MIN_VARIANCE,
    MIN_VARIANCE_RATIO,
    Bytes,
    Floats,
    optical_density,
)

Singles = npt.NDArray[np.float32]

jit = nb.njit(nogil=True, cache=True, error_model="numpy")

SCALE = float(1 << 20)  # steps of optical density per unit; OD < 6 leaves it under 2^23: exact in float32
BLOCK = 2048  # pixels: three planes of float32 stay in the first-level cache
RUN = 64  # values tested at once before any is looked at singly
SAMPLE = 1024  # pixels that the thresholds are guessed from
BINS = 512


def density_table(io: float) -> Singles:
    """(256,) float32 optical density of each grey level, a multiple of 1 / SCALE."""
    return (np.rint(optical_density(np.arange(256), io) * SCALE) / SCALE).astype(np.float32)


@jit
def _planes(pixels, start, stop, table, r, g, b):  # type: ignore[no-untyped-def]
    """Optical density of pixels start to stop (flat RGB bytes) as three planes."""
    for i in range(stop - start):
        j = 3 * (start + i)
        r[i] = table[pixels[j]]
        g[i] = table[pixels[j + 1]]
        b[i] = table[pixels[j + 2]]


@jit
def _kept(r, g, b, threshold, keep_any):  # type: ignore[no-untyped-def]
    if keep_any:
        return max(r, g, b) >= threshold
    return min(r, g, b) >= threshold


@jit
def _moments(r, g, b, threshold, keep_any):  # type: ignore[no-untyped-def]
    """Count, mean (3,) and covariance (3, 3) of tissue OD, from exact integer sums."""
    n = len(r)
    scale = np.float32(SCALE)
    count = s0 = s1 = s2 = np.int64(0)
    # Squares summed over 2^24 pixels need 70 bits: each block's 57 are added in two halves.
    high, low, block = np.zeros(6, np.int64), np.zeros(6, np.int64), np.zeros(6, np.int64)
    for start in range(0, n, BLOCK):
        b00 = b01 = b02 = b11 = b12 = b22 = np.int64(0)
        for i in range(start, min(start + BLOCK, n)):
            kept = np.int32(_kept(r[i], g[i], b[i], threshold, keep_any))
            x = np.int64(np.int32(r[i] * scale) * kept)
            y = np.int64(np.int32(g[i] * scale) * kept)
            z = np.int64(np.int32(b[i] * scale) * kept)
            count += kept
            s0 += x
            s1 += y
            s2 += z
            b00 += x * x
            b01 += x * y
            b02 += x * z
            b11 += y * y
            b12 += y * z
            b22 += z * z
        block[0], block[1], block[2], block[3], block[4], block[5] = b00, b01, b02, b11, b12, b22
        high += block >> 32
        low += block & 0xFFFFFFFF
    mean = np.array([s0, s1, s2]) / (SCALE * max(count, 1))
    covariance = np.zeros((3, 3))
    k = 0
    for i in range(3):
        for j in range(i, 3):
            square = (high[k] * 4294967296.0 + low[k]) / (SCALE * SCALE)
            covariance[i, j] = (square - count * mean[i] * mean[j]) / max(count - 1, 1)
            covariance[j, i] = covariance[i, j]
            k += 1
    return count, mean, covariance


@jit
def _eigen(matrix):  # type: ignore[no-untyped-def]
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
def _smallest(values, n, k):  # type: ignore[no-untyped-def]
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
def _guess(sample, n, share):  # type: ignore[no-untyped-def]
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
def _keys(r, g, b, start, count, step, w, angular, threshold, keep_any, one, two):  # type: ignore[no-untyped-def]
    """Two keys per pixel, start, start + step, ..., whose lower tails are wanted.

    angular: the pseudo-angle of (w[0] . OD, w[1] . OD), -2 to 2, and minus it; NaN for glass.
    Otherwise: w[0] . OD and w[1] . OD.
    """
    a0, a1, a2, b0, b1, b2 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    if angular:
        fold, nan, tiny = np.float32(2), np.float32(np.nan), np.float32(1e-30)
        for i in range(count):
            j = start + i * step
            x = a0 * r[j] + a1 * g[j] + a2 * b[j]
            y = b0 * r[j] + b1 * g[j] + b2 * b[j]
            angle = y / max(abs(x) + abs(y), tiny)
            behind = (fold if y >= 0 else -fold) - angle
            angle = behind if x < 0 else angle
            angle = angle if _kept(r[j], g[j], b[j], threshold, keep_any) else nan
            one[i] = angle
            two[i] = -angle
    else:
        for i in range(count):
            j = start + i * step
            one[i] = a0 * r[j] + a1 * g[j] + a2 * b[j]
            two[i] = b0 * r[j] + b1 * g[j] + b2 * b[j]


@jit
def _gather(keys, n, threshold, kept, count):  # type: ignore[no-untyped-def]
    """Append the keys[:n] up to the threshold to ``kept``; NaN is never."""
    inside = 0
    for i in range(n):
        inside += keys[i] <= threshold
    if inside:
        for i in range(n):
            kept[count] = keys[i]
            count += keys[i] <= threshold
    return count


@jit
def _tails(r, g, b, w, angular, threshold, keep_any, population, percent, kept):  # type: ignore[no-untyped-def]
    """For both keys (see ``_keys``) the two neighbours of the lower percentile, and their interpolation.

    Returns ((2, 2) float32, weight of the second neighbour); kept is scratch, (2, pixels + 1).
    """
    n = len(r)
    position = (population - 1) * percent / 100.0
    rank = min(int(position), population - 1)
    step = max(n // SAMPLE, 1) | 1  # odd: the sample must not step in time with the rows or JPEG's blocks
    count = (n + step - 1) // step
    sample = np.empty((2, count), np.float32)
    _keys(r, g, b, 0, count, step, w, angular, threshold, keep_any, sample[0], sample[1])
    run = np.empty((2, RUN), np.float32)
    counts = np.zeros(2, np.int64)
    limits = np.empty(2, np.float32)
    for k in range(2):
        size = _gather(sample[k], count, np.float32(np.inf), sample[k], 0)  # drops glass
        limits[k] = _guess(sample[k], size, percent / 100.0)
    while True:
        counts[:] = 0
        for start in range(0, n, RUN):
            m = min(RUN, n - start)
            _keys(r, g, b, start, m, 1, w, angular, threshold, keep_any, run[0], run[1])
            for k in range(2):
                counts[k] = _gather(run[k], m, limits[k], kept[k], counts[k])
        wanted = min(rank + 2, population)
        if counts[0] >= wanted and counts[1] >= wanted:
            break
        limits[:] = np.inf
    found = np.empty((2, 2), np.float32)
    for k in range(2):
        found[k, 0], found[k, 1] = _smallest(kept[k], counts[k], rank)
    return found, position - rank


@jit
def _angle(pseudo):  # type: ignore[no-untyped-def]
    """The angle in radians of a pseudo-angle."""
    p = np.float64(pseudo)
    if abs(p) <= 1.0:
        return np.arctan2(p, 1.0 - abs(p))
    return np.arctan2((2.0 if p > 0 else -2.0) - p, 1.0 - abs(p))


@jit
def _fit(pixels, table, threshold, keep_any, alpha, r, g, b, kept, he, max_c):  # type: ignore[no-untyped-def]
    """Steps 1 to 6 for one tile; fills he and max_c, returns (tissue pixels, fitted)."""
    n = len(r)
    he[:] = 0.0
    max_c[:] = 0.0
    _planes(pixels, 0, n, table, r, g, b)
    count, mean, covariance = _moments(r, g, b, threshold, keep_any)
    if count < max(MIN_TISSUE_PIXELS, MIN_TISSUE_SHARE * n):
        return count, False
    variances, axes = _eigen(covariance)
    if variances[1] < max(MIN_VARIANCE, MIN_VARIANCE_RATIO * variances[2]):
        return count, False
    plane = axes[:, 1:].copy()
    for k in range(2):
        if (plane[:, k] * mean).sum() < 0:
            plane[:, k] = -plane[:, k]

    w = plane.T.astype(np.float32)
    found, weight = _tails(r, g, b, w, True, threshold, keep_any, count, alpha, kept)
    low = _angle(found[0, 0]) + weight * (_angle(found[0, 1]) - _angle(found[0, 0]))
    high = _angle(-found[1, 0]) + weight * (_angle(-found[1, 1]) - _angle(-found[1, 0]))
    one = plane[:, 0] * np.cos(low) + plane[:, 1] * np.sin(low)
    two = plane[:, 0] * np.cos(high) + plane[:, 1] * np.sin(high)
    if one[0] <= two[0]:
        one, two = two, one
    if high - low < np.radians(MIN_ANGLE_DEGREES) or min(one.min(), two.min()) < MIN_COMPONENT:
        return count, False

    across = (one * two).sum()  # the vectors have unit length: pinv(HE) in closed form
    scale = 1.0 / (1.0 - across * across)
    w[0] = ((across * two - one) * scale).astype(np.float32)  # minus the concentrations: upper tails
    w[1] = ((across * one - two) * scale).astype(np.float32)
    found, weight = _tails(
        r, g, b, w, False, threshold, keep_any, n, 100.0 - CONCENTRATION_PERCENTILE, kept
    )
    c0 = -(found[0, 0] + weight * (found[0, 1] - found[0, 0]))
    c1 = -(found[1, 0] + weight * (found[1, 1] - found[1, 0]))
    if min(c0, c1) < MIN_MAX_C:
        return count, False
    he[:, 0], he[:, 1] = one, two
    max_c[0], max_c[1] = c0, c1
    return count, True


@jit
def _fit_batch(tiles, table, threshold, keep_any, alpha, he, max_c, tissue_pixels, fitted):  # type: ignore[no-untyped-def]
    n = tiles.shape[1] // 3
    r, g, b = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    kept = np.empty((2, n + 1), np.float32)  # one more: a key is written before it is counted
    for t in range(len(tiles)):
        tissue_pixels[t], fitted[t] = _fit(
            tiles[t], table, threshold, keep_any, alpha, r, g, b, kept, he[t], max_c[t]
        )


@jit
def _byte(od, io):  # type: ignore[no-untyped-def]
    """I0 exp(-OD), clipped and truncated."""
    y = od * np.float32(-1.0 / 64.0)
    y = y if y < np.float32(0.01) else np.float32(0.01)
    y = y if y > np.float32(-0.12) else np.float32(-0.12)
    e = y * (np.float32(1 / 24)) + np.float32(1 / 6)
    e = e * y + np.float32(0.5)
    e = e * y + np.float32(1)
    e = e * y + np.float32(1)
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    grey = e * io
    return np.uint8(np.int32(grey if grey < np.float32(255) else np.float32(255)))


@jit
def _apply_batch(tiles, matrices, table, io, out):  # type: ignore[no-untyped-def]
    n = tiles.shape[1] // 3
    size = min(n, BLOCK)
    r, g, b = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for t in range(len(tiles)):
        m = matrices[t]
        m00, m01, m02 = m[0, 0], m[0, 1], m[0, 2]
        m10, m11, m12 = m[1, 0], m[1, 1], m[1, 2]
        m20, m21, m22 = m[2, 0], m[2, 1], m[2, 2]
        pixels, result = tiles[t], out[t]
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            _planes(pixels, start, stop, table, r, g, b)
            for i in range(stop - start):
                j = 3 * (start + i)
                result[j] = _byte(m00 * r[i] + m01 * g[i] + m02 * b[i], io)
                result[j + 1] = _byte(m10 * r[i] + m11 * g[i] + m12 * b[i], io)
                result[j + 2] = _byte(m20 * r[i] + m21 * g[i] + m22 * b[i], io)


def fit(
    tiles: Bytes, keep_any: bool = False, alpha: float = ALPHA, beta: float = BETA, io: float = IO
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Steps 1 to 6 on tiles of one size (N, H, W, 3).

    Returns:
        he (N, 3, 2), max_c (N, 2), tissue_pixels (N,), fitted (N,): see ``macenko_reference.Fit``.
    """
    n = len(tiles)
    he, max_c = np.empty((n, 3, 2)), np.empty((n, 2))
    tissue_pixels, fitted = np.empty(n, np.int64), np.empty(n, np.bool_)
    table = density_table(io)
    # OD falls with the grey level: the brightest one that is still tissue gives an exact float32 limit.
    tissue_levels = int((optical_density(np.arange(256), io) >= beta).sum())
    threshold = table[tissue_levels - 1] if tissue_levels else np.float32(np.inf)
    flat = np.ascontiguousarray(tiles).reshape(n, -1)
    _fit_batch(flat, table, threshold, keep_any, alpha, he, max_c, tissue_pixels, fitted)
    return he, max_c, tissue_pixels, fitted


def apply(tiles: Bytes, matrices: Floats, io: float = IO) -> Bytes:
    """Step 7 on tiles (N, H, W, 3) with a matrix each (N, 3, 3); an exact identity copies its tile."""
    n = len(tiles)
    flat = np.ascontiguousarray(tiles).reshape(n, -1)
    out = np.empty_like(flat)
    _apply_batch(flat, matrices.astype(np.float32), density_table(io), np.float32(io), out)
    return out.reshape(tiles.shape)

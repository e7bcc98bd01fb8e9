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
    Fit,
    Floats,
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
    levels = np.arange(256, dtype=np.float64)
    return (np.rint(-np.log((levels + 1.0) / io) * SCALE) / SCALE).astype(np.float32)


@jit
def _planes(pixels, table, od):  # type: ignore[no-untyped-def]
    n = np.uint64(od.shape[1])
    for i in range(n):
        j = np.uint64(3) * i
        od[0, i] = table[pixels[j]]
        od[1, i] = table[pixels[j + np.uint64(1)]]
        od[2, i] = table[pixels[j + np.uint64(2)]]


@jit
def _kept(r, g, b, threshold, keep_any):  # type: ignore[no-untyped-def]
    if keep_any:
        return (r >= threshold) | (g >= threshold) | (b >= threshold)
    return (r >= threshold) & (g >= threshold) & (b >= threshold)


@jit
def _moments(od, threshold, keep_any):  # type: ignore[no-untyped-def]
    """Count, mean (3,) and covariance (3, 3) of tissue OD, from exact integer sums."""
    n = od.shape[1]
    count = np.int64(0)
    first = np.zeros(3, np.int64)
    # Squares summed over 2^24 pixels need 70 bits: each block's 57 are added in two halves.
    high, low = np.zeros(6, np.int64), np.zeros(6, np.int64)
    block = np.zeros(6, np.int64)
    scale = np.float32(SCALE)
    for start in range(0, n, BLOCK):
        part = od[:, start : min(start + BLOCK, n)]
        c = sr = sg = sb = rr = rg = rb = gg = gb = bb = np.int64(0)
        for i in range(part.shape[1]):
            r, g, b = part[0, i], part[1, i], part[2, i]
            kept = _kept(r, g, b, threshold, keep_any)
            ir = np.int64(np.int32(r * scale)) if kept else np.int64(0)
            ig = np.int64(np.int32(g * scale)) if kept else np.int64(0)
            ib = np.int64(np.int32(b * scale)) if kept else np.int64(0)
            c += np.int64(kept)
            sr += ir
            sg += ig
            sb += ib
            rr += ir * ir
            rg += ir * ig
            rb += ir * ib
            gg += ig * ig
            gb += ig * ib
            bb += ib * ib
        count += c
        first[0] += sr
        first[1] += sg
        first[2] += sb
        block[0], block[1], block[2], block[3], block[4], block[5] = rr, rg, rb, gg, gb, bb
        for k in range(6):
            high[k] += block[k] >> 32
            low[k] += block[k] & 0xFFFFFFFF
    mean = first / (SCALE * max(count, 1))
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
def _gather(run, n, threshold, kept, count):  # type: ignore[no-untyped-def]
    """Append the values of run[:n] below the threshold to ``kept``; NaN is never below."""
    below = 0
    for i in range(n):
        below += run[i] < threshold
    if below:
        for i in range(n):
            kept[count] = run[i]
            count += run[i] < threshold
    return count


@jit
def _angles(od, start, stop, step, threshold, keep_any, axes, out):  # type: ignore[no-untyped-def]
    """Pseudo-angles, -2 to 2, of pixels start, start + step, ...; NaN for glass."""
    one, two, tiny = np.float32(1), np.float32(2), np.float32(1e-30)
    x0, x1, x2 = axes[0, 0], axes[1, 0], axes[2, 0]
    y0, y1, y2 = axes[0, 1], axes[1, 1], axes[2, 1]
    for i in range((stop - start + step - 1) // step):
        j = start + i * step
        r, g, b = od[0, j], od[1, j], od[2, j]
        x = x0 * r + x1 * g + x2 * b
        y = y0 * r + y1 * g + y2 * b
        p = y / max(abs(x) + abs(y), tiny)
        fold = two if y >= 0 else -two
        p = fold - p if x < 0 else p
        out[i] = p if _kept(r, g, b, threshold, keep_any) else np.float32(np.nan)
    return one


@jit
def _concentrations(od, start, stop, step, row, out):  # type: ignore[no-untyped-def]
    """Minus one stain's concentration, so that the upper tail is the lower one."""
    w0, w1, w2 = -row[0], -row[1], -row[2]
    for i in range((stop - start + step - 1) // step):
        j = start + i * step
        out[i] = w0 * od[0, j] + w1 * od[1, j] + w2 * od[2, j]

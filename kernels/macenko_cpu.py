"""Macenko on the CPU: macenko_reference.py's seven steps, as passes that compile to SIMD.

No percentile is sorted for, and no pixel takes an atan2 or a call of log or exp:

- log and exp are short polynomials on exactly rounded multiply-adds: a pixel's result depends neither on
  its place in a vector nor on the machine.
- The moments are sums of integers, so they have the same bits in any order of pixels.
- phi is ranked by a pseudo-angle, y / (|x| + |y|) unfolded to four quadrants, which is monotone in it;
  only the order statistics at the two percentiles are turned into angles.
- An order statistic in a tail: every 65th or so pixel gives a threshold somewhat inside the tail, one
  pass keeps the few values beyond it, bisection finds the exact rank among those. Should the sample have
  misled, the pass is repeated without a threshold: the answer never depends on the sample.

The kernels hold no GIL and share nothing, so threads scale and the bits do not depend on them. Scratch is
20 bytes a pixel: three planes of OD, and room for two tails, of which a few per cent are touched.

All that is compiled is one file, because numba's cache on disk notices an edit of the file that a compiled
function is in, but not of those that it takes other compiled functions from.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pathprep.kernels.compiled import jit
from pathprep.kernels.macenko_reference import (
    ALPHA,
    BETA,
    CONCENTRATION_PERCENTILE,
    IO,
    LIMITS,
    Bytes,
    Floats,
    optical_density,
    with_shift,
)
from pathprep.kernels.threads_cpu import share_out

Single = np.float32
Singles = npt.NDArray[np.float32]
Planes = tuple[Singles, Singles, Singles]  # red, green, blue
Rule = tuple[Any, bool]  # what is tissue: threshold of OD, and whether any channel will do
Fits = tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]

SCALE = float(1 << 22)  # steps of optical density per unit in the moments; |OD| < 5.6 stays under 2^25
BLOCK = 2048  # pixels: five planes of float32 stay in the first-level cache
RUN = 64  # keys tested at once: one bit each of an integer
SAMPLE = BLOCK // 2  # pixels that a tail's limit is guessed from; up to a BLOCK of them for small tiles

# x = I + 1 = 2^e (1.5 + t), so -ln x = -e ln 2 - ln(1.5 + t). A float's bits, read as an integer, are
# 2^23 (e + 0.5 + t) beyond those of 1.0: times -ln 2 / 2^23, that is the first term and a line in t. The
# rest, ln 2 (0.5 + t) - ln(1.5 + t), is this polynomial in t: minimax over its 128 values, within 1.9e-7.
LN2_BITS = Single(-math.log(2) / (1 << 23))
LN_0 = -0.05889169
LN_1, LN_2, LN_3, LN_4 = Single(0.02648155), Single(0.22224423), Single(-0.09881054), Single(0.04894471)
LN_5, LN_6, LN_7 = Single(-0.02580452), Single(0.01736335), Single(-0.01064562)

# I0 exp(-OD) = (exp y)^16, y = (ln I0 - OD) / 16, for y between one that is black and one that is white;
# minimax in relative error, within 1.6e-7: 1e-3 grey levels with the rounding of the powers.
EXP_0, EXP_1, EXP_2 = Single(0.99999987), Single(1.00000336), Single(0.50008783)
EXP_3, EXP_4 = Single(0.16516486), Single(0.04824488)
BLACK, WHITE = Single(-0.05), Single(math.log(255.5) / 16)


@intrinsic
def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once, on every machine."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def _clamp(context: Any, x: Any, low: Any, high: Any) -> Any:
    """x between two bounds, the higher one for NaN: two instructions, where branches would become four."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, low, high = args
        below = builder.select(builder.fcmp_ordered("<", x, high), x, high)
        return builder.select(builder.fcmp_ordered(">", below, low), below, low)

    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def _hits(context: Any, keys: Any, start: Any, limit: Any) -> Any:
    """Which of keys[start : start + RUN] are at most the limit, as the bits of an integer; NaN never is."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, first, bound = args
        lanes = ir.VectorType(ir.FloatType(), RUN)
        data = context.make_array(signature.args[0])(context, builder, array).data
        values = builder.load(builder.bitcast(builder.gep(data, [first]), lanes.as_pointer()))
        values.align = 4
        one = builder.insert_element(lanes(ir.Undefined), bound, ir.IntType(32)(0))
        bounds = builder.shuffle_vector(one, one, ir.VectorType(ir.IntType(32), RUN)([0] * RUN))
        return builder.bitcast(builder.fcmp_ordered("<=", values, bounds), ir.IntType(RUN))

    return types.uint64(keys, types.intp, types.float32), code


@intrinsic
def _lowest_bit(context: Any, bits: Any) -> Any:
    """Position of the lowest set bit; 64 if there is none."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.uint64(types.uint64), code


@intrinsic
def _bit_count(context: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


@jit
def _split(pixels: Bytes, red: Bytes, green: Bytes, blue: Bytes) -> None:
    for i in range(len(red)):
        red[i] = pixels[3 * i]
        green[i] = pixels[3 * i + 1]
        blue[i] = pixels[3 * i + 2]


@jit
def _join(red: Bytes, green: Bytes, blue: Bytes, pixels: Bytes) -> None:
    for i in range(len(red)):
        pixels[3 * i] = red[i]
        pixels[3 * i + 1] = green[i]
        pixels[3 * i + 2] = blue[i]


@jit
def _density(levels: Bytes, constant: Any, od: Singles) -> None:
    """Step 1, within 7e-7; constant: ``_log_constant`` of I0."""
    for i in range(len(levels)):
        x = np.float32(np.float32(levels[i]) + np.float32(1))
        bits = x.view(np.int32)
        exponent = np.float32(np.int32(bits - np.int32(0x3F800000)))
        mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))  # 1.5 + t
        t = mantissa.view(np.float32) - np.float32(1.5)
        p = _fma(_fma(_fma(LN_7, t, LN_6), t, LN_5), t, LN_4)
        p = _fma(_fma(_fma(p, t, LN_3), t, LN_2), t, LN_1)
        od[i] = _fma(p, t, _fma(exponent, LN2_BITS, constant))


@jit
def _densities(pixels: Bytes, constant: Any, channels: Bytes, od: Planes) -> None:
    """Step 1 from a block of RGB bytes to planes; channels is scratch."""
    n = len(od[0])
    _split(pixels, channels[0][:n], channels[1][:n], channels[2][:n])
    for k in range(3):
        _density(channels[k][:n], constant, od[k])


@jit
def _part(planes: Planes, start: int, stop: int) -> Planes:
    return planes[0][start:stop], planes[1][start:stop], planes[2][start:stop]


@jit
def _kept(r: float, g: float, b: float, rule: Rule) -> Any:
    threshold, keep_any = rule
    if keep_any:
        return max(r, g, b) >= threshold
    return min(r, g, b) >= threshold


@jit
def _sums(od: Planes, rule: Rule) -> tuple[Any, ...]:
    """Integer sums over a block's tissue: count, OD of each channel, and their six products."""
    r, g, b = od
    scale, zero = np.float32(SCALE), np.float32(0)
    count = s0 = s1 = s2 = s00 = s01 = s02 = s11 = s12 = s22 = np.int64(0)
    for i in range(len(r)):
        kept = _kept(r[i], g[i], b[i], rule)
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
def _measure(
    pixels: Bytes, constant: Any, rule: Rule, channels: Bytes, od: Planes
) -> tuple[int, Floats, Floats]:
    """Steps 1 to 3: fills the planes; count, mean (3,) and covariance (3, 3) of tissue OD."""
    # Products summed over 2^24 pixels need 74 bits: each block's 61 are added in two halves.
    high, low = np.zeros(10, np.int64), np.zeros(10, np.int64)
    for start in range(0, len(od[0]), BLOCK):
        block = _part(od, start, start + BLOCK)
        _densities(pixels[3 * start :], constant, channels, block)
        sums = _sums(block, rule)
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
def _angle_keys(od: Planes, w: Singles, rule: Rule, one: Singles, two: Singles) -> None:
    """Pseudo-angle, -2 to 2, of the vector (w[0] . OD, w[1] . OD), and minus it; NaN for glass."""
    r, g, b = od
    a0, a1, a2, b0, b1, b2 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    fold, nan, tiny = np.float32(2), np.float32(np.nan), np.float32(1e-30)
    for i in range(len(r)):
        x = _fma(a0, r[i], _fma(a1, g[i], a2 * b[i]))
        y = _fma(b0, r[i], _fma(b1, g[i], b2 * b[i]))
        angle = y / max(abs(x) + abs(y), tiny)
        behind = (fold if y >= 0 else -fold) - angle
        angle = behind if x < 0 else angle
        angle = angle if _kept(r[i], g[i], b[i], rule) else nan
        one[i] = angle
        two[i] = -angle


@jit
def _linear_keys(od: Planes, w: Singles, one: Singles, two: Singles) -> None:
    """w[0] . OD and w[1] . OD."""
    r, g, b = od
    a0, a1, a2, b0, b1, b2 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    for i in range(len(r)):
        one[i] = _fma(a0, r[i], _fma(a1, g[i], a2 * b[i]))
        two[i] = _fma(b0, r[i], _fma(b1, g[i], b2 * b[i]))


@jit
def _keys(od: Planes, w: Singles, angular: bool, rule: Rule, keys: Singles) -> int:
    """A block's two keys, with NaN after them to a multiple of RUN; that length."""
    n = len(od[0])
    if angular:
        _angle_keys(od, w, rule, keys[0], keys[1])
    else:
        _linear_keys(od, w, keys[0], keys[1])
    end = (n + RUN - 1) // RUN * RUN
    keys[:, n:end] = np.nan
    return end


@jit
def _gather(keys: Singles, limit: Any, kept: Singles, count: int) -> Any:
    """Append the keys up to the limit to ``kept``, which holds ``count``; the new count.

    Few of a run are: three are written without asking how many, so hardly a branch is mispredicted.
    """
    at, three = np.uint64(count), np.uint64(3)  # unsigned: signed ones would be tested for wrapping round
    for start in range(0, len(keys), RUN):
        hits = _hits(keys, start, limit)
        found = _bit_count(hits)
        for k in range(3):
            kept[at + np.uint64(k)] = keys[np.uint64(start) + (_lowest_bit(hits) & np.uint64(RUN - 1))]
            hits &= hits - np.uint64(1)
        for k in range(three, found):
            kept[at + k] = keys[np.uint64(start) + _lowest_bit(hits)]
            hits &= hits - np.uint64(1)
        at += found
    return np.int64(at)


@jit
def _number(ordinal: int) -> Any:
    """The float32 at a place in the order of all: bits as an integer, those of negative ones turned round."""
    bits = np.int32(ordinal)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


INFINITY = 0x7F800000  # its place in that order
MINUS_INFINITY = -INFINITY - 1


@jit
def _count(values: Singles, limit: Any) -> Any:
    """How many are at most the limit; NaN never is."""
    count = np.int32(0)
    for i in range(len(values)):
        count += np.int32(values[i] <= limit)
    return count


@jit
def _ranked(values: Singles, rank: int, low: int) -> int:
    """Ordinal of the rank-th smallest (from 0), NaN last, which is known to be ``low`` or beyond.

    By bisection: 32 passes of SIMD over a thousand values, which beats any selection that branches.
    """
    high = INFINITY
    while low < high:
        middle = (low + high) >> 1
        if _count(values, _number(middle)) > rank:
            high = middle
        else:
            low = middle + 1
    return low


@jit
def _guess(sample: Singles, share: float) -> Any:
    """A value that somewhat more than ``share`` of the population lies below, judged from a sample of it."""
    n = _count(sample, np.float32(np.inf))
    expected = n * share
    wanted = int(expected + 3.0 * np.sqrt(expected) + 4.0)  # three standard deviations of a count
    return _number(_ranked(sample, wanted, MINUS_INFINITY)) if wanted < n else np.float32(np.inf)


@jit
def _tails(
    od: Planes,
    sample: Planes,
    w: Singles,
    angular: bool,
    rule: Rule,
    population: int,
    percent: float,
    keys: Singles,
    kept: Singles,
) -> tuple[Singles, float]:
    """The lower percentile of both keys, angular or linear, as its two neighbours in order.

    population is the number of keys that are not NaN; keys (2, BLOCK) and kept (2, pixels + RUN) are
    scratch. Returns the neighbours (2 keys, 2) and the weight of the second in numpy's linear interpolation.
    """
    n = len(od[0])
    position = (population - 1) * percent / 100.0
    rank = int(position)
    counts, limits = np.zeros(2, np.int64), np.empty(2, np.float32)
    _keys(sample, w, angular, rule, keys)
    for k in range(2):
        limits[k] = _guess(keys[k][: len(sample[0])], percent / 100.0)

    wanted = min(rank + 2, population)
    while min(counts) < wanted:
        counts[:] = 0
        for start in range(0, n, BLOCK):
            end = _keys(_part(od, start, start + BLOCK), w, angular, rule, keys)
            for k in range(2):
                counts[k] = _gather(keys[k][:end], limits[k], kept[k], counts[k])
        limits[:] = np.inf  # for the second turn, if the sample misled
    found = np.empty((2, 2), np.float32)
    for k in range(2):
        values = kept[k][: counts[k]]
        ordinal = _ranked(values, rank, MINUS_INFINITY)
        found[k, 0] = _number(ordinal)
        found[k, 1] = _number(_ranked(values, min(rank + 1, population - 1), ordinal))
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
    od: Planes,
    sample: Planes,
    moments: tuple[int, Floats, Floats],
    rule: Rule,
    alpha: float,
    percentile: float,
    limits: tuple[float, ...],
    keys: Singles,
    kept: Singles,
    he: Floats,
    max_c: Floats,
) -> bool:
    """Steps 3 to 6 on a tile's planes of OD; fills he and max_c, returns whether they are plausible."""
    share, pixels, variance, variance_ratio, min_angle, max_angle, component, concentration = limits
    count, mean, covariance = moments
    n = len(od[0])
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
    found, weight = _tails(od, sample, w, True, rule, count, alpha, keys, kept)
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
    found, weight = _tails(od, sample, w, False, rule, n, 100.0 - percentile, keys, kept)
    c0 = -(found[0, 0] + weight * (found[0, 1] - found[0, 0]))
    c1 = -(found[1, 0] + weight * (found[1, 1] - found[1, 0]))
    if min(c0, c1) < concentration:
        return False
    he[:, 0], he[:, 1] = one, two
    max_c[0], max_c[1] = c0, c1
    return True


@jit
def _matrix(he: Floats, max_c: Floats, target_he: Floats, target_max_c: Floats) -> Floats:
    """macenko_reference.matrix with pinv(HE) = (HE^T HE)^-1 HE^T, summed and multiplied in this order."""
    h, e = he[:, 0], he[:, 1]
    hh = h[0] * h[0] + h[1] * h[1] + h[2] * h[2]
    across = h[0] * e[0] + h[1] * e[1] + h[2] * e[2]
    ee = e[0] * e[0] + e[1] * e[1] + e[2] * e[2]
    determinant = hh * ee - across * across
    to_h = (ee * h - across * e) / determinant
    to_e = (hh * e - across * h) / determinant
    gain = target_max_c / max_c
    found = np.empty((3, 3))
    for i in range(3):
        found[i] = (target_he[i, 0] * gain[0]) * to_h + (target_he[i, 1] * gain[1]) * to_e
    return found


@jit
def _byte(y: Any) -> Any:
    """exp(16 y) from black to white, truncated; NaN is white."""
    y = _clamp(y, BLACK, WHITE)
    e = _fma(_fma(_fma(_fma(EXP_4, y, EXP_3), y, EXP_2), y, EXP_1), y, EXP_0)
    e = e * e
    e = e * e
    e = e * e
    return np.uint8(np.int32(e * e))


@jit
def _paint(od: Planes, m: Singles, light: Singles, channels: Bytes, out: Bytes) -> None:
    """Step 7 on a block of planes; m: minus the matrix / 16, light: ``_light``; channels is scratch."""
    r, g, b = od
    n = len(r)
    red, green, blue = channels[0][:n], channels[1][:n], channels[2][:n]
    m00, m01, m02 = m[0, 0], m[0, 1], m[0, 2]
    m10, m11, m12 = m[1, 0], m[1, 1], m[1, 2]
    m20, m21, m22 = m[2, 0], m[2, 1], m[2, 2]
    light_r, light_g, light_b = light[0], light[1], light[2]
    for i in range(n):
        x, y, z = r[i], g[i], b[i]
        red[i] = _byte(_fma(m00, x, _fma(m01, y, _fma(m02, z, light_r))))
        green[i] = _byte(_fma(m10, x, _fma(m11, y, _fma(m12, z, light_g))))
        blue[i] = _byte(_fma(m20, x, _fma(m21, y, _fma(m22, z, light_b))))
    _join(red, green, blue, out)


@jit
def _exponents(matrix: Floats) -> Singles:
    return (matrix * (-1.0 / 16.0)).astype(np.float32)


@jit
def _fit_batch(
    tiles: Bytes,
    constant: Any,
    rule: Rule,
    alpha: float,
    percentile: float,
    limits: tuple[float, ...],
    he: Floats,
    max_c: Floats,
    tissue: npt.NDArray[np.int64],
    fitted: npt.NDArray[np.bool_],
    target: tuple[Floats, Floats],
    light: Singles,
    out: Bytes | None,
) -> None:
    """Steps 1 to 6 on each tile, and with ``out`` step 7 too, from the planes that are at hand."""
    n = tiles.shape[1] // 3
    od = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    kept = np.empty((2, n + RUN), np.float32)  # more than n: keys are written before they are counted
    keys, samples = np.empty((2, BLOCK), np.float32), np.empty((3, BLOCK), np.float32)
    channels, chosen = np.empty((3, BLOCK), np.uint8), np.empty(3 * BLOCK, np.uint8)
    step = (n // SAMPLE) | 1  # odd, so as not to walk in time with rows or with JPEG's blocks
    size = (n + step - 1) // step
    sample = samples[0][:size], samples[1][:size], samples[2][:size]
    for t in range(len(tiles)):
        pixels = tiles[t]
        moments = _measure(pixels, constant, rule, channels, od)
        tissue[t] = moments[0]
        for i in range(size):
            for k in range(3):
                chosen[3 * i + k] = pixels[3 * i * step + k]
        _densities(chosen, constant, channels, sample)
        fitted[t] = _fit(od, sample, moments, rule, alpha, percentile, limits, keys, kept, he[t], max_c[t])
        if out is not None:
            if fitted[t]:
                m = _exponents(_matrix(he[t], max_c[t], target[0], target[1]))
                for start in range(0, n, BLOCK):
                    _paint(_part(od, start, start + BLOCK), m, light, channels, out[t][3 * start :])
            else:
                out[t] = pixels


@jit
def _apply_batch(
    tiles: Bytes,
    matrices: Floats,
    identity: npt.NDArray[np.bool_],
    constant: Any,
    lights: Singles,
    out: Bytes,
) -> None:
    n = tiles.shape[1] // 3
    planes, channels = np.empty((3, BLOCK), np.float32), np.empty((3, BLOCK), np.uint8)
    for t in range(len(tiles)):
        if identity[t]:
            out[t] = tiles[t]
            continue
        m = _exponents(matrices[t][:, :3])
        for start in range(0, n, BLOCK):
            block = _part((planes[0], planes[1], planes[2]), 0, min(BLOCK, n - start))
            _densities(tiles[t][3 * start :], constant, channels, block)
            _paint(block, m, lights[t], channels, out[t][3 * start :])


def _log_constant(io: float) -> np.float32:
    return Single(math.log(io) + LN_0)


def _light(io: float, shifts: Floats) -> Singles:
    """Of the light that shifts (..., 3) in OD leave in each channel, the logarithm / 16."""
    # A hair more, 1e-3 grey levels: an OD of 0 is exactly I0, and must not be truncated to the level below.
    return ((math.log(io) - shifts) / 16 + 2.5e-7).astype(np.float32)


def density_table(io: float) -> Singles:
    """(256,) optical density of each grey level, as the kernels compute it."""
    table = np.empty(256, np.float32)
    _density(np.arange(256, dtype=np.uint8), _log_constant(io), table)
    return table


@lru_cache
def tissue_threshold(beta: float, io: float) -> np.float32:
    """The table's entry that is tissue just so, compared exactly where beta itself would be rounded."""
    levels = int((optical_density(np.arange(256), io) >= beta).sum())  # OD falls with the grey level
    return density_table(io)[levels - 1] if levels else Single(np.inf)


def _fit_all(
    tiles: Bytes,
    keep_any: bool,
    alpha: float,
    beta: float,
    io: float,
    threads: int | None,
    target: tuple[Floats, Floats],
    out: Bytes | None,
) -> Fits:
    n = len(tiles)
    he, max_c = np.zeros((n, 3, 2)), np.zeros((n, 2))
    tissue, fitted = np.empty(n, np.int64), np.empty(n, np.bool_)
    rule, limits = (tissue_threshold(beta, io), keep_any), tuple(LIMITS)
    constant, light = _log_constant(io), _light(io, np.zeros(3))

    def work(part: slice) -> None:
        found = he[part], max_c[part], tissue[part], fitted[part]
        painted = None if out is None else out[part]
        percentile = CONCENTRATION_PERCENTILE
        _fit_batch(tiles[part], constant, rule, alpha, percentile, limits, *found, target, light, painted)

    share_out(work, n, tiles.shape[1] // 3, threads)
    return he, max_c, tissue, fitted


def _flat(tiles: Bytes) -> Bytes:
    return np.ascontiguousarray(tiles).reshape(len(tiles), math.prod(tiles.shape[1:]))


NO_TARGET = np.zeros((3, 2)), np.zeros(2)


def fit(
    tiles: Bytes,
    keep_any: bool = False,
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    threads: int | None = 1,
) -> Fits:
    """Steps 1 to 6 on tiles of one size (N, H, W, 3), on as many threads, None for one per core.

    Returns:
        he (N, 3, 2), max_c (N, 2), tissue_pixels (N,), fitted (N,): see ``macenko_reference.Fit``.
    """
    return _fit_all(_flat(tiles), keep_any, alpha, beta, io, threads, NO_TARGET, None)


def apply(tiles: Bytes, matrices: Floats, io: float = IO, threads: int | None = 1) -> Bytes:
    """Step 7 on tiles (N, H, W, 3) with a matrix (3, 3) or (3, 4) each; an exact identity copies its tile.

    ``threads`` as in ``fit``.
    """
    flat = _flat(tiles)
    out = np.empty_like(flat)
    matrices = np.ascontiguousarray(with_shift(matrices), np.float64)
    identity = (matrices == np.eye(3, 4)).all(axis=(1, 2))
    constant, lights = _log_constant(io), _light(io, matrices[:, :, 3])

    def work(part: slice) -> None:
        _apply_batch(flat[part], matrices[part], identity[part], constant, lights[part], out[part])

    share_out(work, len(flat), flat.shape[1] // 3, threads)
    return out.reshape(tiles.shape)


def normalize(
    tiles: Bytes,
    target_he: Floats,
    target_max_c: Floats,
    keep_any: bool = False,
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
    threads: int | None = 1,
) -> tuple[Bytes, Fits]:
    """``fit``, the matrices to a target (3, 2), (2,), and ``apply``, to the bit, but OD is taken once.

    Returns:
        The tiles, those that were not fitted unchanged; and what ``fit`` returns.
    """
    flat = _flat(tiles)
    out = np.empty_like(flat)
    target = np.ascontiguousarray(target_he, np.float64), np.ascontiguousarray(target_max_c, np.float64)
    fits = _fit_all(flat, keep_any, alpha, beta, io, threads, target, out)
    return out.reshape(tiles.shape), fits

"""Where things lie on a drawn slide: tissue outline, compartments, and the randomness behind both.

Nothing here has state. Every random number is a hash of (seed, what, cell), so any pixel can be asked
for at any time, in any order and from any thread, and a slide of any size needs no more memory than
the part being drawn.

Lengths are in reference pixels of 0.5 um, whatever the slide's resolution.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]
_Function = TypeVar("_Function", bound=Callable[..., object])

CLASSES = ("stroma", "gland", "tumour", "lymphocytes", "fat", "necrosis")
STROMA, GLAND, TUMOUR, LYMPHOCYTES, FAT, NECROSIS = range(6)
# Share of the regions that each class gets: fat is kept rare because tissue finders rightly drop it.
SHARES = (0.26, 0.24, 0.20, 0.14, 0.06, 0.10)
# Spacing of the regions: about 0.8 mm, six tiles of 256 px at 0.5 MPP; on small slides a quarter of the side.
REGION, REGION_SHARE, REGION_MIN = 1600.0, 0.25, 300.0
OUTSIDE = -1
_OFFSET, _STRIDE = 64, 65536  # packs a region's cell (i, j) >= -64 into one integer

_MIX_1, _MIX_2, _STEP = (
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
    np.uint64(0x9E3779B97F4A7C15),
)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)

NOISE_SIDE = 512
_NOISE_PER_FEATURE = 4.0  # samples per blob of the noise table


class Scene(NamedTuple):
    """All that a kernel needs to know about one slide."""

    seed: np.uint64
    noise: npt.NDArray[np.float32]  # (NOISE_SIDE, NOISE_SIDE) periodic, mean 0, variance 1
    size: float  # side of the slide
    region: float  # spacing of the regions
    pieces: Array  # (N, 6): centre x, y; radii; cos, sin of the rotation
    level: float  # tissue is where the outline field exceeds this
    shares: Array  # (classes,) cumulative
    phase: float


def jit(function: _Function) -> _Function:
    """Compiled, cached on disk, without the GIL; no fast-math: pixels are the same for every chunking."""
    compiled: _Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return compiled


def noise_table(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The smooth noise behind every texture of a slide."""
    white: Array = rng.standard_normal((NOISE_SIDE, NOISE_SIDE))
    smooth: Array = ndimage.gaussian_filter(white, _NOISE_PER_FEATURE / 2.5, mode="wrap")
    table: npt.NDArray[np.float32] = (smooth / smooth.std()).astype(np.float32)
    return table


@jit
def mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser: every bit of the input changes half of the output."""
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@jit
def cell_hash(seed: np.uint64, kind: int, i: int, j: int) -> np.uint64:
    return mix(mix(mix(seed + np.uint64(kind) * _STEP) + np.uint64(i) * _STEP) + np.uint64(j) * _STEP)


@jit
def unit(state: np.uint64, k: int) -> float:
    """The k-th random number in [0, 1) of a cell."""
    value: float = (mix(state + np.uint64(k + 1) * _STEP) >> _S11) * 2.0**-53
    return value


@jit
def noise(table: npt.NDArray[np.float32], u: float, v: float) -> float:
    """Smooth noise, mean 0, variance 1, with blobs one unit wide; repeats every 128 units."""
    u *= 4.0
    v *= 4.0
    fi, fj = math.floor(u), math.floor(v)
    a, b = np.float32(u - fi), np.float32(v - fj)
    i, j = fi & 511, fj & 511
    i1, j1 = (i + 1) & 511, (j + 1) & 511
    top = table[j, i] + a * (table[j, i1] - table[j, i])
    low = table[j1, i] + a * (table[j1, i1] - table[j1, i])
    value: float = top + b * (low - top)
    return value


@jit
def outline(scene: Scene, x: float, y: float) -> float:
    """Smooth field that is high inside the pieces of tissue: blobs, with noise at five scales."""
    best = -1e9
    for n in range(scene.pieces.shape[0]):
        cx, cy, rx, ry, co, si = scene.pieces[n]
        dx, dy = x - cx, y - cy
        best = max(best, 1.0 - math.hypot((dx * co + dy * si) / rx, (dy * co - dx * si) / ry))
    s, t = scene.size, scene.noise
    best += 0.16 * noise(t, x / (0.20 * s) + 3.1, y / (0.20 * s) + 17.7)
    best += 0.07 * noise(t, x / (0.06 * s) + 41.3, y / (0.06 * s) + 5.9)
    # Tissue is mounted on a slide, not cut by its border.
    best -= 40.0 * max(0.0, 0.16 - min(min(x, y), min(s - x, s - y)) / s) ** 2
    # The finest scales are a matter of micrometres, so their share shrinks as the slide grows.
    best += (90.0 * noise(t, x / 170.0, y / 170.0) + 26.0 * noise(t, x / 41.0, y / 41.0)) / s
    return best + 9.0 * noise(t, x / 11.0, y / 11.0) / s


@jit
def locate(scene: Scene, x: float, y: float) -> int:
    """The region that holds a point, as a packed cell, or OUTSIDE for background, holes and tears."""
    if outline(scene, x, y) < scene.level:
        return OUTSIDE
    t, g = scene.noise, scene.region
    hole = noise(t, x / (0.4 * g) + 77.7, y / (0.4 * g) + 9.3)
    if hole + 0.12 * noise(t, x / 110.0, y / 110.0) + 0.04 * noise(t, x / 23.0, y / 23.0) > 2.35:
        return OUTSIDE  # a hole
    u = (
        x / g
        + 0.16 * noise(t, x / (0.7 * g), y / (0.7 * g) + 50.0)
        + 0.03 * noise(t, x / 90.0, y / 90.0 + 20.0)
    )
    v = (
        y / g
        + 0.16 * noise(t, x / (0.7 * g) + 30.0, y / (0.7 * g))
        + 0.03 * noise(t, x / 90.0 + 20.0, y / 90.0)
    )
    ci, cj = math.floor(u), math.floor(v)
    nearest, found = 1e9, OUTSIDE
    for j in range(cj - 1, cj + 2):
        for i in range(ci - 1, ci + 2):
            state = cell_hash(scene.seed, 1, i, j)
            du = i + 0.15 + 0.7 * unit(state, 0) - u
            dv = j + 0.15 + 0.7 * unit(state, 1) - v
            distance = du * du + dv * dv
            if distance < nearest:
                nearest, found = distance, (i + _OFFSET) * _STRIDE + j + _OFFSET
    return found


@jit
def class_of(scene: Scene, key: int) -> int:
    """Class of a region. A plastic-number sequence, not a hash: neighbours differ, shares hold early."""
    i, j = key // _STRIDE, key % _STRIDE
    u = i * 0.7548776662466927 + j * 0.5698402909980532 + scene.phase
    u -= math.floor(u)
    for k in range(scene.shares.shape[0]):
        if u < scene.shares[k]:
            return k
    return 0


@jit
def class_map(scene: Scene, step: float, out: npt.NDArray[np.int8]) -> None:
    """Class at the centres of ``step`` wide squares; OUTSIDE where there is no tissue."""
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            key = locate(scene, (i + 0.5) * step, (j + 0.5) * step)
            out[j, i] = OUTSIDE if key == OUTSIDE else class_of(scene, key)


@jit
def _outlines(scene: Scene, step: float, out: Array) -> None:
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i] = outline(scene, (i + 0.5) * step, (j + 0.5) * step)


def make_scene(seed: int, slide: int, size: float) -> Scene:
    """The layout of one slide of ``size`` reference pixels: 1-3 pieces covering 42-58 % of it."""
    rng = np.random.Generator(np.random.Philox(key=[seed, slide]))
    count = int(rng.integers(1, 4))
    centres = {1: [(0.5, 0.5)], 2: [(0.29, 0.4), (0.71, 0.6)], 3: [(0.3, 0.3), (0.72, 0.4), (0.45, 0.75)]}[
        count
    ]
    pieces = np.empty((count, 6))
    for n, (cx, cy) in enumerate(centres):
        radius = {1: 0.42, 2: 0.3, 3: 0.25}[count] * rng.uniform(0.85, 1.1)
        squash, angle = rng.uniform(0.75, 1.2), rng.uniform(0, math.pi)
        shift = rng.uniform(-0.04, 0.04, 2)
        pieces[n] = (
            size * (cx + shift[0]),
            size * (cy + shift[1]),
            size * radius * squash,
            size * radius / squash,
            math.cos(angle),
            math.sin(angle),
        )
    scene = Scene(
        seed=np.uint64(rng.integers(0, 2**63)),
        noise=noise_table(rng),
        size=float(size),
        region=max(REGION_MIN, min(REGION, REGION_SHARE * size)),
        pieces=pieces,
        level=0.0,
        shares=np.cumsum(SHARES),
        phase=float(rng.uniform()),
    )
    # The level that gives the wanted cover, from a coarse sample of the field.
    field = np.empty((96, 96))
    _outlines(scene, size / 96, field)
    return scene._replace(level=float(np.quantile(field, 1.0 - rng.uniform(0.42, 0.58))))

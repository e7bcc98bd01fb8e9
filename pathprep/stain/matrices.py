"""Everything that is done to stain as one 3x3 matrix per tile, in optical density, and a shift for jitter.

    normalise        T diag(maxC_ref / maxC) pinv(HE)        T: the target's vectors
    jitter           HE' diag(g) pinv(HE) + n n^T, HE' s     HE': turned, g: gains, n: HE's normal, s: shifts
    both             T' diag(g maxC_ref / maxC) pinv(HE), T' s
    jitter as HED    S diag(g) S^-1, S s                     S: fixed vectors of three stains

Normalising drops what lies outside the plane of the two stains, as Macenko's method does; jitter keeps
it, so without a change it is the identity. HED jitter (Tellez et al. 2018, IEEE TMI 37; 2019, MedIA 58; and
Midnight) takes each concentration c of the three fixed stains of Ruifrok and Johnston (2001) to g c + s.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.stain.arrays import Array, namespace, returner, stream_of
from pathprep.stain.fits import UNFITTED, StainFit
from pathprep.stain.target import Target

Floats = npt.NDArray[np.float64]

# Optical density (RGB, rows) of haematoxylin, eosin and DAB: Ruifrok and Johnston 2001, table 1
RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

NUMBERS = 8  # that the jitter of a pair of stains takes

Draws = np.random.Generator | Floats | None


@dataclass(frozen=True)
class Jitter:
    """How far stain is changed at random, as augmentation.

    Attributes:
        concentration: the amount of each stain is multiplied by 1 + u, u uniform in +-concentration.
        angle: degrees; each stain's vector is turned in a random direction, at most so far.
        shift: optical density (natural logarithm); an amount of each stain, uniform in +-shift, is added to
            every pixel, glass too.

    Raises:
        ValueError: concentration or shift outside 0 to 1 (a stain cannot turn negative), or angle outside
            0 to 45.
    """

    concentration: float = 0.05
    angle: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.concentration <= 1:
            raise ValueError(f"concentration is {self.concentration}; expected a share, 0 to 1")
        if not 0 <= self.angle <= 45:
            raise ValueError(f"angle is {self.angle}; expected degrees, 0 to 45")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift is {self.shift}; expected optical density, 0 to 1")


def matrix(
    fits: StainFit, target: Target | None = None, jitter: Jitter | None = None, rng: Draws = None
) -> Array:
    """Matrices from each tile's optical density to that of the stains it shall have.

    Args:
        fits: of N tiles. UNFITTED ones get the identity.
        target: stains to normalise to; None leaves each tile its own.
        jitter: random change of the stains on top.
        rng: where jitter's numbers come from: a generator, or the numbers themselves, (N, NUMBERS) in -1 to
            1, such as hashes of the tiles' places in a run: gains, directions of the vectors, shifts.

    Returns:
        (N, 3, 3) float64, in the library of the fits; with jitter (N, 3, 4), the shift last.

    Raises:
        ValueError: jitter without rng, or rng without jitter.
    """
    if (jitter is None) != (rng is None):
        raise ValueError("jitter and rng go together: give both or neither")
    given = fits.he
    with stream_of(given):
        return returner(given)(_matrix(fits.native(), target, jitter, rng))


def _matrix(fits: StainFit, target: Target | None, jitter: Jitter | None, rng: Draws) -> Array:
    xp = namespace(fits.he)
    identity = xp.eye(3)
    use, shift = (fits.status != UNFITTED)[:, None, None], None
    # any fit will do where there is none: its matrix is not used
    he = xp.where(use, fits.he, identity[:, :2])
    max_c = xp.where(use[:, 0], fits.max_c, 1.0)
    if target is None:
        to, gain = he, xp.ones_like(max_c)
    else:
        to = xp.broadcast_to(xp.asarray(target.he), he.shape)
        gain = xp.asarray(target.max_c) / max_c
    if jitter is not None and rng is not None:
        numbers = xp.asarray(_numbers(rng, (len(fits), NUMBERS)))
        gain = gain * (1 + jitter.concentration * numbers[:, :2])
        to = _turned(xp, to, jitter.angle, numbers[:, 2:6])
        shift = (to * (jitter.shift * numbers[:, None, 6:])).sum(axis=2, keepdims=True)
    to, unmix = to * gain[:, None, :], _unmixing(xp, he)
    # written out, not @: the order of operations is then that of the kernels that fuse all steps
    found = to[:, :, :1] * unmix[:, None, 0] + to[:, :, 1:] * unmix[:, None, 1]
    if target is None:
        normal = _normal(xp, he)
        found = found + normal[:, :, None] * normal[:, None, :]
    found = xp.where(use, found, identity)
    return found if shift is None else xp.concatenate([found, xp.where(use, shift, 0.0)], axis=2)


def hed(count: int, jitter: Jitter, rng: Draws) -> Floats:
    """(count, 3, 4) matrices of HED jitter, the shift last, for tiles without fits.

    Args:
        jitter: of each of the three fixed stains; their vectors are not turned.
        rng: a generator, or the numbers themselves, (count, 6) in -1 to 1: gains, shifts.

    Raises:
        ValueError: an angle, or no rng.
    """
    if rng is None:
        raise ValueError("jitter needs an rng")
    if jitter.angle:
        raise ValueError("HED jitter turns no vectors: leave angle out")
    numbers = _numbers(rng, (count, 6))
    gain, shift = 1 + jitter.concentration * numbers[:, :3], jitter.shift * numbers[:, 3:]
    stains = (RUIFROK / np.linalg.norm(RUIFROK, axis=1, keepdims=True)).T
    found = (stains * gain[:, None, :]) @ np.linalg.inv(stains)
    return np.concatenate([found, (shift @ stains.T)[:, :, None]], axis=2)


def _numbers(rng: np.random.Generator | Floats, shape: tuple[int, int]) -> Floats:
    if isinstance(rng, np.random.Generator):
        return rng.uniform(-1, 1, shape)
    if rng.shape != shape:
        raise ValueError(f"expected {shape} numbers in -1 to 1, got {rng.shape}")
    return rng


def _unmixing(xp: Any, he: Array) -> Array:
    """pinv of (N, 3, 2) in closed form: (HE^T HE)^-1 HE^T, (N, 2, 3)."""
    h, e = he[:, :, 0], he[:, :, 1]
    hh, across, ee = (h * h).sum(1), (h * e).sum(1), (e * e).sum(1)
    found = xp.stack([ee[:, None] * h - across[:, None] * e, hh[:, None] * e - across[:, None] * h], axis=1)
    return found / (hh * ee - across * across)[:, None, None]


def _normal(xp: Any, he: Array) -> Array:
    """(N, 3) unit normals of the planes of the two stains."""
    normal = xp.cross(he[:, :, 0], he[:, :, 1])
    return normal / xp.linalg.norm(normal, axis=1)[:, None]


def _turned(xp: Any, he: Array, angle: float, numbers: Array) -> Array:
    """Stain vectors turned by up to ``angle`` degrees; numbers (N, 4): two directions of each vector."""
    normal = _normal(xp, he)
    reach = math.tan(math.radians(angle)) / math.sqrt(2)  # a corner of the square of numbers is the farthest
    columns = []
    for k in range(2):
        vector = he[:, :, k]
        beside = xp.cross(normal, vector)
        moved = vector + reach * (numbers[:, [2 * k]] * beside + numbers[:, [2 * k + 1]] * normal)
        length = xp.linalg.norm(vector, axis=1) / xp.linalg.norm(moved, axis=1)
        columns.append(moved * length[:, None])
    return xp.stack(columns, axis=2)

"""Macenko stain normalisation in float64 numpy: the definition that every fast version is held to.

    1.  OD = -ln((I + 1) / I0)                         per channel
    2.  tissue: pixels with all three channels OD >= beta   (keep "any": with any of them)
    3.  covariance of the tissue's OD (ddof 1); the plane of its two largest eigenvalues
    4.  phi = atan2(along the largest, along the second); its percentiles alpha and 100 - alpha
    5.  the two extreme directions, back in RGB: stain vectors; haematoxylin has the larger red part
    6.  HE . C = OD by least squares for all pixels; maxC = 99th percentile of each row of C
    7.  C' = C * maxC_ref / maxC;  I' = I0 exp(-HE_ref . C'), clipped to [0, 255], truncated

Source: Macenko et al., ISBI 2009, as the field runs it (mitkovetta, schaugf/HEnorm_python, torchstain).
Two things are ours. The second eigenvector points to the side of the mean tissue OD, so the cut of atan2
lies behind the data; elsewhere it falls where LAPACK's choice of sign puts it. And a fit that is not a pair
of stains is refused (``Limits``) where others raise or return garbage.

Steps 6 and 7 are one matrix in optical density: OD' = M . OD, M = HE_ref diag(maxC_ref / maxC) pinv(HE).
Stain jitter adds a shift: OD' = M . OD + b, a matrix (3, 4) with b as its last column.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

IO = 240.0  # transmitted light of an empty field, grey levels
ALPHA = 1.0  # percent of tissue pixels beyond each stain vector
BETA = 0.15  # optical density below which a pixel is glass
CONCENTRATION_PERCENTILE = 99.0
MAX_PIXELS = 1 << 24  # of a tile, 4096 x 4096: what the integer sums of the fast versions are made for


class Limits(NamedTuple):
    """What a plausible fit keeps to: set by looking at 4,200 real tiles of 224 and 256 px (TCGA, CMU,
    LC25000), wide enough for all of them that hold enough tissue."""

    # maxC is the 99th percentile over all pixels: with less than 1 % tissue it measures glass. Below that
    # the eosin vectors of a slide's tiles scatter by 20 to 40 degrees, above it by 3 to 7.
    tissue_share: float = 0.01
    # One pixel must lie beyond the 1 % percentile for it to be more than the extreme of a handful.
    tissue_pixels: float = 100.0
    # Variance along the second axis of the plane: rounding to grey levels and JPEG noise on one flat
    # colour stay below 1e-4 (real tiles: 9e-4 and up) ...
    variance: float = 1e-4
    # ... and with a smaller share of the first axis' variance the plane is a line (real: 5e-3 and up).
    variance_ratio: float = 1e-3
    # Closer, the two are one stain: nuclei alone on glass come to 6.5 degrees, rounding and JPEG to 3 to 10.
    # Real H&E: 8.8 to 68 degrees on scanned slides (TCGA 9.3, CAMELYON17 8.8, CMU 26, AMi-Br 11, EBHI 14; one
    # tile of MoNuSAC 7.4), and 6.0 under the strongest of 60 drawn casts, where 6 of 3,549 tiles lie below
    # this. Wider than max_angle, they span the octant, as noise of all colours does.
    min_angle: float = 7.0
    max_angle: float = 75.0
    # A stain absorbs; a strongly negative part is light emitted (real: -0.17 and up).
    component: float = -0.25
    # Scaling to a target divides by maxC (real, with enough tissue: 0.25 to 5.6).
    max_c: float = 0.1


LIMITS = Limits()


class Fit(NamedTuple):
    """The stains of one tile.

    Attributes:
        he: (3, 2) unit columns, RGB optical density of haematoxylin and eosin; zeros if not fitted.
        max_c: (2,) 99th percentile of their concentrations over all pixels; zeros if not fitted.
        tissue_pixels: pixels that step 2 kept.
        fitted: whether they hold a plausible pair of stains.
    """

    he: Floats
    max_c: Floats
    tissue_pixels: int
    fitted: bool


def optical_density(tile: npt.NDArray[Any], io: float = IO) -> Floats:
    """Step 1: grey levels of any shape -> optical density of that shape, natural logarithm."""
    return -np.log((tile.astype(np.float64) + 1.0) / io)


def fit(tile: Bytes, keep_any: bool = False, alpha: float = ALPHA, beta: float = BETA, io: float = IO) -> Fit:
    """Steps 1 to 6 on one tile (H, W, 3). Never raises on what the pixels hold, never returns NaN."""
    od = optical_density(tile.reshape(-1, 3), io)
    kept = (od >= beta).any(axis=1) if keep_any else (od >= beta).all(axis=1)
    tissue = od[kept]
    refused = Fit(np.zeros((3, 2)), np.zeros(2), len(tissue), False)
    if len(tissue) < max(LIMITS.tissue_pixels, LIMITS.tissue_share * len(od)):
        return refused

    variances, axes = np.linalg.eigh(np.cov(tissue.T))  # 3
    if variances[1] < max(LIMITS.variance, LIMITS.variance_ratio * variances[2]):
        return refused
    plane = axes[:, 1:]
    if tissue.mean(axis=0) @ plane[:, 0] < 0:
        plane = -plane

    second, largest = (tissue @ plane).T  # 4
    low, high = np.percentile(np.arctan2(largest, second), [alpha, 100 - alpha])
    he = plane @ np.array([[np.cos(low), np.cos(high)], [np.sin(low), np.sin(high)]])  # 5
    if he[0, 0] <= he[0, 1]:
        he = he[:, ::-1]
    angle = np.degrees(high - low)
    if not LIMITS.min_angle <= angle <= LIMITS.max_angle or he.min() < LIMITS.component:
        return refused

    max_c = np.percentile(unmixing(he) @ od.T, CONCENTRATION_PERCENTILE, axis=1)  # 6
    if max_c.min() < LIMITS.max_c:
        return refused
    return Fit(he, max_c, len(tissue), True)


def unmixing(he: Floats) -> Floats:
    """Step 6's least squares as a matrix: pinv(HE), (..., 3, 2) -> (..., 2, 3), C = pinv(HE) . OD."""
    return np.asarray(np.linalg.pinv(he), np.float64)


def matrix(he: Floats, max_c: Floats, target_he: Floats, target_max_c: Floats) -> Floats:
    """Steps 6 and 7 as one (3, 3) matrix from a tile's optical density to the target's."""
    return target_he @ np.diag(target_max_c / max_c) @ unmixing(he)


def with_shift(matrices: Any) -> Any:
    """(..., 3, 3) -> (..., 3, 4) with a shift of 0; (..., 3, 4) as it is. numpy or CuPy."""
    if matrices.shape[-1] == 4:
        return matrices
    return np.concatenate([matrices, np.zeros_like(matrices[..., :1])], axis=-1)


def apply(tile: Bytes, matrix: Floats, io: float = IO) -> Bytes:
    """Step 7: optical density times a matrix (3, 3) or (3, 4), back to grey levels; the tile keeps its shape.

    An exact identity copies the tile: it stands for "leave it as it is", and the formula would
    brighten by the one level that step 1 adds.
    """
    matrix = with_shift(matrix)
    if np.array_equal(matrix, np.eye(3, 4)):
        return tile.copy()
    with np.errstate(over="ignore"):
        grey = io * np.exp(-optical_density(tile, io) @ matrix[:, :3].T - matrix[:, 3])
    return np.clip(grey, 0, 255).astype(np.uint8)

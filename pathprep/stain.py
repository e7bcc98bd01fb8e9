"""Macenko stain normalisation: the fit is metadata, applying it is one cheap pass.

``fit`` measures the stains of tiles; ``matrix`` turns a fit and a target into one 3x3 matrix in optical
density per tile; ``apply`` multiplies. A tile whose stains cannot be told (glass, one flat colour, too
little tissue) never raises and never passes silently: its status says so, and it is left as it is
unless ``fall_back`` gives it the slide's pooled fit.

    fits = fit(tiles)                               # status fitted or unfitted
    fits = fall_back(fits, pool(fits))              # unfitted -> slide_fit
    tiles = apply(tiles, matrix(fits, target))

The method, its constants and its limits: kernels/macenko_reference.py. Tiles are (N, H, W, 3) uint8, or a
sequence of (H, W, 3) arrays of differing sizes. Everything here may be called from many threads; results
do not depend on threads, batches or order.
"""

import enum
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from pathprep import atomic
from pathprep.errors import StainError
from pathprep.kernels import macenko_apply_cpu, macenko_cpu, macenko_reference
from pathprep.kernels.macenko_reference import ALPHA, BETA, IO

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Tiles = Bytes | Sequence[Bytes]

KEEP = ("all", "any")


class Status(enum.IntEnum):
    """Where a tile's fit comes from."""

    FITTED = 0  # the tile itself
    SLIDE_FIT = 1  # the slide's pooled fit: the tile has too little tissue, or its fit was implausible
    UNFITTED = 2  # nowhere: the tile is left as it is


@dataclass(frozen=True)
class StainFit:
    """The stains of N tiles.

    Attributes:
        he: (N, 3, 2) float64; unit columns, the optical density (RGB) of haematoxylin and of eosin.
        max_c: (N, 2) float64; 99th percentile of the two concentrations, positive.
        tissue_pixels: (N,) int64; pixels that the fit used.
        status: (N,) uint8 of ``Status``. Where UNFITTED, he and max_c are zeros.
    """

    he: Floats
    max_c: Floats
    tissue_pixels: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.status)


@dataclass(frozen=True, eq=False)
class Target:
    """The stains to normalise to.

    Attributes:
        he: (3, 2) float64, as in ``StainFit``.
        max_c: (2,) float64.
        name: for people; it plays no part in the result.
    """

    he: Floats
    max_c: Floats
    name: str

    @classmethod
    def default(cls) -> Self:
        """The reference that the field's implementations share (mitkovetta's, in torchstain too)."""
        he = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
        return cls(he, np.array([1.9705, 1.0308]), "reference")

    @classmethod
    def fit(cls, image: Bytes, name: str = "image") -> Self:
        """The stains of an image (H, W, 3) uint8.

        Raises:
            StainError: it holds no plausible pair of stains.
        """
        found = fit([image])
        if found.status[0] != Status.FITTED:
            raise StainError(
                f"{name}: no pair of stains in it ({found.tissue_pixels[0]} tissue pixels of "
                f"{image.shape[0] * image.shape[1]}); choose an H&E image that tissue fills"
            )
        return cls(found.he[0], found.max_c[0], name)

    def as_params(self) -> dict[str, Any]:
        """JSON-able values that determine the result, for the build id; the name is not among them."""
        return {"he": self.he.tolist(), "max_c": self.max_c.tolist()}

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        atomic.write_json(path, {"format": "pathprep-target", "name": self.name, **self.as_params()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            StainError: the file cannot be read, or does not hold a usable target.
        """
        try:
            value = json.loads(path.read_bytes())
            he = np.array(value["he"], np.float64)
            max_c = np.array(value["max_c"], np.float64)
            name = str(value["name"])
        except OSError as error:
            raise StainError(f"{path}: {error.strerror}; make one with `pathprep target IMAGE`") from None
        except (ValueError, KeyError, TypeError):
            raise StainError(
                f"{path}: not a stain target; expected JSON with name, he (3 x 2) and max_c (2)"
            ) from None
        if he.shape != (3, 2) or max_c.shape != (2,):
            raise StainError(f"{path}: he is {he.shape} and max_c {max_c.shape}; expected (3, 2) and (2,)")
        if not (np.isfinite(he).all() and np.isfinite(max_c).all() and (max_c > 0).all()):
            raise StainError(f"{path}: he must be finite and max_c positive; fit the target again")
        return cls(he, max_c, name)


def fit(
    tiles: Tiles,
    *,
    keep: str = "all",
    alpha: float = ALPHA,
    beta: float = BETA,
    io: float = IO,
) -> StainFit:
    """Fit the stains of each tile.

    Args:
        tiles: (N, H, W, 3) uint8 or a sequence of (H, W, 3).
        keep: a pixel is tissue if "all" of its channels have an optical density of at least ``beta``, or
            if "any" has (cuCIM's rule; it moves the eosin vector by tens of degrees).
        alpha: percent of tissue pixels beyond each stain vector, 0 to 50.
        beta: optical density, natural logarithm.
        io: transmitted light, grey levels.

    Raises:
        ValueError: an argument is outside its range, or tiles are not (H, W, 3) uint8.
    """
    if keep not in KEEP:
        raise ValueError(f"keep is {keep!r}; expected one of {KEEP}")
    if not 0 <= alpha < 50:
        raise ValueError(f"alpha is {alpha}; expected percent, 0 <= alpha < 50")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}; expected an optical density, finite and not negative")
    _check_io(io)
    parts = [macenko_cpu.fit(batch, keep == "any", alpha, beta, io) for batch in _batches(tiles)]
    he, max_c, tissue_pixels, fitted = (np.concatenate(column) for column in zip(*parts, strict=True))
    status = np.where(fitted, Status.FITTED, Status.UNFITTED).astype(np.uint8)
    return StainFit(he, max_c, tissue_pixels, status)


def pool(fits: StainFit) -> StainFit:
    """One fit (N = 1) for a slide from its tiles' fits, whatever their order.

    Component-wise medians over the FITTED tiles, the vectors scaled back to unit length: a few tiles of
    ink or folded tissue do not move it. ``tissue_pixels`` is the sum over those tiles. UNFITTED if there
    is none.
    """
    use = fits.status == Status.FITTED
    total = np.array([fits.tissue_pixels[use].sum()], np.int64)
    if not use.any():
        return StainFit(np.zeros((1, 3, 2)), np.zeros((1, 2)), total, np.array([Status.UNFITTED], np.uint8))
    he = np.median(fits.he[use], axis=0)
    he /= np.linalg.norm(he, axis=0)
    max_c = np.median(fits.max_c[use], axis=0)
    return StainFit(he[None], max_c[None], total, np.array([Status.FITTED], np.uint8))


def fall_back(fits: StainFit, pooled: StainFit) -> StainFit:
    """UNFITTED tiles take the slide's pooled fit (N = 1) and the status SLIDE_FIT.

    If there is no pooled fit either, they stay UNFITTED. ``tissue_pixels`` stays each tile's own.
    """
    if pooled.status[0] == Status.UNFITTED:
        return fits
    use = fits.status == Status.UNFITTED
    return StainFit(
        np.where(use[:, None, None], pooled.he, fits.he),
        np.where(use[:, None], pooled.max_c, fits.max_c),
        fits.tissue_pixels,
        np.where(use, Status.SLIDE_FIT, fits.status).astype(np.uint8),
    )


def matrix(fits: StainFit, target: Target) -> Floats:
    """(N, 3, 3) matrices from each tile's optical density to the target's; the identity if UNFITTED."""
    matrices = np.tile(np.eye(3), (len(fits), 1, 1))
    use = fits.status != Status.UNFITTED
    gain = target.max_c / fits.max_c[use]
    matrices[use] = (target.he * gain[:, None, :]) @ macenko_reference.unmixing(fits.he[use])
    return matrices


@overload
def apply(tiles: Bytes, matrix: Floats, *, io: float = ...) -> Bytes: ...
@overload
def apply(tiles: Sequence[Bytes], matrix: Floats, *, io: float = ...) -> list[Bytes]: ...
def apply(tiles: Tiles, matrix: Floats, *, io: float = IO) -> Bytes | list[Bytes]:
    """Multiply the optical density of each tile by its matrix (N, 3, 3).

    An exact identity copies its tile. An array gives an array, a sequence a list, of the same shapes.

    Raises:
        ValueError: not one finite matrix per tile, io outside 1 to 256, or tiles are not (H, W, 3) uint8.
    """
    if matrix.shape != (len(tiles), 3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"expected {len(tiles)} finite 3x3 matrices, one per tile, got {matrix.shape}")
    _check_io(io)
    if isinstance(tiles, np.ndarray):
        return macenko_apply_cpu.apply(_checked(tiles, 4), matrix, io)
    parts = zip(tiles, matrix, strict=True)
    return [macenko_apply_cpu.apply(_checked(tile, 3)[None], m[None], io)[0] for tile, m in parts]


@overload
def normalize(tiles: Bytes, fit: StainFit | None = ..., target: Target | None = ...) -> Bytes: ...
@overload
def normalize(
    tiles: Sequence[Bytes], fit: StainFit | None = ..., target: Target | None = ...
) -> list[Bytes]: ...
def normalize(tiles: Tiles, fit: StainFit | None = None, target: Target | None = None) -> Bytes | list[Bytes]:
    """Fit (unless fits are given), then apply the target's stains (the field's reference by default).

    UNFITTED tiles come back unchanged; ask ``fit`` first to know which they are.
    """
    fits = _fit(tiles) if fit is None else fit
    return apply(tiles, matrix(fits, Target.default() if target is None else target))


_fit = fit  # ``normalize`` has a parameter of that name


def _check_io(io: float) -> None:
    if not 1 <= io <= 256:
        raise ValueError(f"io is {io}; expected grey levels, 1 to 256")


def _batches(tiles: Tiles) -> list[Bytes]:
    if isinstance(tiles, np.ndarray):
        return [_checked(tiles, 4)]
    return [np.empty((0, 1, 1, 3), np.uint8), *(_checked(tile, 3)[None] for tile in tiles)]


def _checked(tiles: Bytes, dimensions: int) -> Bytes:
    if tiles.dtype != np.uint8 or tiles.ndim != dimensions or tiles.shape[-1] != 3 or 0 in tiles.shape[-3:]:
        shape = "(N, H, W, 3)" if dimensions == 4 else "(H, W, 3)"
        raise ValueError(f"expected tiles {shape} of uint8, got {tiles.shape} of {tiles.dtype}")
    return tiles
